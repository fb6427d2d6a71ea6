"""Elementary functions in float64 for torch, from operations that ONNX runtime has in float64.

It has no float64 tan, asin, acos, atan, sinh, cosh, asinh, acosh or atanh; its log2 and log10 hold
float32 constants, and its log1p and expm1 lose small numbers. These here are made of exp, log,
sin, cos, sqrt, tanh and where, and are good to about 1e-15 of the value. Identities: Abramowitz and
Stegun, Handbook of Mathematical Functions, chapter 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class TorchMathematics:
    """`hepdata_adapters.common.expressions.functions.Mathematics` on float64 tensors.

    ``abs``, ``where`` and ``mod`` also take int64.
    """

    abs, sqrt, exp, log = torch.abs, torch.sqrt, torch.exp, torch.log
    sin, cos, tanh = torch.sin, torch.cos, torch.tanh
    floor, ceil, round = torch.floor, torch.ceil, torch.round
    isnan, isfinite, where, pow = torch.isnan, torch.isfinite, torch.where, torch.pow
    logical_and, logical_or = torch.logical_and, torch.logical_or
    logical_not = torch.logical_not

    @staticmethod
    def number(value: float) -> Tensor:
        """A float64 constant; an ONNX graph would round a Python float to float32."""
        return torch.tensor(value, dtype=torch.float64)

    @staticmethod
    def sign(x: Tensor) -> Tensor:
        return torch.where(x != x, x, torch.sign(x))

    @staticmethod
    def mod(a: Tensor, b: Tensor) -> Tensor:
        """The remainder with the sign of ``b``; of whole numbers by 0 it is 0, as in numpy."""
        if a.dtype == torch.float64:
            return torch.remainder(a, b)
        none = b == 0
        return torch.where(none, 0, torch.remainder(a, torch.where(none, 1, b)))

    @classmethod
    def log2(cls, x: Tensor) -> Tensor:
        return torch.log(x) / cls.number(math.log(2))

    @classmethod
    def log10(cls, x: Tensor) -> Tensor:
        return torch.log(x) / cls.number(math.log(10))

    @staticmethod
    def log1p(x: Tensor) -> Tensor:
        """Kahan's: the error of ``1 + x`` cancels in ``log(u) / (u - 1)``."""
        u = x + 1.0
        return torch.where(
            u == 1.0, x, torch.where(u == math.inf, u, torch.log(u) * (x / (u - 1.0)))
        )

    @staticmethod
    def expm1(x: Tensor) -> Tensor:
        half = torch.tanh(x * 0.5)
        return torch.where(torch.abs(x) < 1.0, half * 2.0 / (1.0 - half), torch.exp(x) - 1.0)

    @staticmethod
    def sinh(x: Tensor) -> Tensor:
        half, root = torch.tanh(x * 0.5), torch.exp(x * 0.5)
        large = root * 0.5 * root - 0.5 / root / root
        return torch.where(torch.abs(x) < 1.0, half * 2.0 / (1.0 - half * half), large)

    @staticmethod
    def cosh(x: Tensor) -> Tensor:
        root = torch.exp(torch.abs(x) * 0.5)  # its square may overflow before half of it does
        return root * 0.5 * root + 0.5 / root / root

    @classmethod
    def asinh(cls, x: Tensor) -> Tensor:
        size = torch.abs(x)
        near = cls.log1p(size + size * size / (torch.sqrt(size * size + 1.0) + 1.0))
        far = torch.log(size) + cls.number(math.log(2))
        return cls._signed(torch.where(size > 1e8, far, near), x)

    @classmethod
    def acosh(cls, x: Tensor) -> Tensor:
        above = x - 1.0
        near = cls.log1p(above + torch.sqrt(above * (x + 1.0)))
        return torch.where(x > 1e8, torch.log(x) + cls.number(math.log(2)), near)

    @classmethod
    def atanh(cls, x: Tensor) -> Tensor:
        size = torch.abs(x)
        return cls._signed(cls.log1p(size * 2.0 / (1.0 - size)) * 0.5, x)

    @staticmethod
    def tan(x: Tensor) -> Tensor:
        return torch.sin(x) / torch.cos(x)

    @classmethod
    def atan(cls, x: Tensor) -> Tensor:
        """float32's, and one step of Newton's method in float64 with sine and cosine."""
        outside = torch.abs(x) > 1.0
        inner = torch.where(outside, 1.0 / x, x)
        rough = torch.atan(inner.to(torch.float32)).to(torch.float64)
        sine, cosine = torch.sin(rough), torch.cos(rough)
        angle = rough + (inner * cosine - sine) / (cosine + inner * sine)
        return torch.where(outside, cls._signed(cls.number(math.pi / 2), x) - angle, angle)

    @classmethod
    def asin(cls, x: Tensor) -> Tensor:
        return cls.atan(x / torch.sqrt((1.0 - x) * (x + 1.0)))

    @classmethod
    def acos(cls, x: Tensor) -> Tensor:
        return cls.atan(torch.sqrt((1.0 - x) / (x + 1.0))) * 2.0

    @classmethod
    def atan2(cls, y: Tensor, x: Tensor) -> Tensor:
        """The angle of (x, y), with C's rules for signed zeros and infinities."""
        both = (torch.abs(x) == math.inf) & (torch.abs(y) == math.inf)
        still = (x == 0.0) & (y == 0.0)
        ratio = torch.where(both, cls.number(1.0), torch.where(still, y * 0.0, torch.abs(y / x)))
        first = torch.abs(cls.atan(ratio))
        # 1 / -0.0 is how a graph sees the sign of zero
        behind = (x < 0.0) | ((x == 0.0) & (1.0 / x < 0.0))
        angle = torch.where(behind, cls.number(math.pi) - first, first)
        below = (y < 0.0) | ((y == 0.0) & (1.0 / y < 0.0))
        angle = torch.where(below, -angle, angle)
        return torch.where((x != x) | (y != y), x + y, angle)

    @staticmethod
    def _signed(size: Tensor, like: Tensor) -> Tensor:
        """``size`` with the sign of ``like``, and 0 as it is."""
        return torch.where(like < 0.0, -size, torch.where(like == 0.0, like, size))
