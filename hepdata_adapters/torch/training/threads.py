"""How many threads compute a training step: as many as have enough to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode

from hepdata_adapters.common.core.threads import default_threads
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.torch.data.convert import as_tensors

WORK = 2.5e8  # of a forward pass, floating-point operations that are worth a thread
ROWS = 8  # events with which the work is counted
_NAMED = "OMP_NUM_THREADS", "MKL_NUM_THREADS"


@contextmanager
def step_threads(count: int) -> Iterator[None]:
    """Compute with so many threads, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(
    asked: int | Literal["auto"], net: nn.Module, transform: Transform, rows: int, ranks: int = 1
) -> int:
    """How many threads of this process compute a step of ``rows`` events.

    What the config asks for; else what the user has chosen (``OMP_NUM_THREADS``,
    ``torch.set_num_threads``); else one for each `WORK` operations of a forward pass, at least
    one, at most torch's own number shared out to the ranks of this machine. The choice depends on
    the network and the batch size, not on how long anything takes: so do the last digits.

    >>> threads_for(3, nn.Identity(), None, rows=1)
    3
    """
    present = torch.get_num_threads()
    if asked != "auto":
        return asked
    if chosen_by_user(present):
        return present
    most = max(1, present // ranks)
    return most if most == 1 else min(most, useful_threads(net, transform, rows))


def useful_threads(net: nn.Module, transform: Transform, rows: int) -> int:
    """How many threads have enough to do in a step of ``rows`` events, on any machine."""
    return max(1, int(rows * work(net, transform) / WORK))


def chosen_by_user(present: int) -> bool:
    """Whether the number of threads is not torch's own: one for each core, or hyperthread."""
    cores = default_threads()
    return any(os.environ.get(name) for name in _NAMED) or present not in (cores, cores // 2)


def work(net: nn.Module, transform: Transform) -> float:
    """Floating-point operations of the forward pass of an event, of matrices and convolutions.

    Tried on a few events of zeros in eval mode, which leaves the network and the random numbers
    as they are. A network that cannot take such events counts twice its weights.
    """
    if any(is_lazy(weights) for weights in net.parameters()):
        return 0.0
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.no_grad(),
            FlopCounterMode(display=False) as n,
        ):
            net(as_tensors(transform.zeros(ROWS)))
        return float(n.get_total_flops()) / ROWS
    except Exception:  # of the user's network; what is wrong with it shows in its first step
        return 2.0 * sum(weights.numel() for weights in net.parameters())
    finally:
        for module, training in modes:
            module.training = training
