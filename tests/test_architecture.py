"""The rooms of the design: who may import whom, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hepdata_adapters"
SERVING = ROOT / "serving" / "hepdata_serving"
PURE = ("plan", "shard", "hashing")


def imports(path: Path) -> set[str]:
    """All modules a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offenders(folder: Path, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(folder.rglob("*.py"))
        for name in sorted(imports(path))
        if any(name == word or name.startswith(word + ".") for word in forbidden)
    ]


def test_common_knows_no_framework_and_nobody_above():
    forbidden = (
        "torch", "lightning", "torchmetrics", "tensorflow", "keras", "hepdata_serving",
        "hepdata_adapters.torch", "hepdata_adapters.tf", "hepdata_adapters.cli",
    )  # fmt: skip
    assert not offenders(PACKAGE / "common", forbidden)


def test_torch_knows_neither_tensorflow_nor_anybody_above():
    forbidden = (
        "tensorflow", "keras", "hepdata_serving", "hepdata_adapters.tf", "hepdata_adapters.cli",
    )  # fmt: skip
    assert not offenders(PACKAGE / "torch", forbidden)


def test_tf_knows_neither_torch_nor_anybody_above():
    forbidden = (
        "torch", "lightning", "torchmetrics", "hepdata_serving", "hepdata_adapters.torch",
        "hepdata_adapters.cli",
    )  # fmt: skip
    assert not offenders(PACKAGE / "tf", forbidden)


def test_serving_does_not_know_the_command_line():
    assert not offenders(SERVING, ("hepdata_adapters.cli",))


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_errors_and_each_other_only(name):
    allowed = {"errors", *PURE}
    own = [i for i in imports(PACKAGE / "common" / f"{name}.py") if i.startswith("hepdata_")]
    assert {i.split(".")[2] for i in own} <= allowed


def test_expressions_know_columns_and_errors_only():
    for path in (PACKAGE / "common" / "expressions").glob("*.py"):
        own = [i for i in imports(path) if i.startswith("hepdata_")]
        assert {i.split(".")[2] for i in own} <= {"errors", "columns", "expressions"}, path


def test_nothing_evaluates_or_unpickles():
    for path in [*PACKAGE.rglob("*.py"), *SERVING.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), path
        assert not imports(path) & {"pickle", "cloudpickle", "dill", "marshal"}, path


def loaded_after(*imported: str) -> list[set[str]]:
    """All modules of one new process after each of these imports."""
    text = "import sys\n" + "\n".join(f"import {name}\nprint(*sys.modules)" for name in imported)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()[-len(imported) :]]


def test_importing_the_package_imports_no_framework():
    heavy = {"torch", "tensorflow", "lightning", "uproot", "awkward", "numpy", "pydantic"}
    [loaded] = loaded_after("hepdata_adapters")
    assert not loaded & heavy


def test_the_command_line_answers_help_without_heavy_imports():
    heavy = {"torch", "tensorflow", "lightning", "uproot", "awkward", "numpy"}
    [loaded] = loaded_after("hepdata_adapters.cli.main")
    assert not loaded & heavy


TORCH = {"torch", "lightning", "torchmetrics"}
TENSORFLOW = {"tensorflow", "keras"}


@pytest.mark.parametrize(
    ("room", "modules", "others"),
    [
        ("tf", ("dataset", "train", "run", "transform"), TORCH),
        ("torch", ("dataset", "train", "run", "datamodule"), TENSORFLOW),
    ],
)
def test_a_room_does_not_import_the_other_framework(room, modules, others):
    pytest.importorskip({"tf": "tensorflow", "torch": "torch"}[room])
    names = [f"hepdata_adapters.{room}.{module}" for module in modules]
    for name, loaded in zip(names, loaded_after(*names), strict=True):
        assert name in loaded
        assert not loaded & others, name


def test_modules_stay_small():
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in (PACKAGE, SERVING)
        for path in folder.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long
