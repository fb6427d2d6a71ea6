"""The rooms of the design: who may import whom, and what importing costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASES = (ROOT, ROOT / "serving")
OURS = ("hepdata_adapters", "hepdata_serving")
COMMON = "hepdata_adapters.common"
# each imports from those before it only
ROOMS = (
    "core", "expressions", "config", "files", "events", "specs", "transform", "plan", "stream",
    "inference", "runs", "report", "weaver",
)  # fmt: skip
FRAMEWORK_ROOMS = ("data", "transform", "training")


def modules() -> dict[str, Path]:
    """All modules of ours by their dotted names; a package has that of its folder."""
    paths = (path for base in BASES for name in OURS for path in (base / name).rglob("*.py"))
    return {dotted(path): path for path in paths}


def dotted(path: Path) -> str:
    base = BASES[1] if path.is_relative_to(BASES[1]) else BASES[0]
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = modules()


def imports(path: Path) -> set[str]:
    """All modules a file imports, at any depth; a name of a module stands for that module."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            known = inner & MODULES.keys()
            names |= known | ({node.module} if inner - known else set())
    return names


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def room_of(module: str) -> str | None:
    """The room of a module of `common`."""
    parts = module.split(".")
    return parts[2] if module.startswith(f"{COMMON}.") else None


def offenders(place: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, names in sorted(IMPORTS.items())
        if module == place or module.startswith(f"{place}.")
        for name in sorted(names)
        if any(name == word or name.startswith(f"{word}.") for word in forbidden)
    ]


def test_common_is_rooms_and_nothing_loose():
    folder = ROOT / "hepdata_adapters" / "common"
    assert {path.name for path in folder.glob("*.py")} == {"__init__.py"}
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("framework", ["torch", "tf"])
def test_each_framework_has_three_rooms(framework):
    folder = ROOT / "hepdata_adapters" / framework
    assert {path.name for path in folder.glob("*.py")} == {"__init__.py"}
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(FRAMEWORK_ROOMS)


@pytest.mark.parametrize(
    "room",
    [f"common.{name}" for name in ROOMS]
    + [f"{framework}.{name}" for framework in ("torch", "tf") for name in FRAMEWORK_ROOMS],
)
def test_each_room_says_what_comes_in_what_goes_out_and_what_never_happens(room):
    text = ast.get_docstring(ast.parse(MODULES[f"hepdata_adapters.{room}"].read_text())) or ""
    assert [word for word in ("In:", "Out:", "Never:") if word not in text] == []


def test_rooms_import_from_those_before_them_only():
    wrong = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in names
        if (inner := room_of(module)) and (outer := room_of(name))
        if ROOMS.index(outer) > ROOMS.index(inner)
        or (inner == "plan" and outer not in ("plan", "core"))
    ]
    assert not wrong


def test_a_framework_trains_on_what_it_transforms_and_reads():
    for framework in ("torch", "tf"):
        place = f"hepdata_adapters.{framework}"
        assert not offenders(f"{place}.data", (f"{place}.training",))
        assert not offenders(f"{place}.transform", (f"{place}.training", f"{place}.data"))


def test_no_module_imports_itself_by_a_detour():
    assert list(cycles({name: names & MODULES.keys() for name, names in IMPORTS.items()})) == []


