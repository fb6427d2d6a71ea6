"""A wrong config file, override or argument is an error that names the key and the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hepdata_adapters import Sample
from hepdata_adapters.common.config.config_file import MAX_CONFIG_BYTES, load_config
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_adapters.torch import RootDataModule, RootIterableDataset
from tests.helpers.faults import PLAIN, says, write

MINIMAL = "samples: [{files: a.root, label: 1}]\n"

# config files


def config_error(folder: Path, text: str | bytes, overrides: tuple[str, ...] = ()) -> str:
    """The one line that a config file gets; it names the file unless ``--set`` is at fault."""
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message or message.startswith("--set")
    return message


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("sampels: 1", "sampels", "samples"),
        ("splitt: {}", "splitt", "split"),
        ("split: {trian: 0.5}", "split.trian", "train"),
        ("training: {epoch: 3}", "training.epoch", "epochs"),
        ("defaults: {scalling: none}", "defaults.scalling", "scaling"),
        ("features: [{branch: x, lenght: 2}]", "features.0.lenght", "length"),
        ("model: {hiden: [3]}", "model.hiden", "hidden"),
        ("batch-size: 3", "batch-size", "training.batch_size"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(tmp_path, text, key, nearest):
    message = config_error(tmp_path, MINIMAL + text)
    assert f"unknown key {key!r}; " in message
    assert nearest in message


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ("[{files: a.root, lable: 1}]", "unknown key 'samples.0.lable'; did you mean 'label'?"),
        ("[{files: a.root, weight: {brunch: w}}]", "unknown key 'samples.0.weight.brunch'"),
        ("[{files: 5}]", "samples.0.files: Input should be a valid list"),
        ("[{files: 2026-01-01}]", "samples.0.files: Input should be a valid list"),
        ("[{files: []}]", "samples.0.files: List should have at least 1 item"),
        ("[]", "samples: List should have at least 1 item"),
        ("[a.root]", "samples.0: Input should be a valid mapping"),
        ("5", "samples: Input should be a valid list"),
        ("[{label: 1}]", "samples.0.files: Field required"),
        ("[{files: a.root, weight: .nan}]", "samples.0.weight.constant: Input should be a finite"),
    ],
)
def test_wrong_samples_say_what_is_wrong_and_nothing_else(tmp_path, samples, said):
    message = config_error(tmp_path, f"samples: {samples}")
    assert said in message
    assert ";" not in message.replace("; did you mean", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("split: {train: 0.9}", "train + validation + test must be 1"),
        ("split: {train: 1.5}", "split.train"),
        ("split: {train: .nan}", "split.train"),
        ("defaults: {length: 1.5}", "neither a quantile below 1 nor a whole number"),
        ("defaults: {missing: .nan}", "defaults.missing"),
        ("features: x", "features: "),
        ("task: guess", "'binary', 'multiclass' or 'regression'"),
        ("name: ../outside", "name: "),
        ("training: null", "training: Input should be a valid mapping"),
        ("training: {batch_size: 0}", "training.batch_size: "),
        ("training: {seed: -1}", "training.seed: "),
        ("sampling: {chunk_size: 0}", "sampling.chunk_size: "),
    ],
)
def test_a_wrong_value_is_named_by_its_key(tmp_path, text, said):
    assert said in config_error(tmp_path, MINIMAL + text)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "just words", "a: [", "a: b: c", "\tx: 1", "{", "--- 1\n--- 2", b"\xff\xfe\x00",
        b"\x00\x01", "a: 1\na: 2", "? [a]\n: 1", "!!map [1, 2]", "!!int ab", "x: 2026-13-45",
        "!!float x", "!!bool x", "x: 0b_", "x: " + "9" * 5000, "[" * 3000,
        "a: !!binary é", "1: 2",
    ],
)  # fmt: skip
def test_yaml_garbage_is_refused(tmp_path, text):
    config_error(tmp_path, text)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir ['{}']",
        "!!python/object/new:os.mkdir ['{}']",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!custom x",
    ],
)
def test_yaml_cannot_run_code(tmp_path, tag):
    made = tmp_path / "made"
    message = config_error(tmp_path, MINIMAL + "name: " + tag.format(made))
    assert "constructor" in message
    config_error(tmp_path, MINIMAL, ("name=" + tag.format(made),))
    assert not made.exists()


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "aliases are not supported" in config_error(tmp_path, "\n".join(lines))


def test_a_huge_config_is_refused_unread(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(100 * MAX_CONFIG_BYTES)
    with pytest.raises(ConfigError, match=says("larger than", path)):
        load_config(path)


def test_a_missing_config_is_named(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=says("no config file", path)):
            load_config(path)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("x", "write key.sub=value"),
        ("=1", "write key.sub=value"),
        ("a..b=1", "write key.sub=value"),
        ("5=1", "write key.sub=value"),
        ("samples.5.name=x", "there is no item '5'"),
        ("samples.x=1", "there is no item 'x'"),
        ("samples.²=1", "there is no item '²'"),
        ("samples.-1.name=x", "there is no item '-1'"),
        ("features.0=MET", "there is no 'features'"),
        ("training.epochs=[[", "--set training.epochs=[["),
        ("training.epochs=abc", "training.epochs: Input should be a valid integer"),
        ("training.epochs=", "training.epochs: "),
        ("training.epochs=!!int x", "--set training.epochs=!!int x"),
        ("trainning.epochs=3", "unknown key 'trainning'; did you mean 'training'"),
        ("training.epoch=3", "unknown key 'training.epoch'; did you mean 'epochs'?"),
        ("name=" + "[" * 3000, "nested more than 50 deep"),
    ],
)
def test_a_bad_override_is_named(tmp_path, assignment, said):
    assert said in config_error(tmp_path, MINIMAL, (assignment,))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200) | st.text("{}[]:,-&*!?|>'\"%@` \n\tab01.~<=#é", max_size=60))
@example(b"samples: [{files: 5}]")
@example("!!set [1]")
def test_any_bytes_as_config_give_a_config_or_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError):
        load_config(path)


_VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["branch", "files", "label", "train", "epochs", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(st.sampled_from(sorted(RunConfig.model_fields)), _VALUES, max_size=5))
def test_any_document_gives_a_config_or_a_config_error(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.safe_dump({"samples": [{"files": "a.root"}]} | document))
    try:
        load_config(path)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 (no error is right too)


# arguments of the datasets


@pytest.mark.parametrize("size", [0, -1, 2.5, "8"])
def test_a_batch_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(ConfigError, match=says("batch_size", repr(size))):
        RootIterableDataset(write(tmp_path / "a.root"), batch_size=size, progress=False)


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (3, None), (-1, 2), (0, 0)])
def test_a_rank_outside_the_world_is_refused(tmp_path, rank, world_size):
    path = write(tmp_path / "a.root")
    with pytest.raises(ConfigError, match=f"rank {rank} is not among"):
        RootIterableDataset(path, rank=rank, world_size=world_size, progress=False)


def test_a_rank_in_the_environment_must_be_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ConfigError, match=says("RANK", "first")):
        RootIterableDataset(write(tmp_path / "a.root"), progress=False)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=says("'valid'", "train, validation, test")):
        RootIterableDataset(tmp_path / "a.root", split="valid")


def test_an_unknown_argument_is_named_with_the_nearest():
    for kind in (RootIterableDataset, RootDataModule):
        with pytest.raises(ConfigError, match=says("'featres'", "'features'")):
            kind("a.root", featres=["MET"])


@pytest.mark.parametrize("samples", [None, 5, [], {}, [Sample(files="a.root"), "b.root"], [5]])
def test_samples_of_no_known_kind_are_refused(samples):
    with pytest.raises(HepDataError):
        RootIterableDataset(samples)


def test_a_batch_size_of_zero_is_refused_by_the_data_module(tmp_path):
    path = write(tmp_path / "a.root")
    with pytest.raises(ConfigError, match="batch_size"):
        RootDataModule({str(path): 1}, batch_size=0, progress=False).train_dataloader()
