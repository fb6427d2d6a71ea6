"""What a stream will hold in memory, told before it takes it.

Each canonical stream has one chunk of transformed events, so the width of an event decides: one
event of a million values makes all of them a million columns wide under ``length: max``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from hepdata_adapters.common.config.dataset_config import DEFAULT_MEMORY, Reading, Sampling
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.events.split import SPLITS
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.transform.pipeline import VECTOR, Transform

BYTES_PER_COLUMN = 5
"""Of the vector: a float32 and its mask."""
USABLE = 0.8
"""The part of the available memory that the chunks may take: the model needs some, too."""
WORTH_TELLING = 2 * 2**30
COPIES = 2
"""Of the chunk that is being made: the next one of a stream, and what is joined for inputs."""
LEAST_FOR_UNITS = 128 * 2**20
"""Where nothing is said of memory, and the chunks take it all."""


@dataclass(frozen=True)
class Buffer:
    """The chunks of all streams that one process reads.

    rows: events in them. widest: the branch or input that takes most, of ``widest_bytes`` of the
    ``event_bytes`` of an event.
    """

    rows: int
    chunk: int
    event_bytes: int
    widest: str
    widest_bytes: int
    advice: str

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks, and of making one."""
        return self.event_bytes * (self.rows + COPIES * self.chunk)

    def __str__(self) -> str:
        share = self.widest_bytes / max(self.event_bytes, 1)
        return (
            f"the chunks in memory take about {self.nbytes / 1e9:,.1f} GB "
            f"({self.rows:,} events of {self.event_bytes:,} bytes, {share:.0%} of them "
            f"{self.widest}): {self.advice}"
        )


def buffer_of(transform: Transform, sampling: Sampling, specs: Specs) -> Buffer:
    """What the stream of a dataset holds at most, ragged inputs left out."""
    events = max(specs.events(split) for split in SPLITS)
    widths = {
        feature.branch: BYTES_PER_COLUMN * feature.width * (1 + feature.indicator)
        for feature in transform.features
    }
    for name, values in transform.empty.items():
        if name not in VECTOR and not isinstance(values, Jagged):
            widths[name] = prod(values.shape[1:]) * values.dtype.itemsize
    widest = max(widths, key=lambda name: widths[name], default="")
    chunk = min(sampling.chunk_size, events)
    return Buffer(
        rows=min(sampling.chunk_size * sampling.canonical_workers, events),
        chunk=chunk,
        event_bytes=sum(widths.values()),
        widest=widest,
        widest_bytes=widths.get(widest, 0),
        advice=_advice(widest, transform, specs),
    )


def unit_bytes(buffer: Buffer, reading: Reading) -> int:
    """Bytes that are left for decompressed units, of all processes together.

    Raises ConfigError where the memory that the config allows does not hold the chunks.
    """
    if reading.memory is None:
        return max(DEFAULT_MEMORY - buffer.nbytes, LEAST_FOR_UNITS)
    if buffer.nbytes > reading.memory:
        raise ConfigError(f"{buffer}; reading.memory is {reading.memory / 1e9:,.2f} GB: raise it")
    return int(reading.memory) - buffer.nbytes


def check_memory(buffer: Buffer, available: int | None) -> None:
    """Raise ConfigError where the chunks do not fit into the memory available, if it is known."""
    if available is not None and buffer.nbytes > USABLE * available:
        raise ConfigError(f"{buffer}; {available / 1e9:,.1f} GB are available here")


def _advice(widest: str, transform: Transform, specs: Specs) -> str:
    """What to write for the widest feature; else how to hold fewer events."""
    statistics = specs.branches.get(widest)
    lengths = statistics.lengths if statistics else None
    width = next((f.width for f in transform.features if f.branch == widest), 0)
    if lengths and width > 2 * max(1, usual := lengths.quantile(0.99)):
        return (
            f"write length: {max(1, usual)} for {widest}, which 99 % of the events do not exceed "
            f"(its longest has {lengths.max:,} values), or lower sampling.chunk_size"
        )
    return "lower sampling.chunk_size or sampling.canonical_workers"
