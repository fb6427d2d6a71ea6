"""Archives: reproducible, safe to load, and answering requests as they should. No server."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform import vector
from hepdata_serving import integrity
from hepdata_serving.answers import MAX_REASONS, answer_batch, predict_events
from hepdata_serving.archive import source_files, write_atomically, zip_bytes
from hepdata_serving.errors import ArchiveError, ExportError, JavaError
from hepdata_serving.integrity import SUMS, check_folder, folder_sums
from hepdata_serving.torchserve import config
from hepdata_serving.torchserve.handler import RawEventHandler
from hepdata_serving.torchserve.java import find_java, parse_major
from hepdata_serving.torchserve.program import load_program, refuse_pickles, save_program
from tests.torchserve_example import (
    ExampleScorer,
    eager,
    example_events,
    example_transform,
    export_example,
)


class FakeContext:
    """As much of TorchServe's context as the handler uses."""

    def __init__(self, model_dir: Path) -> None:
        self.system_properties = {"model_dir": str(model_dir)}
        self.status: dict[int, tuple[int, str]] = {}
        self.content_types: dict[int, str] = {}

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        return {}

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.status[idx] = (code, phrase)

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.content_types[idx] = value


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_example(tmp_path_factory.mktemp("exported"), "example")


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


def python_path(*more: Path) -> str:
    """This process's import path, for another process in another folder."""
    return os.pathsep.join([*map(os.path.abspath, filter(None, sys.path)), *map(str, more)])


def ask(handler: RawEventHandler, *bodies: object) -> list[tuple[int, dict[str, Any]]]:
    context = FakeContext(Path())
    results = handler.handle([{"body": body} for body in bodies], context)
    assert len(results) == len(bodies)
    assert set(context.content_types.values()) <= {"application/json"}
    statuses = [context.status.get(index, (200, ""))[0] for index in range(len(bodies))]
    return list(zip(statuses, map(strict_json, results), strict=True))


def strict_json(data: bytes) -> dict[str, Any]:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    answer = json.loads(data, parse_constant=refuse)
    assert isinstance(answer, dict)
    return answer


def body(*events: object) -> bytes:
    return json.dumps({"instances": events}).encode()


# --- the archive ---------------------------------------------------------------------------


def test_same_input_gives_same_bytes_in_any_process(exported: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from tests.torchserve_example import export_example; "
        "export_example(pathlib.Path(sys.argv[1]), 'example')"
    )
    folder = tmp_path / "another working directory"
    folder.mkdir()
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": python_path()}
    subprocess.run([sys.executable, "-c", code, "out"], cwd=folder, env=environment, check=True)
    data = (folder / "out" / "model_store" / "example-1.0.mar").read_bytes()
    assert hashlib.sha256(data).digest() == hashlib.sha256(exported.read_bytes()).digest()
    assert os.fsencode(tmp_path) not in data


def test_archive_tells_nothing_of_the_machine(exported: Path) -> None:
    data = exported.read_bytes()
    for path in {sys.prefix, str(Path.cwd()), str(Path.home()), str(Path(torch.__file__).parent)}:
        if path != "/":
            assert os.fsencode(path) not in data
    with zipfile.ZipFile(exported) as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(archive.namelist())
        for item in archive.infolist():
            assert not item.filename.startswith("/")
            assert ".." not in item.filename


def test_archive_is_complete_and_described(exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        names = set(archive.namelist())
        metadata = json.loads(archive.read("metadata.json"))
    assert names >= {"MAR-INF/MANIFEST.json", "model.pt2", "transform.json", "golden.json"}
    assert "code/hepdata_adapters/common/transform/vector.py" in names
    assert metadata["outputs"] == ["class0"]
    assert metadata["features"] == example_transform().feature_names
    folder = exported.parent.parent
    assert "curl http://127.0.0.1:8080/predictions/example" in (folder / "README.md").read_text()
    assert [path.name for path in exported.parent.iterdir()] == ["example-1.0.mar"]


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", "..", ".hidden", "a..b", "é", "a b", "x" * 200]
)
def test_unsafe_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        export_example(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "ranking"}, "not one of"),
        ({"outputs": ["a", "b"]}, "one name"),
        ({"golden_events": [], "golden_predictions": []}, "golden_events is empty"),
        ({"golden_predictions": [0.5]}, "8 golden events but 1 predictions"),
        ({"golden_predictions": [float("nan")] * 8}, "not a finite number"),
        ({"metadata": {"path": Path("x")}}, "is not JSON"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_example(tmp_path, **changes)


def test_export_compares_with_the_golden_predictions(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="golden event 0: the model predicts"):
        export_example(tmp_path, golden_predictions=[0.123] * 8)
    assert list(tmp_path.iterdir()) == []


def test_write_is_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# --- the program ---------------------------------------------------------------------------


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] if x.sum() > 0 else x[:, 1]


