"""The recipes of docs/architecture.md, carried out from outside with something made up."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pytest
import yaml

from hepdata_adapters import runs
from hepdata_adapters.cli import main as cli
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.config.split_config import Split
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.frozen_model import FrozenModel
from hepdata_adapters.common.events import split as splits
from hepdata_adapters.common.events.split_strategy import SPLITS, SplitStrategy
from hepdata_adapters.common.files.preparation import Preparation, RawBranch
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.transform import scaling_parameters, scalings
from hepdata_adapters.common.transform.graph.objects import members
from hepdata_adapters.common.transform.output import Output
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.scalings.function import Function, Scaled
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.torch import RootIterableDataset
from hepdata_serving import from_run
from hepdata_serving.answers import predict_events
from hepdata_serving.errors import ArchiveError
from hepdata_serving.golden import check_golden
from tests.helpers.samples import write_events

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_file_of_the_page_is_there() -> None:
    bases = (ROOT, ROOT / "hepdata_adapters", ROOT / "serving" / "hepdata_serving")
    names = re.findall(r"`([\w/]+/(?:[\w.]+\.py)?)`", PAGE)
    assert len(names) > 25
    assert [name for name in names if not any((base / name).exists() for base in bases)] == []


def test_an_event_walks_through_twelve_files() -> None:
    walk = PAGE.partition("## The walk of an event")[2].partition("## The walk of a setting")[0]
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`", walk, re.MULTILINE)
    assert len(set(steps)) == len(steps) == 12
    assert re.findall(r"`[\w/]+\.py`", walk) == [f"`{step}`" for step in steps]


class SquareRoot(Function):
    """The root of a value, with its sign."""

    kind: Literal["root"] = "root"

    @property
    def text(self) -> str:
        return "root(value)"

    def forward(self, backend: Any, values: Any) -> Any:
        return backend.math.sign(values) * backend.math.sqrt(backend.math.abs(values))

    def inverse(self, values: Any) -> Any:
        return np.sign(values) * values**2


def fit_root(values: Any) -> Scaled:
    center, spread = values.location_and_spread(SquareRoot())
    return Scaled(SquareRoot(), center, 1 / spread)


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = MappingProxyType({**scalings.FUNCTIONS, "root": SquareRoot})
    monkeypatch.setattr(scalings, "FUNCTIONS", functions)
    fits = MappingProxyType({**scalings.FITS, "robust": fit_root})
    monkeypatch.setattr(scaling_parameters, "FITS", fits)


def test_a_scaling(scaling: None, tmp_path: Path) -> None:
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    from hepdata_adapters.tf.transform.scaling import encode
    from hepdata_adapters.torch.transform.scaling import Encoding

    path = write_events(tmp_path / "a.root", 200)
    features = [{"branch": "MET", "scaling": "robust"}]
    dataset = RootIterableDataset(path, batch_size=200, features=features, progress=False)
    (feature,) = dataset.prepared.transform.vector.features  # as the specs made it
    again = FeatureTransform.model_validate_json(feature.model_dump_json())  # as archives hold it
    assert isinstance(again.function, SquareRoot)
    assert again == feature

    raw = np.random.default_rng(0).normal(0, 50, (1000, 1))
    expected = feature.encode(raw).values
    module, _, _ = Encoding([again])(torch.from_numpy(raw))
    graph, _, _ = tf.function(lambda x: encode(x, [again]))(tf.constant(raw))
    exported = torch.export.export(Encoding([again]), (torch.from_numpy(raw),)).module()
    for values in (module.numpy(), graph.numpy(), exported(torch.from_numpy(raw))[0].numpy()):
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(feature.decode(expected), raw, rtol=1e-5, atol=1e-4)


class NumberTransform(FrozenModel):
    """How many values of a jagged branch are above 0, ``(n, 1)`` float32."""

    kind: Literal["number"] = "number"
    branch: str
    counted: tuple[()] = ()

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.branch,)

    def __call__(self, columns: Any) -> Output:
        lists = columns[self.branch].to_lists()
        numbers = np.array([[sum(x > 0 for x in values)] for values in lists], np.float32)
        return Output({"": numbers}, np.zeros((len(numbers), 0), np.int32))


def number(backend: Any, columns: Any, transform: NumberTransform) -> dict[str, Any]:
    """The same in the operations of a backend."""
    objects = members(backend, columns, transform.branches)
    above = backend.count(objects.present & (objects.values[transform.branch] > 0))
    return {"": backend.cast(backend.expand(above, 1), "float32")}


def test_a_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    from hepdata_adapters.tf.transform import event_transform as in_tf
    from hepdata_adapters.tf.transform.objects import TfTensors
    from hepdata_adapters.torch.transform import event_transform as in_torch
    from hepdata_adapters.torch.transform.objects import TorchTensors

    class Number(torch.nn.Module):
        def __init__(self, transform: NumberTransform) -> None:
            super().__init__()
            self.transform = transform

        def forward(self, columns: Any) -> Any:
            backend = TorchTensors()
            made = number(backend, columns, self.transform)
            return made, backend.valid

    monkeypatch.setitem(in_torch._MODULES, NumberTransform, Number)
    makers = {
        **in_tf._MAKERS,
        NumberTransform: lambda columns, one: number(TfTensors(), columns, one),
    }
    monkeypatch.setattr(in_tf, "_MAKERS", makers)
    monkeypatch.setattr(in_tf.Transform, "model_validate", lambda transform: transform)

    branch = RawBranch(name="pt", kind="jagged", dtype="float32")
    transform = Transform.model_construct(
        preparation=Preparation(branches=(branch,)),
        inputs={"numbers": NumberTransform(branch="pt")},
    )
    lists = [[30.0, 20.0], [], [-8.0]]
    expected = transform({"pt": Jagged.from_lists(lists)}).arrays["numbers"]
    assert expected.tolist() == [[2.0], [0.0], [0.0]]
    padded = np.array([[30, 20], [99, 99], [-8, 99]], np.float32)
    dense = {"pt": padded, "pt_length": np.array([2, 0, 1])}
    module = in_torch.EventTransform(transform)
    arrays, valid = module({name: torch.from_numpy(values) for name, values in dense.items()})
    assert arrays["numbers"].tolist() == expected.tolist()
    assert valid.all()
    layer = in_tf.EventTransform(transform)
    graph = layer({name: tf.constant(values) for name, values in dense.items()})
    assert graph["numbers"].numpy().tolist() == expected.tolist()


class OddSplit(Split):
    """Odd entries are for testing."""

    way = "odd"


class ByOddness(SplitStrategy[OddSplit]):
    hint = "none"

    def branches(self, manifest: Any) -> tuple[str, ...]:
        return ()

    def codes(self, branches: Any, entries: Any) -> Any:
        odd = np.arange(entries.start, entries.stop) % 2 == 1
        return np.where(odd, SPLITS.index("test"), SPLITS.index("train"))

    def description(self, branches: Any) -> str:
        return "odd entries"


def test_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(splits.STRATEGIES, OddSplit, ByOddness)
    path = write_events(tmp_path / "a.root", 200)
    plain = RootIterableDataset(path, batch_size=None, progress=False)
    config = plain.config.model_copy(update={"split": OddSplit()})
    prepared = Dataset.prepare(config)
    dataset = RootIterableDataset(prepared, split="test", batch_size=200, progress=False)
    assert {int(entry) % 2 for batch in dataset for entry in batch["event"][:, 1]} == {1}
    assert splits.describe_split(OddSplit(), ()) == "odd entries"


def export_weights(run: Any, directory: Path) -> Path:
    """An export of a run as bare tensors beside the files that every export has."""
    torch = pytest.importorskip("torch")
    model = from_run.exportable_of(run)
    directory.mkdir()
    for name, content in model.described("1", {"torch": torch.__version__}).items():
        (directory / name).write_bytes(content)
    torch.save(model.scorer.state_dict(), directory / "weights.pt")
    return directory


def test_an_export_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(from_run.EXPORTERS, "weights", export_weights)  # type: ignore[misc]
    files = [write_events(tmp_path / f"{label}.root", 200, seed=label) for label in (0, 1)]
    config = RunConfig.model_validate({
        "samples": [{"files": str(path), "label": label} for label, path in enumerate(files)],
        "features": ["MET", {"branch": "Jet_pt", "length": 2}],
        "training": {"epochs": 1, "accelerator": "cpu"},
    })  # fmt: skip
    runs.fit(config, tmp_path / "run", overwrite=False)
    run = runs.load_run(tmp_path / "run")
    folder = from_run.export_run(run, tmp_path / "export", "weights")  # type: ignore[arg-type]

    # another process would have the files alone
    transform = Transform.model_validate_json((folder / "transform.json").read_bytes())
    scorer = copy.deepcopy(run.model)
    for parameter in scorer.parameters():
        torch.nn.init.zeros_(parameter)
    golden = json.loads((folder / "golden.json").read_bytes())

    def predict(events: Any) -> list[Any]:
        return predict_events(events, transform, lambda x: scorer(torch.from_numpy(x)).numpy())

    with torch.inference_mode(), pytest.raises(ArchiveError, match="golden event 0"):
        check_golden(golden["events"], golden["predictions"], predict)
    scorer.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    with torch.inference_mode():
        check_golden(golden["events"], golden["predictions"], predict)


def test_a_source_protocol(tmp_path: Path) -> None:
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    class Mounted(LocalFileSystem):  # type: ignore[misc]
        protocol = ("mounted",)

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return super()._strip_protocol(str(path).removeprefix("mounted://"))

    fsspec.register_implementation("mounted", Mounted)
    path = write_events(tmp_path / "a.root", 100)
    one, other = (
        [
            batch["x"]
            for batch in RootIterableDataset(
                url, batch_size=64, shuffle=False, split="train", progress=False, features=["MET"]
            )
        ]
        for url in (str(path), f"mounted://{path}")
    )
    assert [x.tolist() for x in one] == [x.tolist() for x in other]


def test_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def count(config: Path) -> None:
        """Print the number of samples of a config."""
        print(len(yaml.safe_load(config.read_text())["samples"]))

    commands = [*cli.app.registered_commands]
    monkeypatch.setattr(cli.app, "registered_commands", commands)
    cli.app.command()(count)
    (tmp_path / "config.yaml").write_text("samples: [{files: a.root, label: 1}]\n")
    assert cli.main(["count", str(tmp_path / "config.yaml")]) == 0
    assert capsys.readouterr().out == "1\n"
