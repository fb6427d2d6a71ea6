"""The transform beside an exported graph: what a client needs of it, also without user code."""

from __future__ import annotations

from collections.abc import Sequence

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.files.preparation import RawBranch
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_serving.integrity import parse_json


def read_transform(text: bytes | str) -> tuple[Transform, str | None]:
    """The transform of training, from its JSON; and None.

    Where a scaling function of the user's is not registered in this process: one of the same
    branches that allows all events (see `any_events`), and why. The graph has the function.
    Raises ValueError for text that is no transform, ArchiveError for what is not even JSON.
    """
    parsed = parse_json(text, "transform.json")
    try:
        return Transform.model_validate_json(text), None
    except ConfigError as error:
        found = parsed["preparation"]["branches"]
        return any_events([RawBranch.model_validate(branch) for branch in found]), str(error)


def any_events(branches: Sequence[RawBranch]) -> Transform:
    """A transform that allows any values of these branches, so that the graph decides alone.

    With the factor 0 no value is too large, and with a fill no NaN is a fault.
    """
    features = (
        FeatureTransform(
            branch=branch.name, kind=branch.kind, dtype=branch.dtype, factor=0.0, missing=0.0,
            width=branch.size if branch.kind == "array" else 1,
        )
        for branch in branches
    )  # fmt: skip
    return Transform.of_vector(VectorTransform(features=tuple(features)))
