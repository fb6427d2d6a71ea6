"""Objects selected and sorted, columns derived: `Preparation` in tensor operations.

It does what `hepdata_adapters.common.files.preparation` does, for any number of events and
any padded width, so that it can travel inside an exported graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from hepdata_adapters.common.files.preparation import Preparation
from hepdata_adapters.common.files.shared_counts import SharedCount
from hepdata_adapters.common.transform.graph.selection import prepared
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.objects import TorchTensors, distinct, none_of, padded

Columns = dict[str, Tensor | Padded]


class EventPreparation(nn.Module):
    """Raw columns of n events to prepared ones.

    >>> from hepdata_adapters.common.files.preparation import (
    ...     DerivedColumn, ObjectGroup, RawBranch)
    >>> module = EventPreparation(Preparation(
    ...     branches=(RawBranch(name="pt", kind="jagged", dtype="float32"),),
    ...     objects=(ObjectGroup(name="Jet", members=("pt",), sort_by="pt"),),
    ...     columns=(DerivedColumn(name="HT", expression="sum(pt)"),)), ["pt", "HT"])
    >>> columns, valid = module({"pt": Padded(torch.tensor([[20.0, 30.0]]), torch.tensor([2]))})
    >>> columns["pt"].values.tolist(), columns["HT"].tolist(), valid.tolist()
    ([[30.0, 20.0]], [50.0], [True])
    """

    def __init__(self, preparation: Preparation, names: Sequence[str]) -> None:
        super().__init__()
        self.preparation = preparation.restricted(names)
        self.names = tuple(names)
        self.groups = self.preparation.groups_of(names)
        shared = {name for count in self.preparation.counts for name in count.lists}
        alone = [b.name for b in self.preparation.branches if b.kind == "jagged"]
        self.shared = (
            *self.preparation.counts,
            *(SharedCount(lists=(name,)) for name in alone if name not in shared),
        )

    def forward(self, raw: Mapping[str, Tensor | Padded]) -> tuple[Columns, Tensor]:
        """The prepared columns by name, and ``(n,)`` bool.

        False where numpy's raises, and for a length that its padded row cannot have; what stands
        for such an event means nothing. Members of a group of an unsigned dtype come out wider:
        uint64 as float64, others as int64.
        """
        first = next(iter(raw.values()))
        events = first.lengths if isinstance(first, Padded) else first
        backend = TorchTensors()
        backend.require(torch.ones(events.shape[0], dtype=torch.bool, device=events.device))
        columns: Columns = {b.name: raw[b.name] for b in self.preparation.branches}
        for check in _agreed(columns, self.shared):
            backend.require(check)
        made = prepared(backend, columns, self.preparation, self.groups, self.names)
        return made, backend.valid


def _agreed(columns: Columns, shared: Sequence[SharedCount]) -> Iterator[Tensor]:
    """Give all lists lengths that their rows can have, one tensor to those that share a count.

    And say, ``(n,)`` bool each, where they were those and agreed with each other and the counts.
    """
    given: list[Tensor] = []
    possible: list[Tensor] = []
    others: list[Tensor] = []
    owners: list[int] = []
    for count in shared:
        lists = {name: padded(columns, name) for name in count.lists}
        counts = [_flat(columns, name) for name in count.counts]
        lengths = next(iter(lists.values())).lengths if lists else counts[0].to(torch.int64)
        least = lengths.clamp(min=0)
        for width in distinct([column.values.shape[1] for column in lists.values()]):
            least = least.clamp(max=width)
        columns |= {name: Padded(column.values, least) for name, column in lists.items()}
        rest = [column.lengths for column in list(lists.values())[1:]]
        # a uint64 above the largest int64 is negative, and agrees with no length
        rest += [column.to(torch.int64) for column in (counts if lists else counts[1:])]
        owners += [len(given)] * len(rest)
        others += rest
        given.append(lengths)
        possible.append(least)
    if given:
        firsts = torch.stack(given, 1)
        yield none_of(firsts != torch.stack(possible, 1))
    if others:
        owner = torch.tensor(owners, device=firsts.device)
        yield none_of(torch.stack(others, 1) != firsts.index_select(1, owner))


def _flat(columns: Mapping[str, Tensor | Padded], name: str) -> Tensor:
    column = columns[name]
    return column.lengths if isinstance(column, Padded) else column
