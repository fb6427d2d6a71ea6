"""A missing optional dependency is an error that is the install command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.errors import MissingExtraError

CONFIG = Path(__file__).resolve().parents[1] / "examples" / "tth" / "config.yaml"


def forget(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Make importing a module fail as if it were not installed."""
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("hepdata_")]:
        if name.startswith(("hepdata_adapters.torch", "hepdata_adapters.tf", "hepdata_serving")):
            monkeypatch.delitem(sys.modules, name)


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