class Squeezing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1].squeeze()


class FixedBatch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(3, -1)[:, 0]


@pytest.mark.parametrize("model", [Branching, FixedBatch])
def test_a_model_that_cannot_be_exported_says_why(
    model: type[torch.nn.Module], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=rf"torch.export refuses {model.__name__}: .*torch.where"):
        export_example(tmp_path, scorer=model().eval())


def test_scores_of_one_event_must_keep_their_axis(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"\(\) for 1 events, not float32 \(1,\)"):
        export_example(tmp_path, scorer=Squeezing().eval())


def test_a_training_model_is_refused(tmp_path: Path) -> None:
    scorer = ExampleScorer(example_transform().num_features)
    with pytest.raises(ConfigError, match=r"call scorer.eval\(\)"):
        export_example(tmp_path, scorer=scorer.train())


@pytest.mark.parametrize("n", [1, 2, 3, 17])
@pytest.mark.parametrize("classes", [1, 3])
def test_program_is_the_model_for_any_number_of_events(n: int, classes: int) -> None:
    scorer = ExampleScorer(13, classes)
    x = np.random.default_rng(n).normal(size=(n, 13)).astype(np.float32)
    scores = load_program(save_program(scorer, np.zeros((3, 13), np.float32)))(x)
    assert scores.shape == ((n,) if classes == 1 else (n, classes))
    np.testing.assert_allclose(scores, eager(scorer)(x), rtol=0, atol=1e-6)


def test_programs_with_pickles_are_not_loaded() -> None:
    program = torch.export.export(ExampleScorer(4), (torch.zeros(2, 4),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)  # with its example input, which torch pickles
    with pytest.raises(ArchiveError, match="holds a pickle"):
        load_program(buffer.getvalue())
    entry = {"w": {"path_name": "weight_0", "is_param": True, "use_pickle": True}}
    declared = json.dumps({"config": entry}).encode()
    with pytest.raises(ArchiveError, match="holds a pickled object: w"):
        refuse_pickles(zip_bytes({"a/data/weights/model_weights_config.json": declared}))
    with pytest.raises(ArchiveError, match="corrupt"):
        load_program(b"no zip")


# --- the handler ---------------------------------------------------------------------------


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


# --- what a handler refuses to load ----------------------------------------------------------


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


def seal(folder: Path) -> None:
    """Make the hashes fit what the folder holds now."""
    (folder / SUMS).unlink()
    found = folder_sums(folder).splitlines(keepends=True)
    (folder / SUMS).write_text("".join(line for line in found if "MAR-INF" not in line))


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


def test_copied_sources_are_the_installed_ones() -> None:
    files = source_files(["hepdata_serving.torchserve.handler"])
    copied = files["hepdata_adapters/common/transform/vector.py"]
    assert copied == Path(vector.__file__).read_bytes()
    assert not any("export" in name or "server" in name for name in files)


# --- the store and Java -------------------------------------------------------------------------


def test_a_store_without_archives_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no model archive"):
        config.models_in(tmp_path)
    (tmp_path / "broken.mar").write_bytes(b"no zip")
    with pytest.raises(ArchiveError, match=r"broken.mar is not a TorchServe archive"):
        config.models_in(tmp_path)


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_401"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("command not found", None),
    ],
)
def test_java_versions_are_read(text: str, major: int | None) -> None:
    assert parse_major(text) == major


def test_java_home_comes_first_and_old_java_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(folder: Path, version: str) -> Path:
        java = folder / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        java.chmod(java.stat().st_mode | stat.S_IXUSR)
        return java

    old, new = install(tmp_path / "old", "11.0.1"), install(tmp_path / "new", "21.0.2")
    environ = {"JAVA_HOME": str(old.parent.parent), "PATH": f"{new.parent}"}
    assert find_java(environ) == new
    assert find_java({"JAVA_HOME": str(new.parent.parent), "PATH": str(old.parent)}) == new
    monkeypatch.setattr("hepdata_serving.torchserve.java.importlib.util.find_spec", lambda _: None)
    with pytest.raises(JavaError, match=r"is Java 11.*pip install .hepdata-adapters\[serve\]"):
        find_java({"JAVA_HOME": str(old.parent.parent), "PATH": str(tmp_path)})
    with pytest.raises(JavaError, match="none was found"):
        find_java({"PATH": str(tmp_path)})
