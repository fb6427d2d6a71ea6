"""What a folder of exported models should serve: ``models.config`` and the versions on disk.

"Aspired versions" is TF Serving's name for the versions that should be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.tfserving.configs import MODELS

_FOLDER = "models"

# what fits between the slashes and colons of TF Serving's URLs, and is one folder's name
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass(frozen=True)
class Aspired:
    """The folder of each version and the version of each label, by model."""

    versions: Mapping[str, Mapping[int, Path]]
    labels: Mapping[str, Mapping[str, int]]


def read_config(directory: Path) -> ModelServerConfig:
    """The ``models.config`` of an exported folder; raises ConfigError where there is none."""
    path = directory / MODELS
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{directory} holds no {MODELS}; "
            "make one with: hepdata-adapters export RUN --format tfserving -o DIR"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        return text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        raise ConfigError(f"{path} is no ModelServerConfig in text form: {error}") from error


def aspired(config: ModelServerConfig, directory: Path) -> Aspired:
    """What the config asks for among the versions in ``directory/models/<name>``.

    The base paths of the config are those of the machine that exported the models, so only
    their last part, the name, is used: the folder may have moved since.
    Raises ConfigError for a config that names no such thing.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise ConfigError(f"{MODELS} has no model_config_list")
    versions: dict[str, Mapping[int, Path]] = {}
    labels: dict[str, Mapping[str, int]] = {}
    for model in config.model_config_list.config:
        _check(model)
        if model.name in versions:
            raise ConfigError(f"model {model.name!r} stands twice in {MODELS}")
        versions[model.name] = _chosen(model, directory / _FOLDER / model.name)
        labels[model.name] = dict(model.version_labels)
    if not versions:
        raise ConfigError(f"{MODELS} names no model")
    return Aspired(versions, labels)


def _check(model: ModelConfig) -> None:
    if not _NAME.fullmatch(model.name):
        raise ConfigError(f"a model cannot be called {model.name!r}: use letters, digits, _ . -")
    if PurePosixPath(model.base_path).name != model.name:
        raise ConfigError(
            f"model {model.name!r} has the base_path {model.base_path!r}; only models in "
            f"{_FOLDER}/<name> of the served folder can be served"
        )
    if model.model_platform != "tensorflow":
        raise ConfigError(
            f"model {model.name!r} is of platform {model.model_platform!r}, not 'tensorflow'"
        )


def _chosen(model: ModelConfig, folder: Path) -> dict[int, Path]:
    """Folders of the versions that the model's policy chooses, by number."""
    found = _on_disk(folder)
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific":
        chosen = sorted(policy.specific.versions)
        missing = [number for number in chosen if number not in found]
        if missing:
            raise ConfigError(
                f"version {missing[0]} of model {model.name!r} is not in {folder}, "
                f"which holds {sorted(found) or 'no version'}"
            )
    elif kind == "all":
        chosen = sorted(found)
    else:
        # TF Serving's default is the one latest version
        chosen = sorted(found)[-(policy.latest.num_versions or 1) :]
    if not chosen:
        raise ConfigError(f"{folder} holds no version of model {model.name!r}")
    return {number: found[number] for number in chosen}


def _on_disk(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    return {
        int(path.name): path
        for path in folder.iterdir()
        if re.fullmatch("[0-9]+", path.name) and path.is_dir()
    }
