"""The command line: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.torch import RootIterableDataset
from hepdata_adapters.torch.training.run_folder import load_run

COMMANDS = [
    "inspect", "validate", "verify", "fit", "evaluate", "export", "promote", "rollback", "rollout",
    "serve", "predict", "convert", "report", "schema", "specs",
]  # fmt: skip
RUN_FILES = {
    "config.yaml", "specs.json", "transform.json", "task.json", "checkpoint.ckpt", "metrics.json",
    "ledger.json", "golden_events.json", "provenance.json",
}  # fmt: skip
SPLITS = ("train", "validation", "test")
PROCESSES = [("sig.root", 300, 2.0), ("bkg.root", 250, 0.0)]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return run


def one_line(answer: Answer, code: int) -> str:
    """The message of a failed command, which must be one line and nothing else."""
    lines = answer.err.splitlines()
    assert (answer.code, answer.out, len(lines)) == (code, "", 1), answer
    assert lines[0].startswith("hepdata-adapters: ")
    return lines[0].removeprefix("hepdata-adapters: ")


def write(path: Path, size: int, shift: float = 0.0, **columns: Any) -> Path:
    """Events with float32 ``x``, integer ``n`` and jagged ``Jet_pt`` of 0 to 3 values."""
    random = np.random.default_rng(size)
    lengths = np.arange(size) % 4
    arrays = {
        "x": random.normal(shift, 1, size).astype(np.float32),
        "n": random.integers(0, 5, size),
        "Jet_pt": ak.unflatten(random.exponential(40, lengths.sum()).astype(np.float32), lengths),
    } | columns
    types = {
        name: "var * float32" if isinstance(values, ak.Array) else values.dtype
        for name, values in arrays.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree("Events", types)
        for start in range(0, size, 100):
            file["Events"].extend({k: v[start : start + 100] for k, v in arrays.items()})
    return path


def write_config(path: Path, samples: Sequence[dict[str, Any]], **options: Any) -> Path:
    training = {"epochs": 2, "batch_size": 32} | options.pop("training", {})
    document = {"samples": list(samples), "training": training} | options
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signal and a background file, a config for them and a trained run."""
    folder = tmp_path_factory.mktemp("project")
    for name, size, shift in PROCESSES:
        write(folder / name, size, shift)
    samples = [{"files": "sig.root", "label": 1}, {"files": "bkg.root", "label": 0}]
    write_config(folder / "config.yaml", samples, training={"learning_rate": 0.02})
    arguments = ["fit", str(folder / "config.yaml"), "-o", str(folder / "run")]
    assert main([*arguments, "--set", "model.hidden=[16]", "--set", "training.seed=3"]) == 0
    return folder


# help and usage


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call, command):
    answer = call(command, "--help")
    assert answer.code == 0
    assert answer.err == ""
    usage, _, purpose, *_ = answer.out.splitlines()
    assert usage.startswith(f"Usage: hepdata-adapters {command} ")
    assert len(purpose.split()) > 3
    for line in answer.out.splitlines():
        assert len(line) <= 80
        if line.startswith("  -"):
            assert len(line.split("  ")) > 2, f"no help for {line}"


def test_the_help_names_every_command_with_a_whole_sentence(call):
    answer = call("--help")
    assert answer.code == 0
    lines = answer.out[answer.out.index("Commands:") :].splitlines()[1:]
    assert [line.split()[0] for line in lines] == COMMANDS
    for line in lines:
        assert line.endswith(".")
        assert not line.endswith("...")


