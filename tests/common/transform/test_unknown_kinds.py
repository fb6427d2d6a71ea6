"""A representation that nobody registered is an error, not the one before it."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from hepdata_adapters.common.config.feature_config import SetInput
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.events.layout import ResolvedInput
from hepdata_adapters.common.transform.assemble import _input
from hepdata_adapters.common.transform.graph.backend import maker_of
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform
from hepdata_adapters.common.transform.sets import SetTransform
from tests.helpers.pipelines import scaled

MAKERS = {SetTransform: "set", ImageTransform: "image"}


class CloudTransform(SetTransform):
    kind: Literal["cloud"] = "cloud"  # type: ignore[assignment]


class CloudInput(SetInput):
    kind: Literal["cloud"] = "cloud"  # type: ignore[assignment]


def test_a_graph_has_the_kinds_that_its_backend_registered() -> None:
    pt: Any = {"length": 2, "features": (scaled("pt", "jagged", 2),)}
    assert maker_of("jets", SetTransform(**pt), MAKERS) == "set"
    with pytest.raises(ConfigError, match=r"inputs: 'jets' is cloud, and a graph has dense"):
        maker_of("jets", CloudTransform(**pt), MAKERS)
    sparse = ImageTransform(axes=(ImageBins(branch="eta", edges=(0, 1)),), sparse=True)
    with pytest.raises(ConfigError, match=r"inputs: 'calo' is sparse, and a graph has dense"):
        maker_of("calo", sparse, MAKERS)


def test_a_config_of_an_unknown_kind_becomes_nothing() -> None:
    cloud = CloudInput.model_validate({"features": ["pt"]})
    specs: Any = None
    with pytest.raises(ConfigError, match=r"inputs\.jets: CloudInput is no representation"):
        _input("jets", ResolvedInput(cloud, (), ()), specs)
