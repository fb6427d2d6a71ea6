"""Input that would take all the time, memory or stack there is: bounded, with a message."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.config.plain_yaml import read_yaml
from hepdata_adapters.common.config.user_model import load_factory
from hepdata_adapters.common.core.errors import (
    ConfigError,
    DataError,
    FileError,
    SpecsError,
    StateError,
)
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.core.machine import check_processes
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.files.globs import Bound, matches
from hepdata_adapters.common.files.open import expand
from hepdata_adapters.common.files.remote_globs import _walk
from hepdata_adapters.common.inference.decode import write_root
from hepdata_adapters.common.specs.compute import compute_specs
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.parallel import Workers
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.memory import buffer_of, check_memory
from hepdata_adapters.common.stream.prepare import describe, prepare
from hepdata_adapters.common.stream.worker_pool import BatchWorkers
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.samples import write_events

SAMPLES = "samples: [{files: a.root}]\n"
SECONDS = 30  # on a busy machine; each took hours or the whole stack before


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert time.monotonic() - started < SECONDS
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("".join(f"k{i}: 1\n" for i in range(80_000)), "unknown key 'k8'; there are: "),
        ("".join(f"k{i}: 1\n" for i in range(80_000)) + "k79999: 1\n", "'k79999' stands twice"),
        (SAMPLES + "features: [" + "{b: 1}," * 30_000 + "]", "features.0.branch: Field required"),
        (SAMPLES + "name: " + "1:" * 300_000 + "1", "a value without quotes is too long"),
        (SAMPLES + "name: " + "9" * 9_000, "does not fit its type: a number of 9,000 digits"),
        (SAMPLES + "split: {seed: 0x" + "f" * 9_000 + "}", "a number of 9,002 digits"),
        ("a: " + "[" * 400_000 + "]" * 400_000, "nested more than 50 deep"),
        ("? " * 300_000, "nested more than 50 deep"),
        ("a: [" + "b," * 400_000 + "]", "more than 200,000 keys and values"),
        ("a: &a [1]\nb: *a\n", "aliases are not supported in"),
    ],
    ids=["keys", "twice", "faults", "sixties", "digits", "hex", "deep", "keys-deep", "many",
         "alias"],
)  # fmt: skip
def test_a_config_of_a_megabyte_is_answered_in_seconds(tmp_path, text, said):
    found = refused(tmp_path, text)
    assert said in found
    assert len(found) < 2_000
    assert ("and 79,991 more" in found) == ("'k8'" in said)


def test_yaml_of_usual_depth_and_length_is_read():
    document = {"a": [{"b": {"c": [f"{number}" * 2_000, 1.5, None]}} for number in range(100)]}
    assert read_yaml(yaml.safe_dump(document, default_flow_style=True, width=10**9)) == document


@pytest.mark.parametrize(
    "text",
    ["(" * 1_900 + "MET" + ")" * 1_900, "-" * 3_000 + "MET", "+".join(["MET"] * 900),
     "abs(" * 900 + "MET" + ")" * 900, "MET[" * 900 + "0" + "]" * 900, "**".join(["MET"] * 900),
     "MET" + "." * 3_000, "MET ? " * 600 + "1" + " : 1" * 600],
    ids=["brackets", "signs", "sum", "calls", "items", "powers", "dots", "choices"],
)  # fmt: skip
def test_a_deep_expression_is_a_config_error(text):
    with pytest.raises(ConfigError, match="expression"):
        parse(text, ["MET"])


def test_a_deep_state_of_a_loader_is_a_state_error(tmp_path):
    deep: Any = {}
    for _ in range(100_000):
        deep = {"plan": deep}
    loader = RootIterableDataset(
        write_events(tmp_path / "a.root", 100), features=["MET"], batch_size=10, progress=False
    ).loader()
    with pytest.raises(StateError, match="no state of a loader"):
        loader.load_state_dict(deep)
    while deep:  # Python frees nested dicts one in the other
        deep = deep["plan"]


def test_deep_json_is_a_specs_error(tmp_path):
    path = tmp_path / "specs.json"
    path.write_text('{"hash":' + "[" * 100_000)
    with pytest.raises(SpecsError, match="corrupt"):
        Specs.load(path)


def test_counts_that_no_machine_carries_are_refused_all_at_once(tmp_path):
    said = refused(
        tmp_path,
        SAMPLES
        + "training: {workers: 1000000, epochs: 99999999, batch_size: 1e11, learning_rate: .inf}\n"
        "sampling: {chunk_size: 1000000000, canonical_workers: 100000}\n"
        "model: {hidden: [1000000, 1000000]}\n"
        "features: [{branch: Jet_pt, length: 1000000000}]\n",
    )
    for place, reason in {
        "training.workers": "at most 1,024, not 1000000: each is a process of about 0.3 GB",
        "training.epochs": "at most 1,000,000",
        "training.learning_rate": "finite",
        "sampling.chunk_size": "at most 16,777,216",
        "sampling.canonical_workers": "at most 4,096",
        "model.hidden": "more than 1,000,000,000 weights",
        "features.0.length": "at most 1,000,000",
    }.items():
        assert f"{place}: " in said
        assert reason in said


def test_more_processes_than_the_machine_carries_are_refused_before_they_start(tmp_path):
    path = write_events(tmp_path / "a.root", 100)
    dataset = RootIterableDataset(path, features=["MET"], batch_size=10, progress=False)
    for start in (
        lambda: dataset.loader(num_workers=100_000),
        lambda: BatchWorkers(dataset.prepared, None, batch_size=10, workers=100_000),
        lambda: Workers(processes=100_000),
    ):
        with pytest.raises(ConfigError, match=rf"not 100000.*{os.cpu_count()} cores"):
            start()
    check_processes("num_workers", 32)  # anywhere


@pytest.fixture(scope="module")
def long_event(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 events of 3 jets, one of 2,000,000."""
    import awkward as ak

    lengths = np.full(300, 3)
    lengths[7] = 2_000_000
    jets = ak.unflatten(np.zeros(lengths.sum(), np.float32), lengths)
    path = tmp_path_factory.mktemp("long") / "long.root"
    write_root(path, ak.zip({"Jet_pt": jets, "MET": np.ones(300, np.float32)}, depth_limit=1))
    return path


