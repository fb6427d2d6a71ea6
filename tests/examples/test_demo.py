"""``make demo``'s script, as it is: train, export, serve, compare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runs() -> dict[str, Path]:
    """The run folder of each framework whose demo has ended well."""
    return {}


@pytest.mark.parametrize(
    ("framework", "archive"), [("torch", "tth-1.0.mar"), ("tf", "models/tth/1/saved_model.pb")]
)
def test_the_demo_trains_serves_and_agrees(
    tmp_path: Path, framework: str, archive: str, runs: dict[str, Path]
):
    pytest.importorskip({"torch": "ts", "tf": "tensorflow"}[framework])
    script = ROOT / "examples" / "tth" / "demo.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "demo", "--framework", framework],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to offline predictions on 1,000 raw events" in " ".join(
        done.stdout.replace("│", " ").split()
    )
    run = tmp_path / "demo" / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["auc"] > 0.88  # guessing gives 0.5, the sample's boosted trees 0.92
    assert list((tmp_path / "demo").rglob(archive))
    for picture in ("roc.png", "scores.png"):
        assert (run / picture).stat().st_size > 10_000
    runs[framework] = run


def test_both_frameworks_agree_on_the_tth_sample(runs: dict[str, Path]):
    if len(runs) < 2:
        pytest.skip("needs the demos of both frameworks")
    torch, tf = (json.loads((runs[name] / "metrics.json").read_text()) for name in ("torch", "tf"))
    assert torch["test"]["events"] == tf["test"]["events"]
    assert abs(torch["test"]["auc"] - tf["test"]["auc"]) < 0.02
    transforms = [(run / "transform.json").read_bytes() for run in runs.values()]
    assert transforms[0] == transforms[1]
