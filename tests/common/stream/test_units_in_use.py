"""Units in use stay decompressed until their events are delivered, also where room is scarce."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import uproot

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.memory import buffer_of

UNIT, UNITS, STREAMS = 2048, 8, 2


def write(path: Path, seed: int) -> str:
    random = np.random.default_rng(seed)
    with uproot.recreate(path) as file:
        file.mktree("Events", {"pt": "float32", "eta": "float32"})
        for _ in range(UNITS):
            file["Events"].extend(
                {name: random.normal(size=UNIT).astype(np.float32) for name in ("pt", "eta")}
            )
    return str(path)


@pytest.mark.parametrize("shuffle", [True, False])
def test_two_samples_read_each_unit_once_where_one_more_than_those_in_use_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffle: bool
) -> None:
    """The unit used last went first, which was the next one needed: each was read three times."""
    samples = [
        {"files": write(tmp_path / f"{label}.root", label), "label": label} for label in (0, 1)
    ]
    sampling = {"chunk_size": 300, "canonical_workers": STREAMS}
    config = DatasetConfig(samples=samples, sampling=sampling)
    found = Dataset.prepare(config)
    buffer = buffer_of(found.transform, config.sampling, found.specs)
    units = (len(samples) * STREAMS + 1) * UNIT * 2 * np.dtype(np.float32).itemsize
    reading = {"memory": buffer.nbytes + units, "threads": 1}
    dataset = Dataset.prepare(
        config.model_copy(update={"reading": type(config.reading)(**reading)})
    )
    assert len(dataset.manifest.files[0].units) == UNITS + 1
    reads: Counter[tuple[str, int]] = Counter()
    read = Source.read

    def counted(source: Source, file: object, start: int, stop: int) -> object:
        reads[file.url, start] += 1  # type: ignore[attr-defined]
        return read(source, file, start, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(Source, "read", counted)
    with EventStream(dataset, None) as stream:
        events = sum(
            len(batch["x"])
            for batch in EpochOptions(64, shuffle=shuffle, seed=0).epoch().batches(stream, None)
        )
    assert events == len(samples) * UNITS * UNIT
    assert len(reads) == len(samples) * UNITS
    # where a stream ends in the middle of a unit, the next one reads it, too
    assert reads.total() <= len(reads) + len(samples) * (STREAMS - 1)
