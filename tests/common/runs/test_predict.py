"""predict: which events have a score, and what each row says of its event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.events.split import SPLITS
from hepdata_adapters.common.runs.predict import Predicted, predict_local
from hepdata_adapters.common.runs.run_folder import Run, output_names
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.event_stream import EventStream

CUT = "pt > 0.5"


def write(path: Path, seed: int, size: int = 200, **more: np.ndarray) -> Path:
    random = np.random.default_rng(seed)
    x = random.normal(size=size).astype(np.float32)
    pt = random.uniform(size=size)
    x[pt <= 0.5] = np.nan  # nothing outside of the selection may be looked at
    columns = {
        "run": np.ones(size, np.uint32),
        "luminosityBlock": np.ones(size, np.uint32),
        "event": np.arange(size, dtype=np.uint64) + np.uint64(1000 * seed),
        "pt": pt, "x": x, "w": random.uniform(-1, 1, size),
    } | more  # fmt: skip
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values.dtype for name, values in columns.items()})
        file["Events"].extend(columns)
    return path


def a_run(folder: Path, files: dict[str, Path], **options: Any) -> Run[None]:
    """A run whose score is x, as the transform has it."""
    samples = [
        {
            "files": str(path), "label": number, "name": name, "selection": CUT,
            "weight": {"branch": "w", "constant": 2.0},
        } | options.pop(name, {})
        for number, (name, path) in enumerate(files.items())
    ]  # fmt: skip
    document = {"samples": samples, "features": ["x"], "defaults": {"scaling": "none"}}
    config = RunConfig.model_validate(document | options)
    data = Dataset.prepare(config)
    return Run(
        folder, config, data.specs, data.transform, data.layout.task, output_names(data), None,
        lambda given: np.asarray(given)[:, 0],
    )  # fmt: skip


def rows_of(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        return {name: np.array(table[name].to_pylist()) for name in table.column_names}
    with uproot.open(path) as file:
        return dict(file["scores"].arrays(library="np").items())


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {name: write(tmp_path / f"{name}.root", n + 1) for n, name in enumerate(("qcd", "tth"))}


def predicted(run: Run[None], paths: list[Path], output: Path, **options: Any) -> Predicted:
    return predict_local(run, [str(path) for path in paths], output, **options)


@pytest.mark.parametrize("kind", ["root", "parquet"])
def test_events_outside_the_selection_have_no_score_and_are_never_looked_at(files, tmp_path, kind):
    run = a_run(tmp_path, files)
    output = tmp_path / f"scores.{kind}"
    paths = [files["tth"], files["qcd"]]
    done = predicted(run, paths, output)
    rows = rows_of(output)
    branches = [uproot.open(path)["Events"].arrays(library="np") for path in paths]
    pt, x, w = (np.concatenate([tree[name] for tree in branches]) for name in ("pt", "x", "w"))
    assert rows["entry"].tolist() == [*range(200), *range(200)]
    assert rows["selected"].tolist() == (pt > 0.5).tolist()
    np.testing.assert_array_equal(rows["score"], x)  # NaN where pt <= 0.5
    assert rows["sample"].tolist() == ["tth"] * 200 + ["qcd"] * 200
    assert rows["file_name"].tolist() == [str(paths[0])] * 200 + [str(paths[1])] * 200
    np.testing.assert_array_equal(rows["weight"], 2 * w)
    # the split is that of the training
    truth = np.full(400, "none", dtype="<U10")
    for split in SPLITS:
        with EventStream(Dataset.prepare(run.config), split) as stream:
            for number, file in enumerate(stream.dataset.manifest.files):
                first = [str(path) for path in paths].index(file.url) * 200
                truth[first + stream._chunks._events(number, 0).rows] = split
                assert number < 2
    assert rows["split"].tolist() == truth.tolist()
    counts = {split: int((truth == split).sum()) for split in SPLITS}
    assert dict(done.scored) == {name: n for name, n in counts.items() if n}
    assert f"{int((pt <= 0.5).sum())} outside the selection have no score" in str(done)
    assert f"train {counts['train']}" in str(done)


def test_a_weight_that_is_an_expression_is_that_of_the_training_also_for_new_files(files, tmp_path):
    weight = {"branch": "pt * w + 0.5", "constant": 2.0}
    run = a_run(tmp_path, files, qcd={"weight": weight}, tth={"weight": weight})
    paths = [files["qcd"], write(tmp_path / "new.root", 9)]
    predicted(run, paths, tmp_path / "out.root")
    branches = [uproot.open(path)["Events"].arrays(library="np") for path in paths]
    wanted = np.concatenate([2 * (t["pt"].astype(np.float64) * t["w"] + 0.5) for t in branches])
    np.testing.assert_allclose(rows_of(tmp_path / "out.root")["weight"], wanted, rtol=1e-12)


def test_a_fault_of_a_selected_event_names_its_entry_and_all_looks_at_every_event(files, tmp_path):
    run = a_run(tmp_path, files)
    x, pt = np.ones(50, np.float32), np.linspace(0, 1, 50)
    x[40] = np.nan
    bad = write(tmp_path / "bad.root", 7, 50, x=x, pt=pt)
    with pytest.raises(InvalidValueError, match=r"x holds NaN.*entry 40"):
        predicted(run, [bad], tmp_path / "out.root")
    with pytest.raises(InvalidValueError, match="x holds NaN"):
        predicted(run, [files["qcd"]], tmp_path / "out.root", every=True)
    x[40] = 1.0
    good = write(tmp_path / "good.root", 8, 50, x=x, pt=pt)
    done = predicted(run, [good], tmp_path / "out.root", every=True)
    rows = rows_of(tmp_path / "out.root")
    assert np.isfinite(rows["score"]).all()
    assert rows["selected"].sum() == (pt > 0.5).sum()
    assert (rows["split"] == "none").sum() == (pt <= 0.5).sum() == done.scored["none"]


def test_the_sample_of_a_new_file_is_asked_for_where_selections_differ(files, tmp_path):
    run = a_run(tmp_path, files, tth={"selection": "pt > 0.8"})
    new = write(tmp_path / "new.root", 9)
    with pytest.raises(ConfigError, match=r"--sample \(qcd, tth\).*--all"):
        predicted(run, [new], tmp_path / "out.root")
    with pytest.raises(ConfigError, match=r"no sample .*'ttH'; did you mean 'tth'\?"):
        predicted(run, [new], tmp_path / "out.root", sample="ttH")
    predicted(run, [new], tmp_path / "out.root", sample="tth")
    rows = rows_of(tmp_path / "out.root")
    pt = uproot.open(new)["Events"]["pt"].array(library="np")
    assert rows["selected"].tolist() == (pt > 0.8).tolist()


def test_files_of_no_sample_have_the_selection_that_all_samples_share(files, tmp_path):
    run = a_run(tmp_path, files)
    done = predicted(run, [write(tmp_path / "new.root", 9)], tmp_path / "out.root")
    rows = rows_of(tmp_path / "out.root")
    assert set(rows["sample"]) == {"unknown"}
    assert set(rows["split"][rows["selected"]]) == set(SPLITS)  # run, luminosityBlock, event
    assert "of no sample of the training" in done.remarks[0]


def test_by_entry_numbers_only_files_of_the_training_have_a_split(files, tmp_path):
    run = a_run(tmp_path, files, split={"identity": "entry"})
    predicted(run, [files["qcd"], write(tmp_path / "new.root", 9)], tmp_path / "out.root")
    rows = rows_of(tmp_path / "out.root")
    taken = rows["selected"]
    assert set(rows["split"][:200][taken[:200]]) == set(SPLITS)
    assert set(rows["split"][200:]) == {"none"}


def test_events_that_a_policy_leaves_out_have_no_score(tmp_path):
    files = {"a": write(tmp_path / "a.root", 1), "b": write(tmp_path / "b.root", 2)}
    drop = [{"branch": "x", "missing": "drop"}]
    run = a_run(tmp_path, files, features=drop, a={"selection": None}, b={"selection": None})
    done = predicted(run, [files["a"]], tmp_path / "out.root")
    rows = rows_of(tmp_path / "out.root")
    x = uproot.open(files["a"])["Events"]["x"].array(library="np")
    assert rows["selected"].tolist() == np.isfinite(x).tolist()
    assert done.outside == np.isnan(x).sum()
