"""What a training is limited by: the words fit the figures, and the advice what can be changed."""

from __future__ import annotations

import pytest

from hepdata_adapters import DatasetConfig
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.runs import throughput
from hepdata_adapters.common.runs.throughput import BESIDE, Reading, Throughput, advice, reading_of

TURN, AHEAD = Reading("in turn", 0.5), Reading("ahead", 0.2)


@pytest.mark.parametrize(
    ("reading", "waited", "limit", "said"),
    [
        (TURN, 0.9, "step", "91% of the time; the data could give 11,111/s"),
        (TURN, 7.0, "reading", "waited 70% of the time; the steps alone could take 3,333/s"),
        (AHEAD, 1.5, "step", "it waited 15% of the time for data"),
        (AHEAD, 3.0, "reading", "waited 30% of the time; the steps alone could take 1,429/s"),
        (BESIDE, 4.0, "step", "the reader was busy 40% of the time"),
        (BESIDE, 9.9, "reading", "the reader was busy 99% of the time"),
    ],
)  # fmt: skip
def test_the_verdict_names_the_limit_with_figures(reading, waited, limit, said):
    found = Throughput(10_000, 10.0, waited, reading)
    assert found.limit == limit
    what = {"step": "the training step", "reading": "reading"}[limit]
    assert found.verdict == f"1,000 events/s: {what} is the limit ({said})"
    share = "reader busy" if reading is BESIDE else "waiting for data"
    assert found.brief.startswith(f"1,000 events/s ({share} ")


def test_a_training_of_no_events_has_no_rate_and_no_error():
    assert Throughput(0, 0.0, 0.0, TURN).brief == "0 events/s (waiting for data 0%)"


@pytest.mark.parametrize(
    ("options", "events", "expected"),
    [
        ({}, 400, TURN),  # all of it are first chunks
        ({}, 1000, Reading("ahead", 0.4)),
        ({}, 100_000, Reading("ahead", 0.1)),
        ({"reading": {"threads": 1}}, 100_000, TURN),
        ({"reading": {"threads": 1}, "training": {"workers": 1}}, 100_000, Reading("ahead", 0.1)),
        ({"training": {"workers": 1}}, 400, Reading("ahead", 0.5)),
        ({"training": {"devices": 2}}, 1000, Reading("ahead", 0.5)),
    ],
)
def test_how_a_training_reads_follows_from_its_config(monkeypatch, options, events, expected):
    monkeypatch.setattr(throughput, "default_threads", lambda: 2)
    samples = [{"files": "a.root", "label": 1}]
    sampling = {"chunk_size": 100, "canonical_workers": 4}
    found = reading_of(RunConfig(samples=samples, sampling=sampling, **options), events)
    assert found == expected


def config(**training):
    return RunConfig(samples=[{"files": "a.root", "label": 1}], training=training)


@pytest.mark.parametrize(
    ("cores", "training", "reading", "seconds", "threads", "said"),
    [
        (2, {}, 0.8, 1.0, (1, 1), "reading.cache=memory"),
        (2, {"epochs": 1}, 0.8, 1.0, (1, 1), "a larger training.batch_size"),
        (2, {"epochs": 1, "batch_size": 2000}, 0.8, 1.0, (1, 1), None),
        (2, {"batch_size": 100}, 0.1, 1.0, (1, 1), "a step takes 0.9 ms"),
        (2, {"batch_size": 2000}, 0.05, 0.2, (1, 1), None),  # short steps of large batches
        (2, {"batch_size": 1000}, 0.1, 100.0, (1, 1), None),
        (2, {"batch_size": 1000}, 0.1, 100.0, (1, 5), "training.threads=2"),
        (2, {"batch_size": 1000}, 0.1, 100.0, (2, 5), None),
    ],
)  # fmt: skip
def test_advice_is_what_there_is_left_to_change(
    monkeypatch, cores, training, reading, seconds, threads, said
):
    monkeypatch.setattr(throughput, "default_threads", lambda: cores)
    monkeypatch.setattr(throughput, "_load", lambda: 1.0)
    found = Throughput(100_000, seconds, reading, TURN)
    change = advice(found, config(**training), threads)
    assert change is None if said is None else change.startswith(said)


def test_beside_other_programs_no_setting_is_blamed(monkeypatch):
    monkeypatch.setattr(throughput, "default_threads", lambda: 2)
    monkeypatch.setattr(throughput, "_load", lambda: 8.3)
    found = Throughput(100_000, 1.0, 0.8, TURN)
    said = advice(found, config(), (1, 1))
    assert said.startswith("other programs compute here, too (load average 8.3 on 2 cores)")


def test_threads_in_a_config_are_a_number_or_auto():
    assert config().training.threads == "auto"
    assert config(threads=3).training.threads == 3
    for wrong in (0, -1, "all", 10**6):
        with pytest.raises(ValueError, match="threads"):
            config(threads=wrong)
    assert "threads" not in DatasetConfig.model_fields
