"""The main job, end to end: stream ROOT files, train, export, serve raw events, compare.

Run it with ``make demo`` (PyTorch and TorchServe) or ``make demo FRAMEWORK=tf`` (Keras and TF
Serving's interfaces). It uses the ttH sample under examples/data.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.panel import Panel

from hepdata_adapters import load_config
from hepdata_adapters.inference import (
    columns_from_events,
    events_from_columns,
    raw_events,
    scan_inputs,
)
from hepdata_adapters.runs import Run, fit, load_run
from hepdata_serving.from_run import export_run

HERE = Path(__file__).resolve().parent
COMPARED = 1000
TOLERANCE = 1e-6
SERVER = {"torch": "torchserve", "tf": "tfserving"}


def main(folder: Path, framework: str) -> int:
    """Run everything into ``folder``; 0 if served and offline predictions agree."""
    console = Console()
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    console.rule("1/3 train on ROOT files")
    config = load_config(HERE / "config.yaml", [f"framework={framework}"])
    metrics = fit(config, folder / "run", overwrite=False)
    run = load_run(folder / "run")

    kind = SERVER[framework]
    console.rule(f"2/3 export for {kind}")
    archive = export_run(run, folder / kind, kind)
    console.print(f"{archive}: {size_of(archive):,} bytes", highlight=False)

    console.rule("3/3 serve raw events")
    events = first_events(run, COMPARED)
    served = (through_torchserve if framework == "torch" else through_tfserving)(
        folder / kind, events, console
    )
    difference = float(np.abs(served - offline(run, events)).max())

    training = metrics["training"]
    agree = difference <= TOLERANCE
    verdict = "equal" if agree else "DIFFERENT from"
    aucs = ", ".join(f"{name} {metrics[name]['auc']:.3f}" for name in ("train", "test"))
    console.print(
        Panel(
            f"events streamed   {training['events']:,} in training, "
            f"{training['events_per_second']:,} events/s ({training['limit']} is the limit)\n"
            f"AUC               {aucs}\n"
            f"served            {verdict} to offline predictions on {len(events):,} raw events "
            f"(largest difference {difference:.1e})\n"
            f"pictures          {folder}/run/roc.png, scores.png\n"
            f"archive           {archive}\n"
            f"time              {time.perf_counter() - started:.0f} s",
            title="ttH(bb) against ttbar and QCD",
        )
    )
    return 0 if agree else 1


def through_torchserve(folder: Path, events: list[dict[str, Any]], console: Console) -> np.ndarray:
    """Predictions of a real TorchServe."""
    from hepdata_serving.client import predict
    from hepdata_serving.torchserve.server import TorchServer

    with TorchServer(folder, port=0) as server:
        console.print(f"ready: {server.url}", highlight=False)
        return np.array(predict(server.url, events))


def through_tfserving(folder: Path, events: list[dict[str, Any]], console: Console) -> np.ndarray:
    """Predictions of a server with TF Serving's REST routes."""
    from hepdata_serving.tfserving.client import predict
    from hepdata_serving.tfserving.server import TFServer

    with TFServer(folder, port=0, grpc_port=0) as server:
        console.print(f"ready: {server.url}", highlight=False)
        return np.array(predict(server.url, events))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def first_events(run: Run[Any], count: int) -> list[dict[str, Any]]:
    """Raw events of all samples in turn, as a client would send them."""
    files = [name for sample in run.config.samples for name in sample.files]
    manifest = scan_inputs([f"{name}:Events" for name in files], run.transform)
    branches = [branch.name for branch in run.transform.branches]
    each = -(-count // len(manifest.files))
    taken: dict[str, list[dict[str, Any]]] = {}
    for unit in raw_events(manifest, branches):
        own = taken.setdefault(unit.file.url, [])
        own += events_from_columns(unit.columns)[: each - len(own)]
    return [event for events in taken.values() for event in events][:count]


def offline(run: Run[Any], events: Sequence[dict[str, Any]]) -> np.ndarray:
    """Predictions of the run itself."""
    columns, faults = columns_from_events(events, run.transform)
    if faults:
        raise SystemExit(f"events refused: {faults}")
    made = run.transform(run.transform.prepare(columns))
    return run.score(run.transform.model_input(made.arrays))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"))
    parser.add_argument("--framework", choices=SERVER, default="torch")
    arguments = parser.parse_args()
    sys.exit(main(arguments.folder, arguments.framework))
