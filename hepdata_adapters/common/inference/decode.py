"""Back again: from the arrays of a batch, or of a model, to events in raw units, and to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hepdata_adapters.common.core.columns import OFFSETS, Array, Column, Columns, Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.core.writing import whole_file
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.sets import SetTransform


def inverse(transform: Transform, arrays: Mapping[str, Array]) -> Any:
    """Events as an awkward array, one field a branch, float64 in the units of the file.

    arrays: of n events by name as in a batch: ``x`` and ``mask`` (``lengths`` where they are
    known), ``NAME`` and ``NAME_mask`` of sets, ``NAME`` and ``NAME_offsets`` of ragged inputs;
    what is not there is left out. A value that was missing comes back as NaN from a vector and as
    its fill from a set; what was cut or clipped stays so. A branch of several representations is
    taken from the first of: ragged, sets, the vector.

    Raises ConfigError for a scaling without an inverse, and where the arrays hold nothing that
    can be decoded (an image cannot).

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> transform = Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),
    ...     FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=2))))
    >>> events = inverse(transform, {
    ...     "x": np.array([[5.0, 30.0, 0.0]]), "mask": np.array([[True, True, False]])})
    >>> events.to_list()
    [{'MET': 10.0, 'Jet_pt': [30.0]}]
    """
    found: Columns = {}
    if transform.vector and "x" in arrays:
        mask, lengths = _array(arrays, "mask"), arrays.get("lengths")
        found |= transform.vector.inverse(arrays["x"], mask, lengths)
    for name, made in transform.inputs.items():
        if name not in arrays or isinstance(made, ImageTransform):
            continue
        if isinstance(made, SetTransform):
            found |= made.inverse(arrays[name], _array(arrays, name + "_mask"))
        else:
            found |= made.inverse(Jagged(arrays[name], _array(arrays, name + OFFSETS)))
    if not found:
        raise ConfigError(f"nothing to decode in {', '.join(arrays) or 'no arrays'}")
    return to_awkward(found)


def to_awkward(columns: Mapping[str, Column]) -> Any:
    """Columns as one awkward array of records.

    >>> to_awkward({"n": np.array([1, 2]), "pt": Jagged.from_lists([[3.0], []])}).to_list()
    [{'n': 1, 'pt': [3.0]}, {'n': 2, 'pt': []}]
    """
    import awkward as ak

    return ak.Array({name: _awkward(column) for name, column in columns.items()})


def write_root(path: str | Path, events: Any, tree: str = "Events") -> None:
    """Write an awkward array of records, such as `inverse` gives, as a TTree.

    Jagged fields ``Jet_pt, Jet_eta, …`` of equal lengths share one counter branch, ``nJet``, as
    in NanoAOD; others have their own. An existing file is replaced, but only by a whole one.

    Raises FileError where the folder cannot be written to.
    """
    import awkward as ak
    import uproot

    fields = {name: events[name] for name in ak.fields(events)}
    content: dict[str, Any] = {}
    for group, names in _groups(fields).items():
        if len(names) > 1:
            members = {name.removeprefix(f"{group}_"): fields[name] for name in names}
            content[group] = ak.zip(members)
        else:
            content[names[0]] = fields[names[0]]
    with whole_file(Path(path)) as partial, uproot.recreate(partial) as file:
        file.mktree(tree, {name: ak.type(array).content for name, array in content.items()})
        file[tree].extend(content)


def _groups(fields: Mapping[str, Any]) -> dict[str, list[str]]:
    """Jagged fields of one prefix and equal lengths; all other fields alone."""
    import awkward as ak

    groups: dict[str, list[str]] = {}
    counts: dict[str, Any] = {}
    for name, array in fields.items():
        prefix, joint, member = name.partition("_")
        group = name
        if joint and member and array.ndim == 2:
            lengths = ak.to_numpy(ak.num(array))
            if np.array_equal(counts.setdefault(prefix, lengths), lengths):
                group = prefix
        groups.setdefault(group, []).append(name)
    return groups


def _awkward(column: Column) -> Any:
    import awkward as ak

    if not isinstance(column, Jagged):
        return column
    layout = ak.contents.ListOffsetArray(
        ak.index.Index64(column.offsets), ak.contents.NumpyArray(column.content)
    )
    return ak.Array(layout)


def _array(arrays: Mapping[str, Array], name: str) -> Array:
    if name not in arrays:
        raise ConfigError(f"{name!r} is needed beside the values to decode them")
    return arrays[name]
