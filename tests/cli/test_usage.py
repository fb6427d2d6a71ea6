"""The command line: its help, bad usage, and what inspect, validate and specs say."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import uproot

from hepdata_adapters.common.specs.model import Specs
from tests.helpers import commands
from tests.helpers.commands import one_line, write

call = commands.call
project = commands.project

COMMANDS = [
    "inspect", "validate", "verify", "materialize", "bench", "fit", "evaluate", "export", "promote",
    "rollback", "rollout", "serve", "predict", "convert", "report", "schema", "specs",
]  # fmt: skip


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
        ("trainning.epochs=3", 2, "did you mean 'training'"),
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