def test_one_event_of_a_million_values_is_told_before_the_memory_goes(long_event, monkeypatch):
    identity = {"seed": 1, "train": 0.9, "validation": 0.05, "test": 0.05}
    options = {"split": identity, "features": ["Jet_pt", "MET"]}
    available = "hepdata_adapters.common.stream.dataset.available_memory"
    monkeypatch.setattr(available, lambda: 2**40)
    wide = prepare(str(long_event), {**options, "defaults": {"length": "max"}}, progress=False)
    buffer = buffer_of(wide.transform, wide.config.sampling, wide.specs)
    train = wide.specs.events("train")
    assert (buffer.rows, buffer.event_bytes) == (train, 5 * 2_000_000 + 5)
    assert "write length: 3 for Jet_pt" in "\n".join(describe(wide))
    check_memory(buffer, None)
    monkeypatch.setattr(available, lambda: 2**30)
    with pytest.raises(ConfigError, match=r"100% of them Jet_pt\): write length: 3 .* 1\.1 GB are"):
        prepare(str(long_event), {**options, "defaults": {"length": "max"}}, progress=False)
    usual = prepare(str(long_event), options, progress=False)
    assert usual.transform.num_features == 4
    assert "the chunks in memory" not in "\n".join(describe(usual))


def test_an_end_of_the_memory_in_a_pass_names_the_place_and_what_to_lower(tmp_path, monkeypatch):
    path = write_events(tmp_path / "a.root", 100)
    prepared = prepare(str(path), {"features": ["MET", "Jet_pt"]}, progress=False)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("hepdata_adapters.common.files.source.Source.unit", fail)
    with EventStream(prepared, None) as stream:
        batches = EpochOptions(10, shuffle=True, seed=0).epoch().batches(stream, None)
        with pytest.raises(DataError, match=r"memory ran out.*lower sampling.chunk_size.*a\.root"):
            next(batches)
    monkeypatch.setattr("hepdata_adapters.common.files.source.Source.read", fail)
    with pytest.raises(DataError, match=r"memory ran out.*a\.root, tree Events, entries 0 to 100"):
        compute_specs(prepared.config)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "the memory ran out (MemoryError): lower sampling.chunk_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the memory ran out"),
        (OSError(28, "No space left on device", "/x/a.ckpt"), "no space left: free some"),
    ],
)
def test_the_command_line_says_what_to_do_where_the_machine_ends(error, said, monkeypatch, capsys):
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr("hepdata_adapters.cli.inspect.describe_file", fail)
    assert main(["inspect", "a.root"]) == 1
    assert said in capsys.readouterr().err


