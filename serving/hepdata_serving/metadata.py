"""``metadata.json`` of an exported model: what it is, and what it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.inference.raw_events import without_nan
from hepdata_adapters.common.transform.pipeline import Transform


def metadata_text(
    name: str,
    version: str,
    transform: Transform,
    task: str,
    outputs: Sequence[str],
    metadata: Mapping[str, Any],
    frameworks: Mapping[str, str],
) -> str:
    """The description as JSON, the same text for the same content.

    metadata: anything JSON can hold (NaN becomes null). frameworks: version by name.
    Raises ConfigError for metadata that is not JSON.
    """
    content = {
        "format": "hepdata-archive",
        "format_version": 2,
        "name": name,
        "version": version,
        "task": task,
        "outputs": list(outputs),
        "features": transform.feature_names,
        "inputs": {name: made.kind for name, made in transform.inputs.items()},
        "prepared": _shapes(transform),
        "branches": [branch.name for branch in transform.branches],
        **frameworks,
        "metadata": without_nan(metadata),
    }
    try:
        return json_text(content)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the metadata of {name!r} is not JSON: {error}") from error


def _shapes(transform: Transform) -> dict[str, list[int | None]]:
    """The shape of an event in each input of the network."""
    shape = transform.model_shape
    named = shape if isinstance(shape, dict) else {"x": (shape,)}
    return {name: list(sizes) for name, sizes in named.items()}


def json_text(content: Mapping[str, Any]) -> str:
    """Strict JSON with sorted keys."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
