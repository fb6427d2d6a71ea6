"""What is made of the measurements: rates, tables, the limit in words, advice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from hepdata_adapters.common.config.dataset_config import DEFAULT_MEMORY, RunConfig
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.runs.bench import (
    Lap,
    Measured,
    Rate,
    Throughput,
    measure,
    stage_rows,
)
from hepdata_adapters.common.runs.process_usage import descendants, peak_memory, usage
from hepdata_adapters.common.runs.stages import Frame, Seen
from hepdata_adapters.common.runs.throughput_advice import advice_for, limit_of, remarks_on
from hepdata_adapters.common.runs.throughput_setting import Memory, Setting, setting_of
from hepdata_adapters.common.stream.dataset import Dataset
from tests.helpers.samples import write_events

FRAME = Frame("hepdata_adapters.common.files.read", "read")
MIB = 2**20


def measured(rate: float, **stages: float) -> Measured:
    """stages: seconds of each."""
    seconds = {Seen(name.replace("_", " "), FRAME): spent for name, spent in stages.items()}
    counted = Rate(int(rate * 10), 10.0, 4000, 1000, 100, 1.5)
    return Measured(counted, stage_rows(seconds, counted.events), rate, 0.1, 2.0, 500 * MIB)


MEMORY = Memory(
    budget=DEFAULT_MEMORY, given=False, streams=4, chunk_size=8192, event_bytes=3000,
    chunks=90 * MIB, ahead=50 * MIB, units=500 * MIB, data=1500 * MIB, data_round=600 * MIB,
    available=8000 * MIB,
)  # fmt: skip
SETTING = Setting(
    framework="torch", batch_size=128, workers=0, threads=2, cores=2, load=0.3, files=10,
    events=600_000, round=100_000, tree="TTree", compression="ZSTD", stored=2000.0, remote=False,
    read_columns=74, columns=594, cache=None, memory=MEMORY,
)  # fmt: skip
FAST = measured(400_000.0, forward=3, backward=3, loop=4)
SLOW = measured(20_000.0, forward=2, backward=2, optimiser=1, metrics=1, loop=4)
READ = measured(100_000.0, fetch=1, decompress=5, decode=2, transform=2, waiting=9)


def test_shares_add_up_and_waiting_is_none_of_them():
    rows = READ.stages
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert [row.stage for row in rows] == ["fetch", "decompress", "decode", "transform", "waiting"]
    assert (rows[-1].share, rows[-1].seconds) == (0, 9)
    assert sum(row.us_per_event for row in rows[:-1]) == pytest.approx(10)
    assert stage_rows({}, 0) == ()


@pytest.mark.parametrize(
    ("step", "both", "who", "stage", "said"),
    [
        (FAST, measured(90_000.0), "reading", "decompress",
         "reading is the limit: 100,000 events/s, where the training step alone does 400,000 "
         "events/s; together they do 90,000 events/s; decompress takes 50% of the thread time of "
         "reading (5.00 µs an event)"),
        (SLOW, measured(18_000.0), "step", "loop",
         "the training step is the limit: 20,000 events/s, where reading alone does 100,000"),
        (measured(110_000.0, forward=1), measured(50_000.0), "both", "decompress",
         "about equal; together they do 50,000 events/s; decompress takes 50%"),
        (None, None, "reading", "decompress", "reading alone was measured: 100,000 events/s"),
    ],
)  # fmt: skip
def test_the_limit_is_named(step, both, who, stage, said):
    limit = limit_of(Throughput(READ, None, step, both))
    assert (limit.who, limit.stage) == (who, stage)
    assert said in limit.text


def test_the_loader_with_workers_is_what_the_step_is_compared_with():
    found = Throughput(READ, measured(10_000.0), SLOW, measured(9_000.0))
    assert limit_of(found).text.startswith("reading is the limit: 10,000 events/s")


def overrides(found: Throughput, setting: Setting) -> list[str]:
    return [one.override for one in advice_for(found, setting) if one.override]


def test_advice_is_for_the_limit():
    reading = Throughput(READ, None, FAST, FAST)
    assert overrides(reading, SETTING) == ["reading.memory=1790 MiB"]
    assert "--set 'reading.memory=1790 MiB'" in str(advice_for(reading, SETTING)[0])
    assert "ZSTD: written anew with LZ4" in "\n".join(map(str, advice_for(reading, SETTING)))
    single = replace(SETTING, threads=1)
    assert overrides(reading, single)[0] == "reading.threads=2"
    busy = replace(single, load=1.5)
    assert "reading.threads=2" not in overrides(reading, busy)
    kept = replace(SETTING, memory=replace(MEMORY, units=2000 * MIB))
    assert overrides(reading, kept) == []
    step = Throughput(READ, None, SLOW, SLOW)
    assert overrides(step, SETTING) == ["training.batch_size=1024"]
    assert overrides(step, replace(SETTING, batch_size=2048)) == []
    both = Throughput(READ, None, measured(100_000.0, loop=1), FAST)
    assert len(overrides(both, SETTING)) == 2


def test_a_folder_for_later_epochs_is_named_only_where_a_config_can_say_it():
    large = replace(SETTING, memory=replace(MEMORY, data=10**12))
    found = Throughput(READ, None, None, None)
    assert overrides(found, large) == []
    assert overrides(found, replace(large, cache="none")) == ["reading.cache=FOLDER"]
    assert overrides(found, replace(large, cache="/fast")) == []


@pytest.mark.parametrize(
    ("compression", "said"), [("LZMA", "ZSTD"), ("ZLIB", "ZSTD"), ("LZ4", ""), ("none", "")]
)
def test_files_are_written_anew_only_where_that_helps(compression, said):
    told = advice_for(Throughput(READ, None, None, None), replace(SETTING, compression=compression))
    text = "\n".join(str(one) for one in told)
    assert ("written anew" in text) == bool(said)
    assert said in text


def test_the_storage_and_small_batches_are_named():
    slow = measured(1000.0, fetch=8, decode=1)
    remote = replace(SETTING, remote=True)
    told = "\n".join(map(str, advice_for(Throughput(slow, None, None, None), remote)))
    assert "the storage gives the bytes too slowly: a copy of the files on this machine" in told
    small = measured(1000.0, shuffle=4, hand_over=4, decode=1)
    assert "training.batch_size=1024" in overrides(Throughput(small, None, None, None), SETTING)


def test_units_that_are_read_again_and_again_need_more_memory():
    large = replace(SETTING, memory=replace(MEMORY, data=10**12), stored=0.5e-3)
    found = Throughput(READ, None, None, None)  # 1 byte for each 1000 events
    (told,) = [one for one in advice_for(found, large) if one.override]
    assert "decompressed 2.0 times an epoch" in told.text
    assert told.override == "reading.memory=800 MiB"
    assert overrides(found, replace(large, stored=1e-3)) == []


def test_remarks_say_what_is_special():
    found = Throughput(READ, None, None, None)
    assert remarks_on(found, SETTING) == [
        "10% of what was read of files came from disk, not the page cache"
    ]
    busy = replace(SETTING, load=7.0, events=1000, memory=replace(MEMORY, units=10**10))
    text = "\n".join(remarks_on(found, busy))
    assert "others wanted 7.0 cores of 2" in text
    assert "all events fit into memory" in text
    assert "fewer than the chunks in memory hold" in text
    short = replace(SETTING, events=10**8, round=2 * 10**6)
    assert "take more --seconds" in "\n".join(remarks_on(found, short))


def test_a_lap_counts_what_comes_after_the_warm_up():
    with Lap(0.2, 10, 100, sampled=False) as lap:
        assert not lap(50, 500)
        assert not lap(50, 500)  # an epoch: the warm-up is over
        while not lap(10, 40):
            time.sleep(0.01)
    found = lap.measured()
    assert found.rate.nbytes == 4 * found.rate.events
    assert found.rate.seconds == pytest.approx(0.2, abs=0.1)
    assert found.epochs == pytest.approx(1 + found.rate.events / 100)
    assert (found.stages, found.watched) == ((), 0)
    with Lap(1, 1, 1, sampled=False) as empty, pytest.raises(DataError, match="no batch"):
        empty.measured()


def test_a_warm_up_waits_for_the_first_chunks():
    with Lap(0.05, 0, 1000, least=100, sampled=False) as lap:
        for _ in range(9):
            assert not lap(10)
            time.sleep(0.02)
        while not lap(10):
            time.sleep(0.005)
    assert lap.measured().rate.events < 200


class SlowRig:
    """Batches that take a known time to read."""

    no_step = "it has none"

    def batches(self, workers):
        while True:
            time.sleep(0.005)
            yield 100, 400


def test_a_rig_without_a_step_is_measured_all_the_same():
    found = measure(SlowRig(), 1000, 0.3, 0, lambda line: None)
    assert (found.step, found.both, found.outside) == (None, None, None)
    assert 100 / 0.03 < found.loader.rate.events_per_second <= 100 / 0.005
    assert found.loader.watched > 0


def test_what_children_take_is_counted():
    before = usage()
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        try:
            if not os.path.isdir("/proc/self"):
                pytest.skip("there is no /proc here")
            assert child.pid in descendants()
            assert peak_memory(child.pid) > MIB
            assert usage().since(before).cpu > 0.25
        finally:
            child.kill()
    assert child.pid not in descendants()
    assert peak_memory(child.pid) is None


@pytest.mark.parametrize("rntuple", [False, True])
def test_the_setting_says_what_was_read(tmp_path, rntuple):
    paths = [write_events(tmp_path / f"{n}.root", 400, n, rntuple=rntuple) for n in (0, 1)]
    config = RunConfig.model_validate(
        {
            "samples": [{"files": str(path), "label": n} for n, path in enumerate(paths)],
            "features": ["MET", "Jet_pt"],
            "training": {"batch_size": 32, "workers": 3},
            "reading": {"threads": 5},
            "sampling": {"chunk_size": 100},
        }
    )
    prepared = Dataset.prepare(config)
    setting = setting_of(prepared, config, 3)
    assert setting.tree == ("RNTuple" if rntuple else "TTree")
    assert setting.compression == "ZLIB"
    assert 10 < setting.stored * setting.events / 800 < 40
    assert (setting.files, setting.threads, setting.workers, setting.batch_size) == (2, 5, 3, 32)
    assert setting.events == prepared.events("train") == setting.round
    assert (setting.columns, setting.remote) == (prepared.transform.num_features, False)
    memory = setting.memory
    assert memory.chunks == memory.event_bytes * 100 * memory.streams
    assert memory.chunks + memory.ahead + memory.units == memory.budget == DEFAULT_MEMORY
    assert memory.keeps_all
    width = 4 + (8 + 4 * prepared.specs.branches["Jet_pt"].lengths.mean)
    assert memory.data == pytest.approx(width * 800, rel=0.01)
    tight = config.model_copy(
        update={"reading": config.reading.model_copy(update={"memory": memory.chunks + 90_000})}
    )
    found = setting_of(Dataset.prepare(tight), tight, 0).memory
    assert found.given
    assert found.chunks + found.ahead + found.units == found.budget