def test_without_arguments_the_help_is_shown(call):
    answer = call()
    assert answer.code == 2
    assert answer.out == call("--help").out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from hepdata_adapters.cli.main import main; main(['fit', '--help']); "
        "main(['fit', 'none.yaml']); main(['--help']); "
        "print([name for name in sys.modules if name in "
        "('torch', 'lightning', 'uproot', 'awkward', 'numpy', 'pandas', 'matplotlib')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["inspet", "a.root"], "Did you mean 'inspect'?"),
        (["inspect"], "Missing argument 'file'"),
        (["inspect", "a.root", "b.root"], "unexpected extra argument"),
        (["inspect", "a.root", "--yaml"], "No such option: --yaml"),
        (["validate", "c.yaml", "--set"], "requires an argument"),
        (["predict", "run"], "Missing argument"),
        (["export"], "Missing argument"),
        (["export", "run", "--format", "onix"], "'onix' is not one of"),
        (["serve", "dir", "--port", "high"], "'--port'"),
        (["serve", "dir", "--workers", "0"], "'--workers'"),
        (["fit", "none.yaml"], "no config file 'none.yaml'"),
        (["--verbose", "fit"], "No such option: --verbose"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(call, arguments, said):
    assert said in one_line(call(*arguments), 2)


def test_usage_errors_point_to_the_help_of_the_command(call):
    assert one_line(call("inspect"), 2).endswith("(see hepdata-adapters inspect --help)")
    assert one_line(call("nosuch"), 2).endswith("(see hepdata-adapters --help)")


@pytest.mark.parametrize(
    ("arguments", "code"), [(["inspect", "none.root"], 1), (["fit", "none.yaml"], 2)]
)
def test_tracebacks_are_shown_with_debug_only(call, arguments, code):
    quiet = call(*arguments)
    assert "Traceback" not in quiet.err
    for loud in (call("--debug", *arguments), call(*arguments, "--debug")):
        assert loud.code == code
        assert "Traceback (most recent call last)" in loud.err
        assert loud.err.endswith(quiet.err)


def test_an_unexpected_error_is_one_line_too(call, project, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("hepdata_adapters.common.config.config_file.load_config", fails)
    message = one_line(call("validate", project / "config.yaml"), 1)
    assert message == "unexpected RuntimeError: first line second line (--debug shows where)"


def test_the_module_runs_as_a_program(project):
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hepdata_adapters", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("inspect", project / "sig.root")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Jet_pt" in done.stdout
    done = run("inspect", project / "config.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "not a ROOT file" in done.stderr


# inspect


def test_inspect_shows_branches_kinds_entries_and_lengths(call, project):
    answer = call("inspect", project / "sig.root")
    assert answer.code == 0
    assert "Events: 300 entries" in answer.out
    rows = {line.split()[0]: line.split()[1:] for line in answer.out.splitlines()[4:]}
    assert rows["x"] == ["flat", "float32"]
    assert rows["n"] == ["flat", "int64"]
    assert rows["Jet_pt"] == ["jagged", "float32", "1.5,", "3,", "3"]


def test_inspect_as_json_says_the_same(call, project):
    found = json.loads(call("inspect", project / "sig.root", "--json").out)
    (tree,) = found["trees"]
    assert (tree["tree"], tree["entries"]) == ("Events", 300)
    assert found["bytes"] == (project / "sig.root").stat().st_size
    branches = {branch["name"]: branch for branch in tree["branches"]}
    assert branches["n"]["dtype"] == "int64"
    assert branches["Jet_pt"]["length"] == {"min": 0, "mean": 1.5, "quantile99": 3, "max": 3}


def test_inspect_shows_all_trees_or_the_one_asked_for(call, tmp_path):
    path = tmp_path / "two.root"
    with uproot.recreate(path) as file:
        for name, size in (("first", 3), ("folder/second", 4)):
            file.mktree(name, {"x": "float64"})
            file[name].extend({"x": np.zeros(size)})
    answer = call("inspect", path)
    assert "first: 3 entries" in answer.out
    assert "folder/second: 4 entries" in answer.out
    answer = call("inspect", f"{path}:folder/second")
    assert "folder/second: 4 entries" in answer.out
    assert "first" not in answer.out
    message = one_line(call("inspect", f"{path}:frist"), 1)
    assert "no tree 'frist'; did you mean 'first'" in message
    assert str(path) in message


def test_inspect_shows_an_empty_tree(call, tmp_path):
    path = tmp_path / "empty.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "float32", "Jet_pt": "var * float32"})
    answer = call("inspect", path)
    assert answer.code == 0
    assert "Events: 0 entries" in answer.out


def test_inspect_never_cuts_a_name(call, tmp_path):
    name = "HLT_" + "a_very_long_name_" * 12
    path = write(tmp_path / "long.root", 4, **{name: np.zeros(4)})
    assert name in call("inspect", path).out


def test_inspect_works_on_every_real_file(call, shared_data, monkeypatch):
    paths = sorted(shared_data.glob("*.root"))
    assert len(paths) > 10
    for path in paths:
        answer = call("inspect", path, "--json")
        assert (answer.code, answer.err) == (0, ""), path
        found = json.loads(answer.out)
        # the table shows the same document: it is not read twice
        with monkeypatch.context() as patch:
            patch.setattr(
                "hepdata_adapters.cli.inspect.describe_file", lambda _, found=found: found
            )
            table = call("inspect", path)
        assert table.code == 0
        for tree in found["trees"]:
            assert f"{tree['tree']}: {tree['entries']:,} entries" in table.out
            assert tree["branches"]
            for branch in tree["branches"]:
                assert branch["name"] in table.out


def test_inspect_of_truncated_real_files_is_one_clear_line(call, shared_data, tmp_path):
    for path in sorted(shared_data.glob("*.root")):
        content = path.read_bytes()
        for size in (0, 50, len(content) // 2, len(content) - 1):
            cut = tmp_path / "cut.root"
            cut.write_bytes(content[:size])
            message = one_line(call("inspect", cut), 1)
            assert "truncated" in message
            assert str(cut) in message


# validate and specs


def test_validate_says_what_was_understood(call, project):
    answer = call("validate", project / "config.yaml", "--set", "exclude=[n]")
    assert answer.code == 0
    for said in (
        "x is made of x, nJet_pt, Jet_pt",
        "sample sig.root: 1 file(s), 300 events, label 1",
        "sample bkg.root: 1 file(s), 250 events, label 0",
        "task: binary",
        "split by file UUID and entry",
        "excluded n: excluded by the config",
        "valid",
    ):
        assert said in answer.out


@pytest.mark.parametrize(
    ("override", "code", "said"),
    [
        ("samples.0.files=none.root", 1, "no such file"),
        ("samples.0.tree=Evnts", 1, "did you mean 'Events'?"),
        ("features=[y]", 1, "no branch 'y'"),
        ("samples.0.label=null", 2, "without a label"),
        ("trainning.epochs=3", 2, "did you mean 'training'?"),
        ("specs=none.json", 1, "no specs file"),
        ("model.factory=none.py:make", 2, "no file"),
        ("model.factory=nothing", 2, "module:function or file.py:function"),
        ("model.factory=os:nothing", 2, "of Python's own library"),
        ("model.factory=yaml:nothing", 2, "no function 'nothing'"),
        ("model.factory=no.such.module:make", 2, "cannot be imported"),
    ],
)
def test_validate_finds_what_is_wrong_in_one_line(call, project, override, code, said):
    answer = call("validate", project / "config.yaml", "--set", override)
    assert said in one_line(answer._replace(out=""), code)


def test_specs_are_written_once_and_fit_the_data(call, project, tmp_path):
    path = tmp_path / "out" / "specs.json"
    answer = call("specs", project / "config.yaml", "-o", path)
    assert answer.code == 0
    assert answer.out.startswith(f"{path}: 2 file(s), 550 events (train ")
    assert Specs.load(path).events() == 550
    before = path.read_bytes()
    message = one_line(call("specs", project / "config.yaml", "-o", path), 2)
    assert "exists" in message
    assert "--overwrite" in message
    assert path.read_bytes() == before
    assert call("specs", project / "config.yaml", "-o", path, "--overwrite").code == 0
    assert path.read_bytes() == before
    answer = call("validate", project / "config.yaml", "--set", f"specs={path}")
    assert answer.code == 0
    answer = call(
        "validate", project / "config.yaml", "--set", f"specs={path}", "--set", "split.seed=5"
    )
    assert "split.seed is 5, was 0" in one_line(answer, 1)


# fit, evaluate and predict


def test_fit_leaves_everything_in_the_run_folder(project):
    run = project / "run"
    assert {path.name for path in run.iterdir() if path.is_file()} == RUN_FILES | {
        "roc.png", "scores.png"
    }  # fmt: skip
    for picture in run.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((run / "metrics.json").read_text())
    assert sum(metrics[split]["events"] for split in SPLITS) == 550
    for split in SPLITS:
        assert 0.6 < metrics[split]["auc"] <= 1
    assert metrics["training"]["epochs"] == 2
    ledger = json.loads((run / "ledger.json").read_text())
    assert ledger["evaluation"]["events delivered"] == {"": 550}
    trained = metrics["train"]["events"] * 2 + metrics["validation"]["events"] * 2
    assert ledger["training"]["events delivered"] == {"": trained}


def test_the_run_folder_stands_alone(project):
    config = yaml.safe_load((project / "run" / "config.yaml").read_text())
    assert config["model"]["hidden"] == [16]  # --set
    assert config["training"]["seed"] == 3
    assert config["training"]["epochs"] == 2
    for sample in config["samples"]:
        assert all(Path(name).is_absolute() for name in sample["files"])


def test_fit_refuses_a_folder_that_holds_something(call, project, tmp_path):
    config = project / "config.yaml"
    message = one_line(call("fit", config, "-o", project / "run"), 2)
    assert "not empty" in message
    (tmp_path / "letter.txt").write_text("keep me")
    message = one_line(call("fit", config, "-o", tmp_path, "--overwrite"), 2)
    assert "not a run folder" in message
    assert (tmp_path / "letter.txt").read_text() == "keep me"


def test_a_failed_fit_leaves_nothing_in_the_way(call, project, tmp_path):
    arguments = ["fit", project / "config.yaml", "-o", tmp_path / "run"]
    for override in ("model.factory=none.py:make", "features=[y]", "samples.1.label=null"):
        assert call(*arguments, "--set", override).code in (1, 2)
        assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_evaluate_gives_the_metrics_of_the_fit_again(call, project):
    picture = project / "run" / "roc.png"
    picture.unlink()
    answer = call("evaluate", project / "run")
    assert answer.code == 0
    metrics = json.loads((project / "run" / "metrics.json").read_text())
    for split in SPLITS:
        (line,) = (line for line in answer.out.splitlines() if line.startswith(split))
        assert f"{metrics[split]['auc']:.4f}" in line
    assert "events delivered: 550" in answer.out
    assert picture.exists()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_folder_that_is_no_run_is_named(call, tmp_path, command):
    files = ["a.root"] if command == "predict" else []
    message = one_line(call(command, tmp_path / "none", *files), 1)
    assert "not a run folder" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("task.json", b"{"),
        ("task.json", b"{}"),
        ("task.json", b'{"task": "guess", "outputs": ["a"]}'),
        ("checkpoint.ckpt", b""),
        ("checkpoint.ckpt", b"garbage"),
        ("transform.json", b"\xff"),
        ("specs.json", b"[]"),
        ("config.yaml", b"a: ["),
    ],
)
def test_a_corrupt_part_of_a_run_is_named(call, project, name, content):
    path = project / "run" / name
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        answer = call("evaluate", project / "run")
    finally:
        path.write_bytes(before)
    assert answer.code in (1, 2)
    message = one_line(answer, answer.code)
    assert name in message
    assert "unexpected" not in message


def columns_of(path: Path) -> dict[str, Any]:
    with uproot.open(path) as file:
        tree = file["Events"]
        jets = Jagged.from_lists(tree["Jet_pt"].array().to_list(), np.float32)
        names = [name for name in tree.keys() if name != "Jet_pt"]  # noqa: SIM118 (uproot)
        return {"Jet_pt": jets} | {name: tree[name].array(library="np") for name in names}


def rows_of(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    with uproot.open(path) as file:
        return dict(file["scores"].arrays(library="np").items())


@pytest.mark.parametrize("kind", ["root", "parquet"])
def test_predict_writes_one_row_an_event_in_input_order(call, project, tmp_path, kind):
    files = [project / "bkg.root", project / "sig.root"]
    path = tmp_path / f"scores.{kind}"
    answer = call("predict", project / "run", *files, "-o", path)
    assert answer.code == 0
    rows = rows_of(path)
    split = dict(zip(*np.unique(rows["split"].astype(str), return_counts=True), strict=True))
    assert answer.out == (
        f"{path}: 550 events, 550 scored (train {split['train']}, validation "
        f"{split['validation']}, test {split['test']}); the model was trained on those of train\n"
    )
    assert rows["file"].tolist() == [0] * 250 + [1] * 300
    assert rows["entry"].tolist() == [*range(250), *range(300)]
    assert rows["score"].dtype == np.float32
    run = load_run(project / "run")
    by_hand = [run.score(run.transform(columns_of(file)).arrays["x"]) for file in files]
    np.testing.assert_allclose(rows["score"], np.concatenate(by_hand), rtol=1e-6)


def test_predict_keeps_the_identity_of_events(call, project, tmp_path):
    number = np.int64(2**53) + np.arange(20)
    identity = {"run": np.full(20, 7, np.uint32), "luminosityBlock": np.arange(20, dtype=np.uint32)}
    path = write(tmp_path / "ids.root", 20, event=number, **identity)
    assert call("predict", project / "run", path, "-o", tmp_path / "scores.root").code == 0
    rows = rows_of(tmp_path / "scores.root")
    assert rows["event"].tolist() == number.tolist()
    assert rows["run"].tolist() == [7] * 20
    assert rows["luminosityBlock"].tolist() == list(range(20))


def test_predict_counts_what_it_cut(call, project, tmp_path):
    jets = ak.unflatten(np.ones(40, np.float32), np.full(4, 10))
    path = write(tmp_path / "long.root", 4, Jet_pt=jets)
    answer = call("predict", project / "run", path, "-o", tmp_path / "scores.root")
    assert answer.code == 0
    assert "values beyond the pad length: 28 (Jet_pt)" in answer.err


def test_predict_takes_globs_and_never_overwrites_unasked(call, project, tmp_path):
    path = tmp_path / "scores.root"
    assert call("predict", project / "run", project / "*.root", "-o", path).code == 0
    assert len(rows_of(path)["entry"]) == 550
    message = one_line(call("predict", project / "run", project / "*.root", "-o", path), 2)
    assert "--overwrite" in message
    mine = write(tmp_path / "mine.root", 20)
    before = mine.read_bytes()
    answer = call("predict", project / "run", mine, "-o", mine, "--overwrite")
    assert "one of the files to score" in one_line(answer, 2)
    assert mine.read_bytes() == before


def test_predict_names_the_fault_and_leaves_nothing_behind(call, project, tmp_path):
    x = np.zeros(20, np.float32)
    x[13] = np.nan
    path = write(tmp_path / "nan.root", 20, x=x)
    output = tmp_path / "out" / "scores.root"
    message = one_line(call("predict", project / "run", path, "-o", output), 1)
    for said in ("x holds NaN", str(path), "tree Events", "entry 13"):
        assert said in message
    assert not any(output.parent.glob("*"))
    message = one_line(call("predict", project / "run", path, "-o", tmp_path / "scores.csv"), 2)
    assert ".root or .parquet" in message


def test_a_data_fault_in_a_worker_is_one_line(call, project, tmp_path):
    x = np.arange(200, dtype=np.float64)
    x[13] = 1e300
    part = (np.arange(200) == 13).astype(np.int32)
    path = write(tmp_path / "large.root", 200, x=x, label=np.arange(200) % 2, part=part)
    config = write_config(
        tmp_path / "config.yaml", [{"files": path.name, "label": "label"}], task="binary",
        training={"workers": 1}, split={"branch": "part", "values": {"train": 0, "validation": 1}},
        features=["x"],
    )  # fmt: skip
    answer = call("fit", config, "-o", tmp_path / "run")
    assert answer.code == 1
    last = answer.err.splitlines()[-1]
    line = "write under features: {branch: x, clip: [0.0, 199.0]}"
    assert last.startswith(f"hepdata-adapters: x is too large for float32; {line}")
    assert last.endswith(f"[file {path}, tree Events, branch x, entry 13]")
    assert "Traceback" not in answer.err


FACTORY = """
from torch import nn

def make(num_features):
    return nn.Sequential(nn.Linear(num_features, 4), nn.Tanh(), nn.Linear(4, 1))
"""


def test_an_export_says_which_version_answers(call, project, tmp_path):
    arguments = ["export", project / "run", "--format", "torchserve", "-o", tmp_path]
    first, second = call(*arguments).out, call(*arguments).out
    name = json.loads((tmp_path / "stable.json").read_text())["earlier"].popitem()[0]
    assert "promote" not in first
    assert f"{name}-2.0.mar: " in second
    assert (
        "version 1 goes on to answer requests that name no version; to let 2 do so: "
        f"hepdata-adapters promote {tmp_path} --model {name}\n"
    ) in second


def test_a_model_of_the_user_travels_with_the_run(call, project, tmp_path):
    source = tmp_path / "mine.py"
    source.write_text(FACTORY)
    override = f"model.factory={source}:make"
    arguments = ["--set", override, "--set", "training.epochs=1"]
    assert call("fit", project / "config.yaml", "-o", tmp_path / "run", *arguments).code == 0
    source.unlink()
    assert (tmp_path / "run" / "model.py").read_text() == FACTORY
    os.rename(tmp_path / "run", tmp_path / "moved")
    assert call("evaluate", tmp_path / "moved").code == 0
    output = tmp_path / "scores.root"
    assert call("predict", tmp_path / "moved", project / "sig.root", "-o", output).code == 0
    assert len(load_run(tmp_path / "moved").model.state_dict()) == 4


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "returned NoneType"),
        ("return nn.Linear(num_features, 2)", "must return (n,) or (n, 1)"),
        ("raise ValueError('so sad')", "so sad"),
        ("return nn.Linear(1, 1)", "shapes cannot be multiplied"),
    ],
)
def test_a_model_of_the_user_that_fails_is_told_so(call, project, tmp_path, body, said):
    source = tmp_path / "mine.py"
    source.write_text(f"from torch import nn\n\ndef make(num_features):\n    {body}\n")
    answer = call(
        "fit", project / "config.yaml", "-o", tmp_path / "run",
        "--set", f"model.factory={source}:make",
    )  # fmt: skip
    assert answer.code in (1, 2)
    assert said in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


