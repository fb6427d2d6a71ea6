"""Raw columns as dense arrays with lengths: the form in which TF Serving takes raw events.

A flat branch is ``(n,)``, an array branch ``(n, k)``. A jagged branch is ``(n, m)``, padded to
any m, beside a second input with the real length of each event. All inputs have n rows, so that
they fit the row format of TF Serving's REST interface and its request batching.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hepdata_adapters.common.core.columns import Array, Column, Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.files.preparation import RawBranch
from hepdata_adapters.common.transform.pipeline import Transform

LENGTH = "_length"
_WIDER = {"uint16": "int32", "float16": "float32"}  # which TF Serving's REST cannot read


def input_dtype(branch: RawBranch) -> np.dtype[Any]:
    """The dtype of the input of a branch: its own, or a wider one that every interface has."""
    dtype = np.dtype(branch.dtype)
    return np.dtype(_WIDER.get(dtype.name, dtype))


def input_name(branch: str) -> str:
    """The input of a branch: letters, digits and ``_``, what a TensorFlow signature allows.

    It starts with a letter and is no Python keyword.

    >>> input_name("Jet.pt"), input_name("2nd"), input_name("class")
    ('Jet_pt', 'branch_2nd', 'branch_class')
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", branch)
    if not name[:1].isalpha() or keyword.iskeyword(name) or name == "self":
        return f"branch_{name}"
    return name


def input_names(transform: Transform) -> dict[str, str]:
    """The input of each branch, by branch; that of the lengths of a jagged one adds `LENGTH`.

    Raises ConfigError where two inputs would share a name.
    """
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for branch in transform.branches:
        name = names[branch.name] = input_name(branch.name)
        for taken in [name, *([name + LENGTH] if branch.kind == "jagged" else [])]:
            if taken in owners:
                raise ConfigError(
                    f"branches {owners[taken]!r} and {branch.name!r} would both give a model "
                    f"input called {taken!r}: leave one of them out"
                )
            owners[taken] = branch.name
    return names


def padded_alike(transform: Transform) -> dict[str, str]:
    """Of each jagged branch that shares a count in the files: the first that shares it.

    All of these are padded to one width.
    """
    return {name: count.lists[0] for count in transform.preparation.counts for name in count.lists}


def dense_inputs(columns: Mapping[str, Column], transform: Transform) -> dict[str, Array]:
    """The inputs of n raw events by name, in their `input_dtype`; lengths are int64.

    Jagged columns are padded with zeros to the longest of these events (at least one column);
    those that share a count in the files to the longest of any of them.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> transform = Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2),)))
    >>> inputs = dense_inputs({"pt": Jagged.from_lists([[3.0], []], np.float32)}, transform)
    >>> {name: values.tolist() for name, values in inputs.items()}
    {'pt': [[3.0], [0.0]], 'pt_length': [1, 0]}
    """
    inputs: dict[str, Array] = {}
    names, alike = input_names(transform), padded_alike(transform)
    widths: dict[str, int] = {}
    for branch in transform.branches:
        jagged = columns[branch.name]
        if isinstance(jagged, Jagged):
            first = alike.get(branch.name, branch.name)
            longest = int(jagged.lengths.max(initial=0))
            widths[first] = max(widths.get(first, 1), longest)
    for branch in transform.branches:
        column, name, dtype = columns[branch.name], names[branch.name], input_dtype(branch)
        if not isinstance(column, Jagged):
            inputs[name] = column.astype(dtype, copy=False)
            continue
        lengths = column.lengths
        width = widths[alike.get(branch.name, branch.name)]
        padded = np.zeros((len(lengths), width), dtype)
        padded[np.arange(width) < lengths[:, None]] = column.content
        inputs[name], inputs[name + LENGTH] = padded, lengths
    return inputs
