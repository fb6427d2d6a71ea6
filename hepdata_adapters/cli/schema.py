"""``schema``: the JSON Schema of a config, for editors."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON Schema of a config, for editors."""
    from hepdata_adapters.common.config.dataset_config import RunConfig

    print(json.dumps(RunConfig.model_json_schema(), indent=1, sort_keys=True))
