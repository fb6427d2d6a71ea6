"""What to write in a config about a value that the transform refused: by its kind."""

from __future__ import annotations

from typing import Any

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.feature_config import ImageInput, SetInput
from hepdata_adapters.common.config.problems import FeatureError, advice, yaml_line
from hepdata_adapters.common.core.faults import Fault
from hepdata_adapters.common.events.layout import Layout
from hepdata_adapters.common.specs.model import Specs


def advice_for(fault: Fault, config: DatasetConfig, layout: Layout, specs: Specs) -> str:
    """A sentence with the lines that settle a fault of a value."""
    place = _place(fault, layout)
    given = layout.inputs.get(place.removeprefix("inputs."))
    wanted = given.config if given else None
    if fault.kind == "uneven":
        return f"these do not describe the same objects: take {fault.branch} out of {place}"
    if fault.kind == "outside":
        return f"set {place}.outside: count"
    if fault.kind == "too long" and isinstance(wanted, SetInput):
        return f"set {place}.overflow: truncate"
    if isinstance(wanted, ImageInput):  # its weights have no policies
        return (
            f"take {fault.branch} out of {place}.channels, or leave such events out with a "
            f"selection"
        )
    error = FeatureError(fault.branch, fault.reason, place, **_keys(fault, specs))
    return advice([error], config)


def retrained(fault: Fault) -> str:
    """The same where the model is there already: how one is trained that takes the event."""
    if fault.kind in ("uneven", "outside"):
        return "the model takes no such event: leave it out of the file"
    if fault.kind == "too large":
        wish = f"with a clip of {fault.branch}"
    else:
        keys = {"overflow": "truncate"} if fault.kind == "too long" else {"missing": "median"}
        wish = f"with {yaml_line({'branch': fault.branch, **keys})}"
    return f"the model was trained without such values: leave the event out, or train {wish}"


def _keys(fault: Fault, specs: Specs) -> dict[str, Any]:
    """The keys of the feature that settle it."""
    stats = specs.branches.get(fault.branch)
    if fault.kind == "too long":
        return {"overflow": "truncate"}
    if fault.kind == "too large" and stats is not None and stats.count:
        return {"clip": [stats.minimum, stats.maximum]}
    return {"missing": "median" if stats is not None and stats.count else 0}


def _place(fault: Fault, layout: Layout) -> str:
    """Where the config speaks of the branch; of several, the one whose policy it can be."""
    of_vector = any(feature.branch.name == fault.branch for feature in layout.features)
    if of_vector and fault.kind not in ("uneven", "outside"):
        return "features"
    for name, given in layout.inputs.items():
        if fault.branch in given.branches:
            return f"inputs.{name}"
    return "features"