def test_a_glob_ends_in_a_tree_that_contains_itself(tmp_path):
    for name in ("a.root", "x/b.root", "x/y/c.root", "x/.hidden/d.root", "x/.e.root"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for number in range(5):
        (tmp_path / "x" / f"again{number}").symlink_to(tmp_path)
    assert [Path(p).name for p in expand(f"{tmp_path}/**/*.root")] == ["a.root", "b.root", "c.root"]
    again = [f"again{number}/a.root" for number in range(5)]  # as by any other way to it
    found = [str(Path(path).relative_to(tmp_path / "x")) for path in expand(f"{tmp_path}/x/**")]
    assert found == [*again, "b.root", "y/c.root"]
    assert expand(f"{tmp_path}/x/again[0]/*.root") == [f"{tmp_path}/x/again0/a.root"]
    assert expand(f"{tmp_path}/[x]/y/?.root") == [f"{tmp_path}/x/y/c.root"]
    assert expand(f"{tmp_path}/x/.[e]*") == [f"{tmp_path}/x/.e.root"]
    with pytest.raises(FileError, match="no file matches"):
        expand(f"{tmp_path}/**/*.txt")
    with pytest.raises(FileError, match=r"gave up on this pattern after 4 names.*\*\*/\*\.root"):
        matches(f"{tmp_path}/**/*.root", names=3)
    with pytest.raises(FileError, match="gave up on this pattern"):
        matches(f"{tmp_path}/**", seconds=-1)


def test_a_glob_is_relative_to_where_one_is(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.root").touch()
    monkeypatch.chdir(tmp_path)
    assert expand("*/*.root") == expand("**/*.root") == expand("./x/*.root") == ["x/b.root"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Specs:
    path = write_events(tmp_path_factory.mktemp("made") / "a.root", 500, step=100)
    return prepare({str(path): 1}, {"features": ["MET", "Jet_pt"]}, progress=False).specs


def written_anew(specs: Specs, path: Path, place: list[Any], value: Any) -> Path:
    """The specs with one number changed and a checksum that fits."""
    document = specs.model_dump(mode="json")
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    document["hash"] = Specs.model_validate(document).binding.hash()
    document.pop("checksum", None)
    checked = Specs.model_validate(document).model_dump(mode="json", exclude={"checksum"})
    path.write_text(json.dumps(checked | {"checksum": digest(checked)}))
    return path


FILE = ["binding", "files", 0]


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ([*FILE, "counts", "train", 0], -1, "a count is below 0 or above its 500 entries"),
        ([*FILE, "counts", "train", 0], 10**30, "a count is below 0 or above its 500 entries"),
        ([*FILE, "counts", "test", 0], 500, "events are kept"),
        ([*FILE, "counts", "test"], [1, 2, 3, 4, 5, 6, 7], "not one count for each split and unit"),
        ([*FILE, "counts"], {"train": [1]}, "not one count for each split and unit"),
        ([*FILE, "dropped"], [3], "not one count for each reason"),
        ([*FILE, "entries"], 10**30, "the units do not cut its"),
        ([*FILE, "units"], [0, 700, 500], "the units do not cut its"),
        (["branches", "MET", "count"], 10**30, "values in"),
        (["branches", "Jet_pt", "lengths", "counts", "2"], -5, "below 0"),
        (["branches", "Jet_pt", "lengths", "counts", "100000000"], 1, "of"),
        (["branches", "MET", "minimum"], 1e30, "no range"),
    ],
)
def test_counts_that_no_data_can_give_are_refused_whatever_the_checksum(
    made, tmp_path, place, value, said
):
    path = written_anew(made, tmp_path / "specs.json", place, value)
    with pytest.raises(SpecsError, match="no data can have given") as caught:
        Specs.load(path)
    assert said in str(caught.value)
    assert "hepdata-adapters specs" in str(caught.value)


def test_specs_that_are_possible_are_read(made, tmp_path):
    path = written_anew(made, tmp_path / "specs.json", [*FILE, "url"], "elsewhere.root")
    assert Specs.load(path).events() == 500


OWN = """
import functools
from hepdata_adapters import scaling_function

@scaling_function("hostile_half")
def half(xp, values):
    return values * 0.5

def model(num_features): return num_features
def outputs(num_features, num_outputs): return num_features
def other(a, b): return a
class Net:
    def __init__(self, num_features): ...
part = functools.partial(other, b=1)
wrapped = functools.lru_cache(model)
from os import system
from subprocess import Popen
"""


def test_a_factory_is_looked_at_before_it_is_called(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    for name in ("model", "outputs", "Net", "part", "wrapped"):
        assert callable(load_factory(f"{path}:{name}"))
    for name in ("os:system", "subprocess:Popen", "antigravity:fly", "os.path:join"):
        with pytest.raises(ConfigError, match="of Python's own library: name a function of yours"):
            load_factory(name)
    for name in ("system", "Popen"):
        with pytest.raises(ConfigError, match="of Python's own: name a function of yours"):
            load_factory(f"{path}:{name}")
    with pytest.raises(ConfigError, match=r"takes \(a, b\), but is called with \(num_features\)"):
        load_factory(f"{path}:other")
    with pytest.raises(ConfigError, match="called with"):
        load_factory("numpy:add")


@pytest.mark.parametrize(
    "command", ["fit", "validate", "specs", "report", "verify", "evaluate", "predict", "export"]
)
def test_no_user_code_refuses_with_every_place(command, tmp_path, capsys):
    own = tmp_path / "own.py"
    own.write_text("raise SystemExit('this ran')")
    write_events(tmp_path / "a.root", 100)
    (tmp_path / "config.yaml").write_text(
        "samples: [{files: a.root, label: 1}]\n"
        "features: [MET, {branch: Jet_pt, scaling: {function: own.py:half}}]\n"
        "inputs: {jets: {kind: set, features: [{branch: Jet_pt, scaling: {function: 'm:f'}}]}}\n"
        "model: {factory: own.py:model}\n"
    )
    run = command in ("evaluate", "predict", "export")
    more = {"predict": [str(tmp_path / "a.root")], "export": ["--format", "onnx"]}.get(command, [])
    output = [] if command in ("validate", "verify", "evaluate") else ["-o", str(tmp_path / "out")]
    given = str(tmp_path if run else tmp_path / "config.yaml")
    assert main([command, given, *more, *output, "--no-user-code"]) == 2
    said = capsys.readouterr().err
    assert f"features.1.scaling.function: {own}:half" in said
    assert "inputs.jets.features.0.scaling.function: m:f" in said
    assert f"model.factory: {own}:model" in said


def test_no_user_code_lets_other_configs_pass(tmp_path):
    write_events(tmp_path / "a.root", 100)
    path = tmp_path / "config.yaml"
    path.write_text("samples: [{files: a.root}]\nfeatures: [MET]\n")
    assert main(["validate", str(path), "--quick", "--no-user-code"]) == 0


def test_a_pattern_over_a_server_without_end_is_given_up():
    class Endless:
        dircache: dict[str, object] = {}

        def ls(self, folder: str, detail: bool) -> list[dict[str, str]]:
            return [{"name": f"{folder.rstrip('/')}/a", "type": "directory"}]

    bound = Bound("root://host//**/*.root", names=100)
    with pytest.raises(FileError, match=r"gave up on this pattern after 101 names.*root://host"):
        list(_walk(Endless(), bound, "", ["**", "*.root"]))
