"""A trained PyTorch model to a folder with one ONNX graph that takes raw events."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from hepdata_adapters.common.core.errors import ConfigError, HepDataError, MissingExtraError
from hepdata_adapters.common.inference.raw_events import without_nan
from hepdata_adapters.common.transform.pipeline import ModelInput
from hepdata_serving.archive import write_atomically
from hepdata_serving.checks import check_scores
from hepdata_serving.errors import ExportError
from hepdata_serving.exportable import Exportable
from hepdata_serving.integrity import SUMS, sums_text
from hepdata_serving.onnx.graph import graph_inputs, save_graph
from hepdata_serving.onnx.readme import readme
from hepdata_serving.onnx.runtime import FILES, Graph, OnnxModel

_FILES = ("README.md", SUMS, *FILES)


def export_onnx(directory: Path, model: Exportable[torch.nn.Module]) -> Path:
    """Write ``DIR/NAME/`` with ``model.onnx`` and what describes it; return that folder.

    The graph takes the raw columns of n events (see `hepdata_serving.onnx.graph.graph_inputs`)
    and gives ``score``, NaN where a policy of the transform forbids a value, and ``valid``.
    An earlier export in the same place is replaced. The same input gives the same bytes.

    Raises ConfigError for metadata that is not JSON and for a folder that holds anything else,
    ExportError for a model that has no ONNX form or whose graph predicts other values than the
    golden ones, MissingExtraError without the extra ``onnx``. Then nothing is left behind, and an
    earlier export stays.
    """
    _require_packages()
    target = directory / model.name
    _check_replaceable(target)
    described = model.described("1.0", {"torch": torch.__version__, "onnx": version("onnx")})
    data = save_graph(model.scorer, model.transform)

    inputs = graph_inputs(model.transform)
    graph = Graph(data)
    check_scores(
        lambda given: graph({raw.name: raw.zeros(_events(given)) for raw in inputs})[0],
        model.transform,
        model.classes,
    )
    files = {"model.onnx": data, **described}
    # people write into a README, so it has no hash
    files |= {
        SUMS: sums_text(files).encode(),
        "README.md": readme(
            model.name, model.task, model.outputs, inputs, without_nan(model.events)
        ).encode(),
    }
    _write_proven(target, files)
    return target


def _events(given: ModelInput) -> int:
    return len(next(iter(given.values())) if isinstance(given, dict) else given)


def _require_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "onnx")


def _check_replaceable(target: Path) -> None:
    """Refuse to replace what is there unless it is an exported model."""
    found = [path.name for path in target.iterdir()] if target.is_dir() else []
    if target.is_file() or not set(found) <= set(_FILES):
        raise ConfigError(
            f"{target} exists and is not an exported ONNX model: "
            "choose another folder with -o, or remove it"
        )


def _write_proven(target: Path, files: Mapping[str, bytes]) -> None:
    """Write the folder beside its place, load it as a user will, and only then put it there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as staging:
        fresh, old = Path(staging) / "new", Path(staging) / "old"
        for name, data in files.items():
            write_atomically(fresh / name, data)
        try:
            OnnxModel(fresh)
        except HepDataError as error:
            raise ExportError(f"the exported model is not the trained one: {error}") from error
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
