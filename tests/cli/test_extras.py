"""A missing optional dependency is an error that is the install command."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.core.errors import MissingExtraError

CONFIG = Path(__file__).resolve().parents[2] / "examples" / "tth" / "config.yaml"


def forget(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Make importing a module fail as if it were not installed."""
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("hepdata_")]:
        if name.startswith(("hepdata_adapters.torch", "hepdata_adapters.tf", "hepdata_serving")):
            monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("module", "extra", "holds"),
    [
        ("torch", "torch", "model_store"),
        ("tensorflow", "tf", "models.config"),
        ("tensorflow_serving", "tf", "models.config"),
    ],
)
def test_serve_needs_what_runs_the_model(module, extra, holds, tmp_path, monkeypatch, capsys):
    forget(monkeypatch, module)
    if holds == "model_store":
        archive = tmp_path / holds / "m-1.0.mar"
        archive.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as file:
            model = {"modelName": "m", "modelVersion": "1.0"}
            file.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
    else:
        (tmp_path / holds).write_text("")
    assert main(["serve", str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip() == (
        f"hepdata-adapters: {module!r}, which runs the models of this folder, is not installed. "
        f'Install it with: pip install "hepdata-adapters[{extra}]"'
    )


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("lightning", ["fit", str(CONFIG), "-o", "{}/run"], "torch"),
        ("torchmetrics", ["fit", str(CONFIG), "-o", "{}/run"], "torch"),
        ("tensorflow", ["fit", str(CONFIG), "-o", "{}/run", "--framework", "tf"], "tf"),
        ("keras", ["fit", str(CONFIG), "-o", "{}/run", "--framework", "tf"], "tf"),
        ("ts", ["serve", "{}"], "serve"),
    ],
)
def test_the_command_line_names_the_extra(module, command, extra, tmp_path, monkeypatch, capsys):
    forget(monkeypatch, module)
    (tmp_path / "model_store").mkdir()
    assert main([word.format(tmp_path) for word in command]) == 1
    said = capsys.readouterr().err.strip()
    package = {"ts": "torchserve"}.get(module, module)
    assert said == (
        f"hepdata-adapters: {package!r} is not installed. "
        f'Install it with: pip install "hepdata-adapters[{extra}]"'
    )


def test_the_torch_room_names_its_extra(monkeypatch):
    forget(monkeypatch, "lightning")
    import hepdata_adapters.torch as room

    with pytest.raises(MissingExtraError, match=r"hepdata-adapters\[torch\]"):
        _ = room.RootDataModule


@pytest.mark.parametrize("name", ["root_dataset", "EventTransform"])
def test_the_tf_room_names_its_extra(name, monkeypatch):
    forget(monkeypatch, "tensorflow")
    import hepdata_adapters.tf as room

    with pytest.raises(MissingExtraError, match=r"hepdata-adapters\[tf\]"):
        getattr(room, name)
