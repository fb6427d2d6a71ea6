"""TensorFlow: ``tf.data`` pipelines, Keras layers and training.

>>> from hepdata_adapters.tf import root_dataset
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hepdata_adapters.common.core.errors import missing_extra

if TYPE_CHECKING:
    from hepdata_adapters.tf.data.dataset import RootSource, root_dataset
    from hepdata_adapters.tf.transform.event_transform import EventTransform

__all__ = ["EventTransform", "RootSource", "root_dataset"]

_HOMES = {
    "EventTransform": "transform.event_transform",
    "RootSource": "data.dataset",
    "root_dataset": "data.dataset",
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
