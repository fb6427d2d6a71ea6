"""``make demo``'s script, as it is: train, export, serve, compare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ts", reason="TorchServe is not installed")
ROOT = Path(__file__).resolve().parents[1]


def test_the_demo_trains_serves_and_agrees(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "tth" / "demo.py", tmp_path / "demo"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to offline predictions on 1,000 raw events" in " ".join(
        done.stdout.replace("│", " ").split()
    )
    metrics = json.loads((tmp_path / "demo" / "run" / "metrics.json").read_text())
    assert metrics["test"]["auc"] > 0.85  # guessing gives 0.5, the sample's boosted trees 0.92
    assert list((tmp_path / "demo").rglob("*.mar"))
    for picture in ("roc.png", "scores.png"):
        assert (tmp_path / "demo" / "run" / picture).stat().st_size > 10_000
