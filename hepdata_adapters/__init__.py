"""Particle-physics events in ROOT files to machine-learning frameworks and back to servers.

No framework is imported here; `hepdata_adapters.torch` imports PyTorch when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample
    from hepdata_adapters.common.config.feature_config import Feature
    from hepdata_adapters.common.core.errors import HepDataError
    from hepdata_adapters.common.specs.compute import compute_specs
    from hepdata_adapters.common.specs.model import Specs
    from hepdata_adapters.common.transform.scalings.registered import scaling_function

__version__ = "0.1.0"
__all__ = [
    "DatasetConfig",
    "Feature",
    "HepDataError",
    "Sample",
    "Specs",
    "compute_specs",
    "load_config",
    "scaling_function",
]

_HOMES = {
    "DatasetConfig": "common.config.dataset_config",
    "Feature": "common.config.feature_config",
    "Sample": "common.config.dataset_config",
    "HepDataError": "common.core.errors",
    "load_config": "common.config.config_file",
    "Specs": "common.specs.model",
    "compute_specs": "common.specs.compute",
    "scaling_function": "common.transform.scalings.registered",
}


def __getattr__(name: str) -> Any:
    # uproot and numpy take a good part of a second; `--help` must not wait for them
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
