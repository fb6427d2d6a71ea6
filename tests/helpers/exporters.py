"""The exporters with the fields of their `Exportable` as keyword arguments, for short tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hepdata_serving.exportable import Exportable


def export_onnx(directory: Path, **fields: Any) -> Path:
    from hepdata_serving.onnx import export

    return export.export_onnx(directory, Exportable(**fields))


def export_torchserve(directory: Path, **fields: Any) -> Path:
    from hepdata_serving.torchserve import export

    return export.export_torchserve(directory, Exportable(**fields))


def export_tfserving(directory: Path, **fields: Any) -> Path:
    from hepdata_serving.tfserving import export

    return export.export_tfserving(directory, Exportable(**fields))
