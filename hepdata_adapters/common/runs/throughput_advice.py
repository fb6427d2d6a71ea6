"""Who is the limit of a training, in words, and what to change.

docs/performance.md has what following it gave on data of the paper's shape. What would not help
where it is measured is not said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Any, Literal

from hepdata_adapters.common.runs.bench import Measured, StageRow, Throughput
from hepdata_adapters.common.runs.stages import READING
from hepdata_adapters.common.runs.throughput_setting import Memory, Setting

EQUAL = 0.8
"""Of the faster one's rate; the slower one is then not alone to blame."""
LARGE = 0.25
"""The share of a stage that is worth a change."""
BUSY = 1.0
"""Processes of others for each core, from which on rates are those of a shared machine."""
REPEATED = 1.5
"""Times that bytes are read in an epoch, from which on memory is too small."""
GOOD_BATCH = 1024
SPARE = 0.5
"""Of the available memory: what reading may take, as the model needs some, too."""
_FASTER = {"LZMA": "ZSTD (hadd -f505) or LZ4 (-f404)", "ZLIB": "ZSTD (hadd -f505) or LZ4 (-f404)",
           "ZSTD": "LZ4 (hadd -f404; the files grow)"}  # fmt: skip


@dataclass(frozen=True)
class Limit:
    """who: ``reading``, ``step`` or ``both``; stage: that takes most of its time."""

    who: Literal["reading", "step", "both"]
    stage: str
    text: str

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"who": self.who, "stage": self.stage, "text": self.text}


@dataclass(frozen=True)
class Advice:
    """What to change, and the key of the config that does it, as ``--set`` takes it, if any."""

    text: str
    override: str = ""

    def __str__(self) -> str:
        return f"{self.text}: --set {quote(self.override)}" if self.override else self.text

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"text": self.text, "set": self.override}


def limit_of(found: Throughput) -> Limit:
    """Who is the limit."""
    read, step, both = found.delivered, found.step, found.both
    slow = _slowest(found.loader)
    if step is None:
        text = f"reading alone was measured: {_speed(read)}; {_takes(slow, 'reading')}"
        return Limit("reading", slow.stage if slow else "", text)
    reading, training = read.rate.events_per_second, step.rate.events_per_second
    together = f"; together they do {_speed(both)}" if both else ""
    if reading < EQUAL * training:
        text = f"reading is the limit: {_speed(read)}, where the training step alone does "
        return Limit(
            "reading",
            slow.stage if slow else "",
            f"{text}{_speed(step)}{together}; {_takes(slow, 'reading')}",
        )
    most = _slowest(step)
    if training < EQUAL * reading:
        text = f"the training step is the limit: {_speed(step)}, where reading alone does "
        return Limit(
            "step",
            most.stage if most else "",
            f"{text}{_speed(read)}{together}; {_takes(most, 'the step')}",
        )
    text = f"reading ({_speed(read)}) and the training step ({_speed(step)}) are about equal"
    return Limit(
        "both",
        slow.stage if slow else "",
        f"{text}{together}; {_takes(slow, 'reading')}, {_takes(most, 'the step')}",
    )


def advice_for(found: Throughput, setting: Setting) -> list[Advice]:
    """What to change, the most useful first."""
    limit = limit_of(found)
    advice = []
    if limit.who != "step":
        advice += list(_for_reading(found, setting))
    if limit.who != "reading" and found.step:
        advice += list(_for_step(found.step, setting))
    return advice


def remarks_on(found: Throughput, setting: Setting) -> list[str]:
    """What is to be known of the figures themselves."""
    remarks = []
    if setting.load is not None and setting.load > BUSY * setting.cores:
        remarks.append(
            f"others wanted {setting.load:.1f} cores of {setting.cores} when this began: the "
            f"rates are those of a shared machine"
        )
    read = found.loader.rate
    if read.read and read.from_disk is not None and not setting.memory.keeps_all:
        share = min(1.0, read.from_disk / read.read)
        remarks.append(f"{share:.0%} of what was read of files came from disk, not the page cache")
    if setting.memory.keeps_all and found.loader.epochs > 1:
        remarks.append("all events fit into memory: later epochs, as measured, read no file")
    if not setting.memory.keeps_all and read.events < setting.round < setting.events:
        remarks.append(
            f"{read.events:,} events were measured, and the streams read {setting.round:,} at a "
            f"time: before these are through, rates go up and down; take more --seconds"
        )
    if setting.events < setting.memory.chunk_size * setting.memory.streams:
        remarks.append(
            f"an epoch has {setting.events:,} events, fewer than the chunks in memory hold: "
            f"beginning one weighs more than with more data"
        )
    return remarks


