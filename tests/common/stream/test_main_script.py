"""Scripts without a guard, and on standard input: workers work, or the error names the guard."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.stream import main_script as script

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from torch.utils.data import DataLoader
from hepdata_adapters.torch import RootDataModule

def leave(worker):
    pass

data = RootDataModule({path: 0 for path in {files}}, batch_size=100, num_workers=1, progress=False)
print("events", sum(len(batch["x"]) for batch in data.train_dataloader()))
dataset = data.dataset("train")
for make in (
    lambda: DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn"),
    lambda: dataset.loader(num_workers=1, worker_init_fn=leave),
):
    try:
        next(iter(make()))
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("way", ["stdin", "file"])
def test_workers_need_no_guard_unless_they_run_the_script(three_files, tmp_path, way):
    text = SCRIPT.replace("{files}", repr([str(path) for path in three_files]))
    path = tmp_path / "train.py"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-" if way == "stdin" else str(path)],
        input=text if way == "stdin" else None, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events, *errors = done.stdout.splitlines()
    assert int(events.removeprefix("events ")) > 2000
    assert len(errors) == 2, done.stdout
    for error in errors:
        assert error.startswith("ConfigError each worker process runs the script again")
        assert '`if __name__ == "__main__":`' in error
        assert ("save it as" if way == "stdin" else f"{path} has no guard") in error
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        ("import this\nrun()\n", False),
        ("def f():\n    if __name__ == '__main__':\n        pass\nf()\n", False),
        ("if __name__ == '__main__':\n    run()\n", True),
        ("if '__main__' == __name__: run()\n", True),
        ("if multiprocessing.parent_process() is None:\n    run()\n", True),
        ("not python(", True),
    ],
)
def test_a_guard_is_recognised(tmp_path, monkeypatch, text, guarded):
    path = tmp_path / "train.py"
    path.write_text(text)
    monkeypatch.setattr(script, "get_spawning_popen", lambda: object())
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(path), raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    if guarded:
        script.check_script()
    else:
        with pytest.raises(ConfigError, match=r"train.py has no guard"):
            script.check_script()


def test_the_script_is_hidden_only_where_nothing_of_it_is_needed(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "train.py", raising=False)

    def own() -> None: ...

    with script.not_run_again([own, "text", functools.partial(print)]):
        assert main.__file__ is None
    assert main.__file__ == "train.py"
    own.__module__ = "__main__"
    for given in (own, functools.partial(own)):
        with script.not_run_again([given]):
            assert main.__file__ == "train.py"
