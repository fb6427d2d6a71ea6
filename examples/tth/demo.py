"""The main job, end to end: stream ROOT files, train, export, serve raw events, compare.

Run it with ``make demo``. It uses the ttH sample under examples/data.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.panel import Panel

from hepdata_adapters.common.config_file import load_config
from hepdata_adapters.common.events import columns_from_events, events_from_columns
from hepdata_adapters.common.inference import raw_events, scan_inputs
from hepdata_adapters.torch.run import load_run
from hepdata_adapters.torch.train import fit
from hepdata_serving.client import predict
from hepdata_serving.torchserve.from_run import export_run
from hepdata_serving.torchserve.server import TorchServer

HERE = Path(__file__).resolve().parent
COMPARED = 1000
TOLERANCE = 1e-6


def main(folder: Path) -> int:
    """Run everything into ``folder``; 0 if served and offline predictions agree."""
    console = Console()
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    console.rule("1/3 train on ROOT files")
    metrics = fit(load_config(HERE / "config.yaml"), folder / "run")
    run = load_run(folder / "run")

    console.rule("2/3 export for TorchServe")
    archive = export_run(run, folder / "torchserve")
    console.print(f"{archive}: {archive.stat().st_size:,} bytes", highlight=False)

    console.rule("3/3 serve raw events")
    events = first_events(run, COMPARED)
    with TorchServer(folder / "torchserve", port=0) as server:
        console.print(f"ready: {server.url}", highlight=False)
        served = np.array(predict(server.url, events))
    difference = float(np.abs(served - offline(run, events)).max())

    training = metrics["training"]
    agree = difference <= TOLERANCE
    verdict = "equal" if agree else "DIFFERENT from"
    aucs = ", ".join(f"{name} {metrics[name]['auc']:.3f}" for name in ("train", "test"))
    console.print(
        Panel(
            f"events streamed   {training['events']:,} in training, "
            f"{training['events_per_second']:,} events/s (reading, transform and training)\n"
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


def first_events(run: Run, count: int) -> list[dict[str, object]]:
    """Raw events of all samples in turn, as a client would send them."""
    files = [name for sample in run.config.samples for name in sample.files]
    manifest = scan_inputs([f"{name}:Events" for name in files], run.transform)
    branches = [feature.branch for feature in run.transform.features]
    each = -(-count // len(manifest.files))
    taken: dict[str, list[dict[str, object]]] = {}
    for unit in raw_events(manifest, branches):
        own = taken.setdefault(unit.file.url, [])
        own += events_from_columns(unit.columns)[: each - len(own)]
    return [event for events in taken.values() for event in events][:count]


@torch.inference_mode()
def offline(run: Run, events: list[dict[str, object]]) -> np.ndarray:
    """Predictions of the run itself."""
    columns, faults = columns_from_events(events, run.transform)
    if faults:
        raise SystemExit(f"events refused: {faults}")
    return run.scorer(torch.from_numpy(run.transform(columns).x)).numpy()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
