"""Objects selected and sorted, columns derived: `Preparation` in the operations of a backend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions import Expression
from hepdata_adapters.common.files.preparation import ObjectGroup, Preparation
from hepdata_adapters.common.transform.graph.backend import TensorBackend
from hepdata_adapters.common.transform.graph.objects import Members, members


def prepared(
    backend: TensorBackend,
    raw: Mapping[str, Any],
    preparation: Preparation,
    groups: Iterable[ObjectGroup],
    names: Sequence[str],
) -> dict[str, Any]:
    """The prepared columns ``names``, of a preparation restricted to them and its groups of them.

    Raises ConfigError where an expression does not fit the kinds of its branches.
    """
    columns = dict(raw)
    for group in groups:
        columns |= _selected(backend, group, *preparation.parsed_objects[group.name], raw)
    for name, expression in preparation.parsed_columns.items():
        columns[name] = backend.evaluate(expression, columns)
    return {name: columns[name] for name in names}


def _selected(
    backend: TensorBackend,
    group: ObjectGroup,
    selection: Expression | None,
    key: Expression | None,
    raw: Mapping[str, Any],
) -> dict[str, Any]:
    """The members of a group with the objects that stay, in their order."""
    objects = members(backend, raw, group.members)
    keep = objects.present
    if selection is not None:
        passed = _of_objects(backend, selection, raw, objects)
        keep = keep & (abs(passed) > 0)  # which NaN is not
    if key is not None:
        ranks = _of_objects(backend, key, raw, objects)
        order = _order(backend, -ranks if group.descending else ranks, keep)
    else:
        order = backend.upwards(backend.cast(~keep, "int64"))
    lengths = backend.count(keep)
    return {
        name: backend.padded(backend.gather(values, order), lengths)
        for name, values in objects.values.items()
    }


def _of_objects(
    backend: TensorBackend, expression: Expression, raw: Mapping[str, Any], objects: Members
) -> Any:
    """Its value of each object, ``(n, m)`` float64."""
    found = backend.evaluate(expression, raw)
    if not isinstance(found, backend.padded):
        raise ConfigError(f"{expression.text!r} has one value an event, not one for each object")
    if found.lengths is not objects.lengths:
        backend.refuse(
            found.lengths != objects.lengths,
            f"{expression.text} has ", found.lengths,
            " values where there are ", objects.lengths, " objects",
        )  # fmt: skip
    return backend.cast(backend.fitted(found.values, backend.width(objects.present)), "float64")


def _order(backend: TensorBackend, ranks: Any, keep: Any) -> Any:
    """Places of the objects: upwards, then those of NaN, then those that do not stay."""
    where, unordered = backend.math.where, backend.math.isnan(ranks)
    # plain numbers may stand here, because float32 holds them and they come last
    order = backend.upwards(where(~unordered, ranks, math.inf))
    last = where(keep, backend.cast(unordered, "int64"), 2)
    return backend.gather(order, backend.upwards(backend.gather(last, order)))
