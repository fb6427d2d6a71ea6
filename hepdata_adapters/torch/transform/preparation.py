"""Objects selected and sorted, columns derived: `Preparation` in tensor operations.

It does what `hepdata_adapters.common.files.preparation` does, for any number of events and
any padded width, so that it can travel inside an exported graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions import Expression
from hepdata_adapters.common.files.preparation import ObjectGroup, Preparation
from hepdata_adapters.common.files.shared_counts import SharedCount
from hepdata_adapters.torch.transform.expressions import Padded, checked
from hepdata_adapters.torch.transform.objects import (
    Members,
    distinct,
    fitted,
    members,
    none_of,
    padded,
)

Columns = dict[str, Tensor | Padded]

_INDEXABLE = {
    torch.uint16: torch.int64, torch.uint32: torch.int64, torch.uint64: torch.float64,
}  # fmt: skip
"""Dtypes whose places torch cannot look up, and those that stand for them."""


class EventPreparation(nn.Module):
    """Raw columns of n events to prepared ones.

    >>> from hepdata_adapters.common.files.preparation import DerivedColumn, RawBranch
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
        valid = torch.ones(events.shape[0], dtype=torch.bool, device=events.device)
        columns: Columns = {b.name: raw[b.name] for b in self.preparation.branches}
        for check in _agreed(columns, self.shared):
            valid = valid & check
        read = dict(columns)
        for group in self.groups:
            selection, key = self.preparation.parsed_objects[group.name]
            selected, agree = select(group, selection, key, read)
            columns |= selected
            valid = valid & agree
        for name, expression in self.preparation.parsed_columns.items():
            columns[name], agree = checked(expression, columns)
            valid = valid & agree
        return {name: columns[name] for name in self.names}, valid


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


def select(
    group: ObjectGroup,
    selection: Expression | None,
    key: Expression | None,
    raw: Mapping[str, Tensor | Padded],
) -> tuple[Columns, Tensor]:
    """The members of a group with the objects that stay, in their order.

    And ``(n,)`` bool: events whose members agree in their number of objects.
    """
    objects = members(raw, group.members)
    keep, valid = objects.present, objects.valid
    if selection is not None:
        passed, agree = _of_objects(selection, raw, objects)
        valid = valid & agree
        keep = keep & (passed != 0) & (passed == passed)
    if key is not None:
        ranks, agree = _of_objects(key, raw, objects)
        valid = valid & agree
        order = _order(-ranks if group.descending else ranks, keep)
    else:
        order = _stable_order((~keep).to(torch.int64))
    lengths = keep.sum(1)
    return {
        name: Padded(_indexable(values).gather(1, order), lengths)
        for name, values in objects.values.items()
    }, valid


def _of_objects(
    expression: Expression, raw: Mapping[str, Tensor | Padded], objects: Members
) -> tuple[Tensor, Tensor]:
    """Its value of each object ``(n, m)`` float64, and ``(n,)`` bool: where there is one of each.

    Raises ConfigError for an expression with one value an event.
    """
    found, valid = checked(expression, raw)
    if not isinstance(found, Padded):
        raise ConfigError(f"{expression.text!r} has one value an event, not one for each object")
    values = fitted(found.values, objects.present.shape[1]).to(torch.float64)
    return values, valid & (found.lengths == objects.lengths)


def _order(ranks: Tensor, keep: Tensor) -> Tensor:
    """Places of the objects: upwards, then those of NaN, then those that do not stay."""
    unordered = torch.isnan(ranks)
    order = _stable_order(torch.where(unordered, torch.inf, ranks))
    last = torch.where(keep, unordered.to(torch.int64), 2).gather(1, order)
    return order.gather(1, _stable_order(last))


def _stable_order(values: Tensor) -> Tensor:
    """Places of the values of each row, upwards; equal ones stay in order."""
    return torch.sort(values, dim=1, stable=True).indices


def _indexable(values: Tensor) -> Tensor:
    """The values in a dtype whose places torch can look up."""
    return values.to(_INDEXABLE.get(values.dtype, values.dtype))