def _for_reading(found: Throughput, setting: Setting) -> Iterator[Advice]:
    rows = {row.stage: row for row in found.loader.stages}
    share = {stage: rows[stage].share if stage in rows else 0.0 for stage in READING}
    spare = setting.cores > max(setting.workers, 1)
    own = [row for row in rows.values() if row.foreign and row.share > LARGE]
    for row in own:
        yield Advice(
            f"{row.share:.0%} of the time of reading is in {row.foreign}, which is not ours and "
            f"may hold the interpreter lock: let it work on whole arrays, or give it processes",
            f"training.workers={setting.cores}" if spare else "",
        )
    # with none of them free, a second thread made reading slower
    free = setting.load is None or setting.load + setting.threads <= setting.cores
    if setting.threads < setting.cores and free and not setting.workers:
        yield Advice(
            f"{setting.threads} of {setting.cores} cores read, and others are free",
            f"reading.threads={setting.cores}",
        )
    again = share["fetch"] + share["decompress"] + share["decode"]
    if again > LARGE and not setting.memory.keeps_all:
        yield from _kept(setting, again, times_read(found, setting))
    if share["decompress"] > LARGE and setting.compression in _FASTER:
        yield Advice(
            f"the files are compressed with {setting.compression}: written anew with "
            f"{_FASTER[setting.compression]} they take less time to decompress"
        )
    if share["fetch"] > LARGE:
        place = "a copy of the files on this machine" if setting.remote else "a faster disk"
        yield Advice(f"the storage gives the bytes too slowly: {place} helps")
    small = share["shuffle"] + share["hand over"] > LARGE
    if small and setting.batch_size < GOOD_BATCH:
        yield Advice(
            f"batches of {setting.batch_size} events cost more to cut and hand over than their "
            f"events: take larger ones",
            f"training.batch_size={GOOD_BATCH}",
        )
    if share["decode"] + share["transform"] > LARGE and not own:
        yield Advice(
            f"{setting.read_columns} branches become {setting.columns:,} columns: what the model "
            f"does not need (exclude), and padding that few events fill (length), costs its share"
        )


def times_read(found: Throughput, setting: Setting) -> float:
    """How often each byte of the files is read in an epoch; 0 where that is not known."""
    rate = found.loader.rate
    if rate.read is None or not setting.stored or rate.events < setting.round:
        return 0.0
    return rate.read / rate.events / setting.stored


def _kept(setting: Setting, share: float, times: float) -> Iterator[Advice]:
    """Units that stay in memory until they are read to their end, or for later epochs."""
    memory = setting.memory
    room = None if memory.available is None else SPARE * memory.available
    needed, in_turn = (_mebibytes(memory, data) for data in (memory.data, memory.data_round))
    saved = f"fetch, decompress and decode are {share:.0%} of reading"
    if times > REPEATED and room and needed * 2**20 >= room > in_turn * 2**20:
        yield Advice(
            f"each event is decompressed {times:.1f} times an epoch, as what the streams read from "
            f"at a time does not fit into memory",
            f"reading.memory={in_turn} MiB",
        )
    if room and needed * 2**20 < room:
        yield Advice(
            f"{saved}; all events decompressed take {memory.data / 2**30:,.2f} GiB, which "
            f"this machine has: later epochs then read no file",
            f"reading.memory={needed} MiB",
        )
    elif setting.cache == "none":
        yield Advice(
            f"{saved}; later epochs find the events decompressed in a folder on a fast disk",
            "reading.cache=FOLDER",
        )


def _mebibytes(memory: Memory, data: int) -> int:
    return -(-int(memory.chunks + memory.ahead + 1.1 * data) // 2**20)


def _for_step(step: Measured, setting: Setting) -> Iterator[Advice]:
    share = {row.stage: row.share for row in step.stages}
    around = sum(share.get(stage, 0.0) for stage in ("loop", "metrics", "optimiser"))
    if setting.batch_size < GOOD_BATCH and (around > LARGE or "graph" in share):
        yield Advice(
            f"a step of {setting.batch_size} events takes "
            f"{1e6 * setting.batch_size / step.rate.events_per_second:,.0f} µs, and much of that "
            f"whatever its size: take larger batches (and look at training.learning_rate)",
            f"training.batch_size={GOOD_BATCH}",
        )
    if share.get("forward", 0.0) + share.get("backward", 0.0) + share.get("graph", 0.0) > 0.5:
        yield Advice(
            "most of the step is the network itself: a smaller one (model.hidden), or a GPU "
            "(training.accelerator)"
        )


def _slowest(found: Measured) -> StageRow | None:
    return max((row for row in found.stages if row.share), key=lambda row: row.share, default=None)


def _takes(row: StageRow | None, whole: str) -> str:
    if row is None:
        return f"too little of {whole} was seen to say more"
    inside = f", most of it in {row.foreign}" if row.foreign else ""
    return (
        f"{row.stage} takes {row.share:.0%} of the thread time of {whole} "
        f"({row.us_per_event:.2f} µs an event){inside}"
    )


def _speed(found: Measured | None) -> str:
    return f"{found.rate.events_per_second:,.0f} events/s" if found else ""
