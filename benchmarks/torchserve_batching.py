"""How TorchServe's batchSize, maxBatchDelay and workers decide the rate of single-event requests.

Run it with: ``python benchmarks/torchserve_batching.py`` (about three minutes on 2 cores). The
client shares the machine with the server, so the figures compare settings, not machines.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_serving.answers import predict_events
from hepdata_serving.exportable import Exportable
from hepdata_serving.torchserve.export import export_torchserve
from hepdata_serving.torchserve.program import load_program, save_program
from hepdata_serving.torchserve.properties import changed, parse
from hepdata_serving.torchserve.server import TorchServer

NETS = {"1024-1024": (1024, 1024), "128-64": (128, 64)}
FLAT, JETS = 22, 8


@dataclass(frozen=True)
class Setting:
    """One way to run a server."""

    batch: int
    delay_ms: int
    workers: int


@dataclass(frozen=True)
class Result:
    """Requests a second, and latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


class Scorer(torch.nn.Module):
    """A dense net with a sigmoid, ``x (n, d)`` to ``(n,)``."""

    def __init__(self, num_features: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for width in widths:
            layers += [torch.nn.Linear(num_features, width), torch.nn.ReLU()]
            num_features = width
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(num_features, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.net(x)).squeeze(1)


def main(
    requests: Annotated[int, typer.Option(help="Requests measured for each setting.")] = 2000,
    connections: Annotated[int, typer.Option(help="Connections kept busy.")] = 32,
    nets: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(NETS)}.")] = None,
    batches: Annotated[str, typer.Option(help="batchSize:maxBatchDelay, comma-separated.")] = (
        "1:2,16:2,16:10"
    ),
    workers: Annotated[str, typer.Option(help="Numbers of workers, comma-separated.")] = "1,2",
) -> None:
    """Print requests/s and latencies for every combination."""
    settings = [
        Setting(int(batch), int(delay), int(count))
        for count in workers.split(",")
        for batch, delay in (pair.split(":") for pair in batches.split(","))
    ]
    for net in nets or list(NETS):
        measured: dict[Setting, Result] = {}
        with tempfile.TemporaryDirectory() as folder:
            events = export_net(Path(folder), net)
            for setting in track(settings, f"net {net}", transient=True):
                measured[setting] = measure(Path(folder), events, setting, requests, connections)
        Console().print(table(net, connections, measured))


def export_net(folder: Path, net: str) -> list[dict[str, object]]:
    """Export an untrained net; return raw events to ask it about."""
    torch.manual_seed(1)
    flat = [
        FeatureTransform(branch=f"flat{i}", kind="flat", dtype="float32", width=1)
        for i in range(FLAT)
    ]
    jets = FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=JETS)
    transform = Transform.of_vector(VectorTransform(features=(*flat, jets)))
    rng = np.random.default_rng(1)
    events: list[dict[str, object]] = [
        {f"flat{i}": float(rng.normal()) for i in range(FLAT)}
        | {"Jet_pt": rng.exponential(1, rng.poisson(5)).tolist()}
        for _ in range(100)
    ]
    scorer = Scorer(transform.num_features, NETS[net]).eval()
    score = load_program(save_program(scorer, transform.zeros(3)))
    model = Exportable(
        name="bench",
        scorer=scorer,
        transform=transform,
        task="binary",
        outputs=["signal"],
        golden_events=events[:2],
        golden_predictions=predict_events(events[:2], transform, score),
        metadata={},
    )
    export_torchserve(folder, model)
    return events


def measure(
    folder: Path, events: list[dict[str, object]], setting: Setting, count: int, connections: int
) -> Result:
    """Start a server with this setting and load it."""
    path = folder / "config.properties"
    text = path.read_text()
    models = json.loads(parse(text)["models"])
    models["bench"]["1.0"] |= {"batchSize": setting.batch, "maxBatchDelay": setting.delay_ms}
    path.write_text(changed(text, {"models": json.dumps(models)}))
    with TorchServer(folder, 0, workers=setting.workers) as server:
        requests = [request_bytes(server.url, event) for event in events]
        asyncio.run(load(server.url, requests, count // 4, connections))  # warm-up
        started = time.perf_counter()
        latencies = asyncio.run(load(server.url, requests, count, connections))
        seconds = time.perf_counter() - started
    p50, p99 = (1000 * float(value) for value in np.quantile(latencies, [0.5, 0.99]))
    return Result(len(latencies) / seconds, p50, p99)


def request_bytes(url: str, event: dict[str, object]) -> bytes:
    """A whole HTTP request for one event."""
    place = urlsplit(url)
    body = json.dumps({"instances": [event]}).encode()
    head = (
        f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def load(url: str, requests: list[bytes], count: int, connections: int) -> list[float]:
    """Latencies in seconds of ``count`` requests over connections that are kept open."""
    place = urlsplit(url)
    numbers = iter(range(count))
    latencies: list[float] = []

    async def keep_busy() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        for number in numbers:
            started = time.perf_counter()
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.lower().splitlines()[1:] if line)
            await reader.readexactly(int(fields[b"content-length"]))
            if b" 200" not in head.partition(b"\r\n")[0]:
                raise RuntimeError(head.decode())
            latencies.append(time.perf_counter() - started)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(keep_busy() for _ in range(connections)))
    return latencies


def table(net: str, connections: int, measured: dict[Setting, Result]) -> Table:
    """The figures, with rates as ratios to the first setting's."""
    title = f"net {net}, {FLAT + JETS} inputs, single events, {connections} connections"
    result = Table(title=title)
    for name in ("workers", "batchSize", "maxBatchDelay", "requests/s", "ratio", "p50", "p99"):
        result.add_column(name, justify="right")
    first = next(iter(measured.values()))
    best = max(found.rate for found in measured.values())
    for setting, found in measured.items():
        result.add_row(
            str(setting.workers),
            str(setting.batch),
            f"{setting.delay_ms} ms",
            f"{found.rate:,.0f}",
            f"{found.rate / first.rate:.2f}",
            f"{found.p50:.1f} ms",
            f"{found.p99:.1f} ms",
            style="bold" if found.rate == best else None,
        )
    return result


if __name__ == "__main__":
    typer.run(main)
