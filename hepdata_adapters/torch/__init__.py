"""PyTorch: datasets, Lightning modules and training.

>>> from hepdata_adapters.torch import RootIterableDataset, RootDataModule
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hepdata_adapters.common.core.errors import missing_extra

if TYPE_CHECKING:
    from hepdata_adapters.torch.data.datamodule import RootDataModule
    from hepdata_adapters.torch.data.dataset import RootIterableDataset
    from hepdata_adapters.torch.data.loader import RootLoader
    from hepdata_adapters.torch.training.event_module import EventModule, Scorer, weighted_loss
    from hepdata_adapters.torch.training.models import FeedForward
    from hepdata_adapters.torch.transform.event_transform import EventTransform

__all__ = [
    "EventModule",
    "EventTransform",
    "FeedForward",
    "RootDataModule",
    "RootIterableDataset",
    "RootLoader",
    "Scorer",
    "weighted_loss",
]

_HOMES = {
    "EventModule": "training.event_module",
    "EventTransform": "transform.event_transform",
    "FeedForward": "training.models",
    "RootDataModule": "data.datamodule",
    "RootIterableDataset": "data.dataset",
    "RootLoader": "data.loader",
    "Scorer": "training.event_module",
    "weighted_loss": "training.event_module",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None


def __dir__() -> list[str]:
    return list(__all__)