def test_several_classes(call, tmp_path):
    samples = [
        {"files": str(write(tmp_path / folder / "x.root", 200 + label, label)), "label": label}
        for label, folder in enumerate("abc")
    ]
    samples[2]["name"] = "t/t bar*"
    config = write_config(tmp_path / "config.yaml", samples)
    answer = call("fit", config, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for split in SPLITS:
        assert 0.4 < metrics[split]["auc"] <= 1
    pictures = {path.name for path in (tmp_path / "run").glob("scores*.png")}
    assert len(pictures) == 3
    output = tmp_path / "scores.root"
    assert call("predict", tmp_path / "run", tmp_path / "a" / "x.root", "-o", output).code == 0
    rows = rows_of(output)
    scores = [values for name, values in rows.items() if name.startswith("score_")]
    assert len(scores) == 3
    np.testing.assert_allclose(sum(scores), 1, rtol=1e-5)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_class_that_training_never_saw_is_told_before_it(call, tmp_path, split):
    # the split follows run, luminosityBlock and event: it stays when the labels change
    identity = {name: np.arange(300) for name in ("run", "luminosityBlock", "event")}
    label = np.arange(300) % 2
    path = write(tmp_path / "a.root", 300, label=label, **identity)
    dataset = RootIterableDataset(path, split=split, shuffle=False, progress=False)
    label[int(next(iter(dataset))["event"][1])] = 2
    write(path, 300, label=label, **identity)
    config = write_config(
        tmp_path / "config.yaml", [{"files": path.name, "label": "label"}], task="multiclass"
    )
    for command in (["validate", config], ["fit", config, "-o", tmp_path / "run"]):
        answer = call(*command)
        assert answer.code == 2
        last = answer.err.splitlines()[-1]
        assert f"{split} events of class 2 in label, and no training event is of a class" in last
        assert last.endswith("selection: label <= 1 in sample a.root")
    assert not any((tmp_path / "run").iterdir())
    assert call("validate", config, "--set", "samples.0.selection=label <= 1").code == 0


def test_labels_of_one_class_give_no_auc_rather_than_a_wrong_one(call, tmp_path):
    path = write(tmp_path / "a.root", 200, label=np.ones(200, bool))
    config = write_config(tmp_path / "config.yaml", [{"files": path.name, "label": "label"}])
    assert call("fit", config, "-o", tmp_path / "run").code == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] == 1
    assert "auc" not in metrics["test"]


