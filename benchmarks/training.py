"""What ``fit`` trains in a second: by batch size, by threads of a step, and beside other programs.

    python benchmarks/training.py examples/tth/config.yaml --repeat 3
    python benchmarks/training.py examples/tth/config.yaml --set "model.hidden=[1024,1024,1024]"
    python benchmarks/training.py examples/tth/config.yaml --auc

Each figure is events/s of the epochs of a ``fit`` in a process of its own: the median of
``--repeat`` turns, in which all columns take turns. Columns: threads of a step (``spin``: of all
cores, whose idle threads spin, as is torch's default; ``sleep``: with OMP_WAIT_POLICY=PASSIVE);
``loop`` is the same step in a plain Python loop over the same loader, one thread, so that the
difference is Lightning's and ours (two classes only). Rows: alone; two trainings at once (each of
them); beside one endless loop on each core. A training that takes longer than ``--limit`` seconds
is ended: 0 events/s.
With ``--auc`` it prints instead what early stopping leaves, for each batch size: the AUC of
validation over ``--repeat`` seeds, and the medians of the epochs and the seconds of training.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

CORES = len(os.sched_getaffinity(0))
WAYS: dict[str, tuple[int, dict[str, str]]] = {
    "1": (1, {}),
    f"{CORES}, spin": (CORES, {"OMP_WAIT_POLICY": ""}),
    f"{CORES}, sleep": (CORES, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "loop": (0, {}),
}


def train(config: str, overrides: list[str], threads: int) -> dict[str, Any]:
    """One training, in this process."""
    import torch

    from hepdata_adapters import load_config
    from hepdata_adapters.torch.training import train

    parsed = load_config(config, [*overrides, f"training.threads={threads or 1}"])
    if not threads:
        torch.set_num_threads(1)
        return {"rate": plain_loop(parsed)}
    with tempfile.TemporaryDirectory() as folder:
        metrics = train.fit(parsed, folder)
    training = metrics["training"]
    return {
        "rate": training["events_per_second"], "auc": metrics["validation"]["auc"],
        "epochs": training["epochs"], "seconds": training["seconds_training"],
    }  # fmt: skip


def plain_loop(config: Any) -> float:
    """Events per second of the same steps without Lightning, callbacks and validation."""
    import torch

    from hepdata_adapters.torch import RootDataModule, weighted_loss
    from hepdata_adapters.torch.training.models import build_model

    training = config.training
    data = RootDataModule(config, batch_size=training.batch_size, progress=False)
    net = build_model(config.model, data.prepared.transform.model_shape, 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=training.learning_rate)
    loader, events, start = data.train_dataloader(), 0, 0.0
    for epoch in range(training.epochs + 1):
        if epoch == 1:  # the first one loads kernels, which `fit` has done by then
            events, start = 0, time.perf_counter()
        for batch in loader:
            optimizer.zero_grad()
            loss = weighted_loss(net(batch["x"])[:, 0], batch["label"], batch["weight"], "binary")
            loss.backward()
            optimizer.step()
            events += len(batch["x"])
    return events / (time.perf_counter() - start)


def start(config: str, overrides: list[str], way: str) -> subprocess.Popen[str]:
    """A training in a process of its own."""
    threads, wanted = WAYS[way]
    unset = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {name: value for name, value in wanted.items() if value}
    command = [sys.executable, __file__, config, "--child", json.dumps([overrides, threads])]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
    )


def answer(child: subprocess.Popen[str], limit: float | None = None) -> dict[str, Any]:
    """What a training said at its end."""
    try:
        said = child.communicate(timeout=limit)[0].splitlines()
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return {"rate": 0}
    if child.returncode:
        raise SystemExit(f"a training failed: {child.args}")
    found: dict[str, Any] = json.loads(said[-1])
    return found


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """So many other programs that compute all the time."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def speed(config: str, overrides: list[str], sizes: list[int], repeat: int, limit: int) -> Table:
    """Events per second by batch size, company and threads."""
    table = Table("batch", "beside", *WAYS)
    for size in sizes:
        own = [*overrides, f"training.batch_size={size}"]
        for beside, trainings, others in (("alone", 1, 0), ("itself", 2, 0), ("busy", 1, CORES)):
            rates: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(repeat):
                for way, found in rates.items():
                    with busy_cores(others):
                        children = [start(config, own, way) for _ in range(trainings)]
                        found += [answer(child, limit)["rate"] for child in children]
            medians = [f"{statistics.median(found):,.0f}" for found in rates.values()]
            table.add_row(f"{size}", beside, *medians)
    return table


def quality(config: str, overrides: list[str], sizes: list[int], repeat: int) -> Table:
    """The AUC that is reached by batch size, over seeds; trained until patience ends it."""
    table = Table("batch", "AUC of validation (lowest, highest)", "epochs", "seconds")
    for size in sizes:
        found = [
            answer(start(config, [*overrides, f"training.batch_size={size}",
                                  f"training.seed={seed}"], "1"))
            for seed in range(repeat)
        ]  # fmt: skip
        aucs = [one["auc"] for one in found]
        epochs, seconds = (
            statistics.median(one[name] for one in found) for name in ("epochs", "seconds")
        )
        table.add_row(
            f"{size}", f"{statistics.median(aucs):.4f} ({min(aucs):.4f}, {max(aucs):.4f})",
            f"{epochs:.0f}", f"{seconds:.1f}",
        )  # fmt: skip
    return table


def main(
    config: Annotated[str, typer.Argument(help="Config of the training.")],
    sizes: Annotated[list[int], typer.Option("--batch", help="Batch sizes.")] = [128, 512, 4096],  # noqa: B006
    overrides: Annotated[list[str], typer.Option("--set", help="Of the config.")] = [],  # noqa: B006
    epochs: Annotated[int, typer.Option(min=2)] = 4,
    repeat: Annotated[int, typer.Option(min=1, help="Turns, or seeds.")] = 3,
    limit: Annotated[int, typer.Option(min=1, help="Seconds of a training.")] = 60,
    auc: Annotated[bool, typer.Option("--auc", help="The AUC instead of the speed.")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure and print the table."""
    if child:
        print(json.dumps(train(config, *json.loads(child))))
        return
    limits = ["training.epochs=200"] if auc else [f"training.epochs={epochs}"]
    own = [*overrides, *limits]
    table = quality(config, own, sizes, repeat) if auc else speed(config, own, sizes, repeat, limit)
    console = Console()
    console.print(table)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    console.print(f"{CORES} cores; load average {load} (1, 5, 15 minutes, these runs included)")


if __name__ == "__main__":
    typer.run(main)
