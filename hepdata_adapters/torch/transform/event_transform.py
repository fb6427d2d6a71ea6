"""The whole transform as an ``nn.Module``: raw columns as tensors to all that a model sees.

It does what `hepdata_adapters.common.transform.pipeline` does, in operations that torch.export
takes, so that it can travel inside an exported graph. A graph cannot raise for a value, so the
events whose values a policy forbids are marked instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hepdata_adapters.common.inference.padded_inputs import LENGTH, input_names, padded_alike
from hepdata_adapters.common.transform.graph.backend import maker_of
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.image import ImageModule
from hepdata_adapters.torch.transform.preparation import EventPreparation
from hepdata_adapters.torch.transform.sets import SetModule
from hepdata_adapters.torch.transform.vector import EventVectors

_MODULES: dict[type, Callable[[Any], nn.Module]] = {
    SetTransform: SetModule, ImageTransform: ImageModule,
}  # fmt: skip


class TransformedEvents(NamedTuple):
    """The output for n events.

    arrays: by name as in `hepdata_adapters.common.transform.pipeline.Transformed`, with the same
    dtypes and shapes; `hepdata_adapters.common.transform.pipeline.chosen` takes those of a model.
    valid: ``(n,)`` bool, false where the reference transform raises, and where a length is one
    that its padded row cannot have. The arrays of such an event mean nothing.
    """

    arrays: dict[str, Tensor]
    valid: Tensor


class EventTransform(nn.Module):
    """Dense inputs by name (see `inference.padded_inputs`) to `TransformedEvents`.

    A flat branch is ``(n,)``, an array branch ``(n, k)``, a jagged one ``(n, m)`` for any m,
    beside its lengths ``(n,)`` int64. What stands behind an event's length is never looked at.
    Jagged branches may be padded to different widths, in an exported graph those that
    `hepdata_adapters.common.inference.padded_inputs.padded_alike` names may not.

    Raises ConfigError where two inputs would share a name, and for a ragged or sparse
    representation, which has no dense tensor.

    >>> import torch
    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> transform = EventTransform(Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),
    ...     FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2)))))
    >>> out = transform({"MET": torch.tensor([10.0, torch.nan]),
    ...                  "pt": torch.tensor([[3.0], [0.0]]), "pt_length": torch.tensor([1, 0])})
    >>> out.arrays["x"][0].tolist(), out.arrays["mask"][0].tolist(), out.valid.tolist()
    ([5.0, 3.0, 0.0], [True, True, False], [True, False])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.inputs = input_names(transform)
        self.lists = {branch.name for branch in transform.branches if branch.kind == "jagged"}
        self.alike = padded_alike(transform)
        needed = transform.preparation.restricted(transform.columns)
        # flat branches with none of these come prepared
        prepares = bool(needed.objects or needed.columns or needed.counts or self.lists)
        self.preparation = EventPreparation(needed, transform.columns) if prepares else None
        self.vector = None
        if transform.vector:
            jagged = [feature.branch for feature in transform.vector.jagged]
            self.vector = EventVectors(transform.vector, needed.same_length(jagged))
        self.names = tuple(transform.inputs)
        self.representations = nn.ModuleList(
            maker_of(name, made, _MODULES)(made) for name, made in transform.inputs.items()
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> TransformedEvents:
        """``inputs`` by name, all of n events."""
        columns: dict[str, Tensor | Padded] = {
            branch: Padded(inputs[name], inputs[name + LENGTH])
            if branch in self.lists
            else inputs[name]
            for branch, name in self.inputs.items()
        }
        if torch.compiler.is_exporting():
            for branch, first in self.alike.items():
                # a graph is shorter by two operations a branch where it need not fit widths
                torch._check(  # type: ignore[no-untyped-call]
                    _width(columns[branch]) == _width(columns[first])
                )
        arrays: dict[str, Tensor] = {}
        checks: list[Tensor] = []
        if self.preparation is not None:
            columns, valid = self.preparation(columns)
            checks.append(valid)
        if self.vector is not None:
            x, mask, lengths, valid = self.vector(columns)
            arrays |= {"x": x, "mask": mask, "lengths": lengths}
            checks.append(valid)
        for name, module in zip(self.names, self.representations, strict=True):
            found, valid = module(columns)
            arrays |= {name + suffix: values for suffix, values in found.items()}
            checks.append(valid)
        return TransformedEvents(arrays, reduce(torch.logical_and, checks))


def _width(column: Tensor | Padded) -> int:
    return column.values.shape[1] if isinstance(column, Padded) else 1
