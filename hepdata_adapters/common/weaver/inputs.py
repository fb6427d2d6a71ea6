"""weaver's groups of inputs: sets of objects, and the columns of ``x``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from hepdata_adapters.common.config.feature_config import RESERVED
from hepdata_adapters.common.weaver.config import (
    Group,
    Preprocess,
    Standardisation,
    Variable,
    WeaverConfig,
)
from hepdata_adapters.common.weaver.notes import Note
from hepdata_adapters.common.weaver.syntax import UntranslatableError, is_ones
from hepdata_adapters.common.weaver.variables import Variables

_SUFFIXES = ("_mask", "_offsets", "_cells", "_values")
_BRANCH = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass
class Inputs:
    """What the groups become. needed: the columns that they read."""

    features: list[Any] = field(default_factory=list)
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    pad: float = 0.0
    needed: set[str] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)


def convert_inputs(config: WeaverConfig, variables: Variables) -> Inputs:
    """All groups: those of one value an event to ``x``, those of several to sets."""
    made = Inputs()
    masks = {name for name in config.inputs if _is_mask(name, config)}
    pads = _pads(config, masks)
    made.pad = next(iter(pads)) if len(pads) == 1 else 0.0
    for name, group in config.inputs.items():
        place = f"inputs.{name}"
        if name in masks:
            delivered = ", ".join(f"{_input_name(s)}_mask" for s in _masked_by(name, config, masks))
            made.notes.append(Note(place, "differs", f"delivered as {delivered}, bool (n, k)"))
            continue
        features = _features(name, group, config, variables, made)
        if not features:
            made.notes.append(Note(place, "left out", "none of its variables has an equivalent"))
        elif group.length in (None, 1):
            _append_to_x(place, features, made)
        else:
            _append_set(name, group, features, made)
    return made


def _append_to_x(place: str, features: list[Any], made: Inputs) -> None:
    for feature in features:
        if _branch(feature) in map(_branch, made.features):
            made.notes.append(
                Note(place, "left out", f"{_branch(feature)} is a column of x already")
            )
        else:
            made.features.append(feature)
    made.notes.append(
        Note(place, "differs", "its variables are columns of x (n, d), those of all such groups")
    )


def _append_set(name: str, group: Group, features: list[Any], made: Inputs) -> None:
    place, called = f"inputs.{name}", _input_name(name)
    if called != name:
        made.notes.append(Note(place, "differs", f"called {called}: its name has a meaning here"))
    if group.pad_mode == "wrap":
        made.notes.append(
            Note(
                f"{place}.pad_mode",
                "differs",
                "wrap (padding with values of other objects) has no equivalent: padded with "
                f"{made.pad:g}, see {called}_mask",
            )
        )
    made.sets[called] = {"kind": "set", "length": group.length, "features": features}


def _features(
    name: str, group: Group, config: WeaverConfig, variables: Variables, made: Inputs
) -> list[Any]:
    """The features of a group that have an equivalent; the others are noted."""
    found: list[Any] = []
    automatic = []
    for number, variable in enumerate(group.vars):
        place = f"inputs.{name}.vars.{number} ({variable.name})"
        params = standardisation(variable, group, config.preprocess)
        if params.center == "auto":
            automatic.append(variable.name)
        try:
            if not _BRANCH.fullmatch(variable.name):
                raise UntranslatableError("that is no name of a branch here")
            if variable.name in variables.refused:
                raise UntranslatableError(variables.refused[variable.name])
            feature = feature_of(variable.name, params)
        except UntranslatableError as error:
            made.notes.append(Note(place, "left out", str(error)))
            continue
        if group.length not in (None, 1) and params.pad_value not in (0.0, made.pad):
            made.notes.append(
                Note(place, "differs", f"padded with {made.pad:g}, not with {params.pad_value:g}")
            )
        made.needed.add(variable.name)
        found.append(feature)
    if automatic:
        made.notes.append(
            Note(
                f"inputs.{name}",
                "differs",
                f"automatic standardisation of {', '.join(automatic)} becomes scaling: robust, "
                "which divides by half the distance of the 16 % and 84 % quantiles, not by the "
                "larger distance from the median; the clip to [min, max] after it has no "
                "equivalent in raw units: add clip: [low, high] where there are outliers",
            )
        )
    return found


def standardisation(variable: Variable, group: Group, preprocess: Preprocess) -> Standardisation:
    """What weaver does to a variable: what ``preprocess.params`` says, else the list itself."""
    if preprocess.params is not None and variable.name in preprocess.params:
        found = preprocess.params[variable.name]
    else:
        center = variable.center
        if not variable.given:
            center = "auto" if preprocess.automatic else None
        found = Standardisation(
            length=group.length,
            pad_mode=group.pad_mode,
            center=center,
            scale=variable.scale,
            min=variable.min,
            max=variable.max,
            pad_value=variable.pad_value,
        )
    if found.center == "auto" and variable.name.endswith("_mask"):
        return found.model_copy(update={"center": None})
    return found


def feature_of(name: str, params: Standardisation) -> str | dict[str, Any]:
    """A feature with weaver's standardisation: clip and missing value in raw units.

    weaver computes ``clip((value - center) * scale, min, max)`` and puts 0 for NaN. Here values
    are clipped before they are scaled, to ``center + min / scale`` and ``center + max / scale``,
    and NaN is replaced by ``center``. Raises UntranslatableError.

    >>> feature_of("part_pt_log", Standardisation(center=1.7, scale=0.5))["clip"]
    [-8.3, 11.7]
    >>> feature_of("part_charge", Standardisation())
    'part_charge'
    """
    if params.center is None:
        return name
    if params.center == "auto":
        return {"branch": name, "scaling": "robust", "missing": "median"}
    if params.scale == 0:
        raise UntranslatableError("it is multiplied by 0: a constant")
    if params.min >= params.max:
        raise UntranslatableError(
            f"it is clipped from {params.min:g} to {params.max:g}: a constant"
        )
    feature: dict[str, Any] = {"branch": name}
    center, scale = params.center, params.scale
    if scale < 0:  # scales are positive here: turn the sign of the value instead
        feature = {"branch": f"{name.replace('.', '_')}_negated", "expression": f"-({name})"}
        center, scale = -center, -scale
    feature["scaling"] = {"center": center, "scale": 1 / scale}
    clip = [_raw(limit, center, scale) for limit in (params.min, params.max)]
    if clip != [None, None]:
        feature["clip"] = clip
    if center:
        feature["missing"] = center
    return feature


def _raw(limit: float, center: float, scale: float) -> float | None:
    raw = center + limit / scale
    return raw if math.isfinite(raw) else None


def _is_mask(name: str, config: WeaverConfig) -> bool:
    """Whether a group is the mask of sets of the same length: 1 for each object, padded with 0."""
    group = config.inputs[name]
    if len(group.vars) != 1 or group.pad_mode == "wrap":
        return False
    params = standardisation(group.vars[0], group, config.preprocess)
    text = config.new_variables.get(group.vars[0].name, "")
    plain = params.center is None and params.pad_value == 0
    return plain and is_ones(text) and bool(_masked_by(name, config, {name}))


def _masked_by(name: str, config: WeaverConfig, masks: set[str]) -> list[str]:
    """The sets of the length of a mask; those that share its prefix if there are such."""
    length = config.inputs[name].length
    sets = [
        other
        for other, group in config.inputs.items()
        if other not in masks and group.length == length and length not in (None, 1)
    ]
    prefix = name.rpartition("_")[0]
    return [other for other in sets if prefix and other.startswith(f"{prefix}_")] or sets


def _pads(config: WeaverConfig, masks: set[str]) -> set[float]:
    """The pad values of all variables of sets."""
    return {
        standardisation(variable, group, config.preprocess).pad_value
        for name, group in config.inputs.items()
        if name not in masks and group.length not in (None, 1) and group.pad_mode == "constant"
        for variable in group.vars
    }


def _input_name(name: str) -> str:
    """A name that an input may have."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    plain = plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"
    taken = plain in RESERVED or plain.endswith(_SUFFIXES)
    return f"{plain}_input" if taken else plain


def _branch(feature: str | dict[str, Any]) -> str:
    return feature if isinstance(feature, str) else str(feature["branch"])
