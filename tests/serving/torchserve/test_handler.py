"""The handler of an archive answers requests as it should, and refuses what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepdata_serving import integrity
from hepdata_serving.answers import MAX_REASONS, answer_batch, predict_events
from hepdata_serving.errors import ArchiveError
from hepdata_serving.integrity import SUMS, check_folder, folder_sums
from hepdata_serving.torchserve.handler import RawEventHandler
from tests.helpers.handlers import (
    FakeContext,
    ask,
    body,
    exported_archive,
    python_path,
    strict_json,
)
from tests.helpers.torchserve_example import (
    ExampleScorer,
    eager,
    example_events,
    example_transform,
    export_example,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_archive(tmp_path_factory)


@pytest.fixture
def unpacked(exported: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(exported) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


@pytest.fixture(scope="module")
def loaded(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> RawEventHandler:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(exported) as archive:
        archive.extractall(folder)
    handler = RawEventHandler()
    handler.initialize(FakeContext(folder))
    return handler


# --- answers -----------------------------------------------------------------------------------


def test_handler_answers_as_offline(loaded: RawEventHandler) -> None:
    events = example_events(50, seed=9)
    scorer = ExampleScorer(example_transform().num_features)
    offline = predict_events(events, example_transform(), eager(scorer))
    ((status, answer),) = ask(loaded, json.dumps({"instances": events}))
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], offline, rtol=0, atol=1e-6)


def test_bodies_of_any_type_and_form_data(loaded: RawEventHandler) -> None:
    text = body(*example_events(2))
    bodies = [text, bytearray(text), memoryview(text), text.decode(), json.loads(text)]
    answers = ask(loaded, *bodies)
    assert [status for status, _ in answers] == [200] * 5
    for _, answer in answers:
        # not bitwise: a kernel may round a row of another batch position differently
        assert answer["predictions"] == pytest.approx(answers[0][1]["predictions"], abs=1e-6)
    (form,) = loaded.handle([{"data": text}], FakeContext(Path()))
    assert len(json.loads(form)["predictions"]) == 2


def test_null_and_nan_are_the_same(loaded: RawEventHandler) -> None:
    event = example_events(2)[1]
    nan, null = ask(loaded, body(event | {"MET": float("nan")}), body(event | {"MET": None}))
    assert nan[0] == null[0] == 200
    assert nan[1]["predictions"] == pytest.approx(null[1]["predictions"], abs=1e-6)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe\xfd", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "must be an object"),
        (None, "must be an object"),
        (b'{"instance": []}', "has no 'instances', only ['instance']"),
        (b'{"instances": {"MET": 1}}', "must be a list"),
        (body(1), "1 of 1 instances cannot be used"),
    ],
)
def test_a_bad_request_spoils_nobody_else(
    bad: object, reason: str, loaded: RawEventHandler
) -> None:
    good = body(*example_events(3))
    ((_, alone),) = ask(loaded, good)
    first, refused, last = ask(loaded, good, bad, good)
    assert refused[0] == 400
    assert reason in refused[1]["error"]
    for status, answer in (first, last):
        assert status == 200
        assert answer["predictions"] == pytest.approx(alone["predictions"], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"MET": "high"}, "branch 'MET' takes numbers, not a string"),
        ({"nJet": 1.5}, "takes integers"),
        ({"HT": None}, "HT holds NaN or infinity"),
        ({"HT": float("nan")}, "HT holds NaN or infinity"),
        ({"vertex": [0.0]}, "takes 3 numbers, not 1"),
        ({"Lep_eta": [0.0] * 3}, "has 3 values, at most 2 fit"),
        ({"Jet_pt": 3.0}, "takes a list"),
        ({"trigger": 7}, "takes true or false"),
    ],
)
def test_a_bad_event_is_named_with_its_reason(
    change: dict[str, Any], reason: str, loaded: RawEventHandler
) -> None:
    events: list[dict[str, Any]] = example_events(5)
    events[3] |= change
    good, mixed, alone = ask(loaded, body(*example_events(5)), body(*events), body(events[3]))
    assert good[0] == 200
    assert len(good[1]["predictions"]) == 5
    assert mixed[0] == alone[0] == 400
    assert list(mixed[1]["instances"]) == ["3"]
    assert reason in mixed[1]["instances"]["3"]
    assert list(alone[1]["instances"]) == ["0"]


def test_a_missing_branch_is_named(loaded: RawEventHandler) -> None:
    event = example_events(1)[0]
    event["jet_pt"] = event.pop("Jet_pt")
    ((status, answer),) = ask(loaded, body(event))
    assert status == 400
    assert answer["instances"]["0"].startswith("branch 'Jet_pt' is missing; did you mean 'jet_pt'")


def test_no_events_no_requests_and_only_bad_ones(loaded: RawEventHandler) -> None:
    assert ask(loaded, body()) == [(200, {"predictions": []})]
    assert ask(loaded) == []
    assert [status for status, _ in ask(loaded, body({}), body(), body({}))] == [400, 200, 400]


def test_the_list_of_reasons_is_bounded(loaded: RawEventHandler) -> None:
    ((status, answer),) = ask(loaded, body(*[{}] * (MAX_REASONS + 50)))
    assert status == 400
    assert len(answer["instances"]) == MAX_REASONS
    assert "the first 100 are listed" in answer["error"]


def test_a_model_that_gives_nan_answers_500_in_strict_json() -> None:
    def score(x: Any) -> Any:
        return np.where(x[:, 2] > 1, np.nan, x[:, 2]).astype(np.float32)

    fine, broken = example_events(2)[1] | {"HT": 0.0}, example_events(2)[1] | {"HT": 900.0}
    good, bad = answer_batch([body(fine), body(fine, broken)], example_transform(), score)
    assert good.status == 200
    assert strict_json(good.body) == {"predictions": [0.0]}
    assert bad.status == 500
    assert strict_json(bad.body)["instances"] == {"1": "the model's output is NaN or infinite"}


def test_classes_are_lists(tmp_path: Path) -> None:
    path = export_example(tmp_path, classes=3)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    handler = RawEventHandler()
    handler.initialize(FakeContext(tmp_path / "unpacked"))
    ((status, answer),) = ask(handler, body(*example_events(4)))
    assert status == 200
    assert np.shape(answer["predictions"]) == (4, 3)
    assert np.sum(answer["predictions"], axis=1) == pytest.approx(np.ones(4), abs=1e-6)


# --- what a handler refuses to load ------------------------------------------------------------


def seal(folder: Path) -> None:
    """Make the hashes fit what the folder holds now."""
    (folder / SUMS).unlink()
    found = folder_sums(folder).splitlines(keepends=True)
    (folder / SUMS).write_text("".join(line for line in found if "MAR-INF" not in line))


def test_a_model_that_misses_its_golden_predictions_is_refused(
    unpacked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    golden = json.loads((unpacked / "golden.json").read_text())
    golden["predictions"][4] += 1e-5
    (unpacked / "golden.json").write_text(json.dumps(golden))
    seal(unpacked)
    handler = RawEventHandler()
    with pytest.raises(ArchiveError, match="golden event 4: the model predicts"):
        handler.initialize(FakeContext(unpacked))
    assert "hepdata-serving refuses this model: golden event 4" in caplog.text
    with pytest.raises(ArchiveError, match="not initialized"):
        handler.handle([{"body": body()}], FakeContext(unpacked))


@pytest.mark.parametrize("name", ["model.pt2", "transform.json", "golden.json"])
def test_an_incomplete_or_corrupt_archive_is_refused(name: str, unpacked: Path) -> None:
    data = (unpacked / name).read_bytes()
    (unpacked / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ArchiveError, match=f"{name} is not the file that was exported"):
        RawEventHandler().initialize(FakeContext(unpacked))
    seal(unpacked)
    with pytest.raises(ArchiveError, match=r"corrupt|not valid JSON"):
        RawEventHandler().initialize(FakeContext(unpacked))
    (unpacked / name).unlink()
    with pytest.raises(ArchiveError, match=f"{name} cannot be read: No such file"):
        RawEventHandler().initialize(FakeContext(unpacked))
    # no hash of it either, as in an archive of an earlier version
    seal(unpacked)
    with pytest.raises(ArchiveError, match=f"corrupt: .*{name}"):
        RawEventHandler().initialize(FakeContext(unpacked))


def test_one_flipped_bit_anywhere_in_an_archive_is_noticed(unpacked: Path) -> None:
    files = sorted(path for path in unpacked.rglob("*") if path.is_file())
    files = [path for path in files if "MAR-INF" not in path.parts]
    random = np.random.default_rng(4)
    for path in (*files, *random.choice(np.array(files), 50)):
        kept = path.read_bytes()
        flipped = bytearray(kept)
        flipped[random.integers(len(kept))] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(ArchiveError):
            check_folder(unpacked)
        path.write_bytes(kept)
    check_folder(unpacked)
    (unpacked / SUMS).unlink()
    with pytest.raises(ArchiveError, match="SHA256SUMS is missing: export the model again"):
        check_folder(unpacked)
    about = json.loads((unpacked / "metadata.json").read_text()) | {"format_version": 1}
    (unpacked / "metadata.json").write_text(json.dumps(about))
    check_folder(unpacked)  # as it was before there were hashes


def test_deep_and_huge_json_in_an_archive_is_told(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("golden.json", "transform.json"):
        kept = (unpacked / name).read_bytes()
        for depth in (65, 200_000):
            (unpacked / name).write_text("[" * depth + "]" * depth)
            seal(unpacked)
            with pytest.raises(ArchiveError, match=f"{name} is nested more than 64 levels deep"):
                RawEventHandler().initialize(FakeContext(unpacked))
        (unpacked / name).write_bytes(kept)
    seal(unpacked)
    monkeypatch.setattr(integrity, "MAX_JSON_BYTES", 100)
    with pytest.raises(ArchiveError, match=r"has \d+ bytes, more than 100"):
        RawEventHandler().initialize(FakeContext(unpacked))


def test_the_archived_code_serves_not_the_installed_one(unpacked: Path) -> None:
    """Import the handler as TorchServe does, with the installed packages first on the path."""
    code = (
        "import hepdata_handler, hepdata_adapters.common.transform.vector as vector, "
        "hepdata_serving.answers as answers\n"
        "print(vector.__file__, answers.__file__, sep='\\n')\n"
        "class Context: system_properties = {'model_dir': '.'}\n"
        "hepdata_handler.RawEventHandler().initialize(Context())\n"
    )
    environment = os.environ | {"PYTHONPATH": python_path(unpacked)}

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=unpacked,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(code)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert Path(line).is_relative_to(unpacked / "code")
    done = run("import hepdata_adapters.common.core.errors\n" + code)
    assert done.returncode == 1
    assert "not from the archive" in done.stderr