def cycles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Modules that reach each other: leaves are taken away until nothing but cycles is left."""
    left = {name: set(names) - {name} for name, names in graph.items()}
    while leaves := [name for name, names in left.items() if not names & left.keys()]:
        for name in leaves:
            del left[name]
    while roots := left.keys() - set().union(*left.values()):
        for name in roots:
            del left[name]
    if left:
        yield sorted(left)


def test_cycles_are_found():
    assert list(cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()})) == [["b", "c"]]


def test_common_knows_no_framework_and_nobody_above():
    forbidden = (
        "torch", "lightning", "torchmetrics", "tensorflow", "keras", "hepdata_serving",
        "hepdata_adapters.torch", "hepdata_adapters.tf", "hepdata_adapters.cli",
    )  # fmt: skip
    assert not offenders(COMMON, forbidden)


def test_torch_knows_neither_tensorflow_nor_anybody_above():
    forbidden = (
        "tensorflow", "keras", "hepdata_serving", "hepdata_adapters.tf", "hepdata_adapters.cli",
    )  # fmt: skip
    assert not offenders("hepdata_adapters.torch", forbidden)


def test_tf_knows_neither_torch_nor_anybody_above():
    forbidden = (
        "torch", "lightning", "torchmetrics", "hepdata_serving", "hepdata_adapters.torch",
        "hepdata_adapters.cli",
    )  # fmt: skip
    assert not offenders("hepdata_adapters.tf", forbidden)


def test_serving_does_not_know_the_command_line():
    assert not offenders("hepdata_serving", ("hepdata_adapters.cli",))


def test_expressions_know_columns_and_errors_only():
    allowed = {f"{COMMON}.core.columns", f"{COMMON}.core.errors"}
    for module, names in IMPORTS.items():
        if room_of(module) == "expressions":
            own = {name for name in names if name.startswith("hepdata_")}
            assert {name for name in own if room_of(name) != "expressions"} <= allowed, module


def test_nothing_evaluates_or_unpickles():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), path
        assert not IMPORTS[module] & {"pickle", "cloudpickle", "dill", "marshal"}, path


PUBLIC = {
    "hepdata_adapters": {
        "DatasetConfig", "Feature", "HepDataError", "Sample", "Specs", "compute_specs",
        "load_config", "scaling_function",
    },
    "hepdata_adapters.decode": {"inverse", "to_awkward", "write_root"},
    "hepdata_adapters.expressions": {"Expression", "Jagged", "parse"},
    "hepdata_adapters.inference": {
        "RawEvents", "columns_from_events", "events_from_columns", "raw_events", "scan_inputs",
    },
    "hepdata_adapters.plan": {"Plan", "PlanFile", "Shard", "UnitReads", "unit_reads"},
    "hepdata_adapters.runs": {"Run", "fit", "load_run", "resume"},
    "hepdata_adapters.specs": {
        "Comparison", "Drift", "Specs", "compare", "compute_specs", "merge_specs", "update_specs",
    },
    "hepdata_adapters.torch": {
        "EventModule", "EventTransform", "FeedForward", "RootDataModule", "RootIterableDataset",
        "RootLoader", "Scorer", "weighted_loss",
    },
    "hepdata_adapters.tf": {"EventTransform", "RootSource", "root_dataset"},
    "hepdata_adapters.testing": {"Delivery", "assert_exactly_once", "assert_resumes"},
    "hepdata_adapters.weaver": {"Conversion", "Note", "convert"},
}  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_public(module):
    public = import_module(module)
    assert set(public.__all__) == PUBLIC[module]
    for name in public.__all__:
        assert getattr(public, name).__doc__, name


def test_the_public_modules_are_all_that_is_loose():
    loose = {f"hepdata_adapters.{path.stem}" for path in (ROOT / "hepdata_adapters").glob("*.py")}
    assert loose - {"hepdata_adapters.__init__", "hepdata_adapters.__main__"} <= PUBLIC.keys()


def test_docs_and_examples_import_what_is_public():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.*")]
    texts = {path: path.read_text() for path in pages if path.suffix in (".md", ".py")}
    wrong = {
        (path.name, name)
        for path, text in texts.items()
        for name in re.findall(r"(?:from|import) (hepdata_adapters[\w.]*)", text)
        if name not in PUBLIC
    }
    assert not wrong


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
    ("room", "names", "others"),
    [
        ("tf", "data.dataset training.train training.run_folder transform.event_transform", TORCH),
        (
            "torch",
            "data.dataset training.train training.run_folder data.datamodule",
            TENSORFLOW,
        ),
    ],
)
def test_a_room_does_not_import_the_other_framework(room, names, others):
    pytest.importorskip({"tf": "tensorflow", "torch": "torch"}[room])
    full = [f"hepdata_adapters.{room}.{name}" for name in names.split()]
    for name, loaded in zip(full, loaded_after(*full), strict=True):
        assert name in loaded
        assert not loaded & others, name


def test_modules_and_tests_stay_small():
    tests = {str(path.relative_to(ROOT)): path for path in (ROOT / "tests").rglob("*.py")}
    for limit, paths in ((400, MODULES), (500, tests)):
        lines = {name: len(path.read_text().splitlines()) for name, path in paths.items()}
        assert {name: number for name, number in lines.items() if number > limit} == {}


def test_the_tests_mirror_the_package():
    package = {
        Path("serving" if base == BASES[1] else "", *path.parent.relative_to(base).parts[1:])
        for base in BASES
        for path in MODULES.values()
        if path.is_relative_to(base / OURS[BASES.index(base)])
    }
    tests = {
        path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert tests <= package | {Path(), Path("benchmarks"), Path("docs"), Path("examples")}