def test_training_without_validation_events(call, project, tmp_path):
    answer = call(
        "fit", project / "config.yaml", "-o", tmp_path / "run",
        "--set", "split={train: 0.8, validation: 0.0, test: 0.2}",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["validation"] == {"events": 0}
    assert metrics["test"]["auc"] > 0.6
    assert metrics["training"]["events_per_second"] > 0


def test_regression_on_a_branch(call, tmp_path):
    random = np.random.default_rng(5)
    x = random.normal(size=400).astype(np.float32)
    path = write(tmp_path / "a.root", 400, x=x, energy=(3 * x + 1).astype(np.float64))
    config = write_config(
        tmp_path / "config.yaml", [{"files": path.name, "label": "energy"}], task="regression",
        features=["x"], model={"dropout": 0.0}, training={"epochs": 20, "learning_rate": 0.01},
    )  # fmt: skip
    assert call("fit", config, "-o", tmp_path / "run").code == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["r2"] > 0.9
    assert (tmp_path / "run" / "prediction.png").exists()
    assert not (tmp_path / "run" / "roc.png").exists()


# real files: bar 6 of the main job


def real_run(call: Any, folder: Path, path: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    """Fit with all features on a real file, predict it, and give metrics and rows."""
    config = write_config(
        folder / "config.yaml", [{"files": str(path), "label": options.pop("label")}],
        features="*", training={"epochs": 1, "batch_size": 128}, **options,
    )  # fmt: skip
    assert call("fit", config, "-o", folder / "run").code == 0
    assert call("predict", folder / "run", path, "-o", folder / "scores.root").code == 0
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    return metrics, rows_of(folder / "scores.root")


def test_all_features_of_jagged_hzz_with_a_bool_label(call, shared_data, tmp_path):
    path = shared_data / "uproot-HZZ.root"
    metrics, rows = real_run(call, tmp_path, path, label="triggerIsoMu24")
    assert sum(metrics[split]["events"] for split in SPLITS) == 2421
    assert all(0 <= metrics[split]["accuracy"] <= 1 for split in SPLITS)  # all are triggered
    assert rows["entry"].tolist() == list(range(2421))
    assert ((rows["score"] >= 0) & (rows["score"] <= 1)).all()
    run = load_run(tmp_path / "run")
    assert run.task == "binary"
    assert "triggerIsoMu24" not in run.transform.feature_names


def test_all_features_of_an_rntuple_in_a_regression(call, shared_data, tmp_path):
    (path,) = shared_data.glob("Run2012BC_DoubleMuParked_Muons*rntuple*.root")
    metrics, rows = real_run(call, tmp_path, path, label="nMuon", task="regression")
    assert sum(metrics[split]["events"] for split in SPLITS) == 1000
    assert rows["entry"].tolist() == list(range(1000))
    assert np.isfinite(rows["score"]).all()
    assert "nMuon" not in load_run(tmp_path / "run").transform.feature_names
