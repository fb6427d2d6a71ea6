"""What `serve` makes of a folder's ``config.properties``: all of it, or a refusal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.torchserve import config
from hepdata_serving.torchserve.addresses import Address, addresses
from hepdata_serving.torchserve.config import CONFIG, STORE, Model
from hepdata_serving.torchserve.properties import ENCODING, parse
from hepdata_serving.torchserve.versions import served_table

_FILES = (
    "keystore",
    "private_key_file",
    "certificate_file",
    "metrics_config",
    "workflow_store",
    "cpp_log_config",
)
"""Settings that name a file, from the folder of the settings if the path is relative."""


@dataclass(frozen=True)
class Settings:
    """The settings that Java gets, and what follows from them for us.

    models: those that are served, the one that answers requests without a version before the
    others of its name.
    """

    properties: Mapping[str, str]
    models: tuple[Model, ...]

    @property
    def inference(self) -> Address:
        return Address.parse(self.properties["inference_address"])

    @property
    def management(self) -> Address:
        return Address.parse(self.properties["management_address"])

    @property
    def others(self) -> dict[str, str]:
        """Where TorchServe listens besides the predictions, by what for."""
        metrics = f"{Address.parse(self.properties['metrics_address']).url}/metrics"
        if self.properties.get("metrics_mode", "").strip().lower() != "prometheus":
            metrics += " (empty without metrics_mode=prometheus)"
        grpc, grpc_management = (
            f"{self.properties[f'{name}_address'].strip()}:{self.properties[f'{name}_port'].strip()}"
            for name in ("grpc_inference", "grpc_management")
        )
        return {
            "management": f"{self.management.url}/models",
            "metrics": metrics,
            "grpc": grpc,
            "grpc management": grpc_management,
        }

    @property
    def has_tokens(self) -> bool:
        """Whether requests need one; as in TorchServe, unless the settings say no."""
        return self.properties.get("disable_token_authorization", "").strip().lower() != "true"

    @property
    def java_options(self) -> list[str]:
        """``vmargs``, which TorchServe's own launcher gives to Java."""
        return shlex.split(self.properties.get("vmargs", ""))

    @property
    def plugins(self) -> str:
        """``plugins_path`` as the end of Java's class path."""
        path = self.properties.get("plugins_path", "").strip()
        return f":{path}" if "*" in path else f":{path}/*" if path else ""


def read_settings(
    directory: Path, port: int | None, workers: int | None, free: Iterator[int]
) -> Settings:
    """The settings of a folder.

    port, workers: of the command line, None for what the settings say. All else is as in the
    file; only addresses as they were exported get free ports, so that servers do not meet.
    Raises ConfigError with all that cannot be honoured.
    """
    path = directory / CONFIG
    try:
        given = parse(path.read_text(ENCODING)) if path.is_file() else config.settings()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    table, models = served_table(directory)
    given |= {name: _absolute(given[name], directory) for name in _FILES if given.get(name)}
    problems = list(_problems(given, directory))
    listed = _listed(given)
    if listed is not None:
        archives = {model.archive for model in models}
        problems += [
            f"load_models: {archive!r} is not among the archives of 'models'"
            for archive in listed
            if archive not in archives
        ]
        models = [model for model in models if model.archive in listed]
    try:
        given |= addresses(given, port, free)
        for name in ("management_address", "metrics_address"):
            Address.parse(given[name])
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(problems))
    if workers is not None:
        table = config.with_workers(table, workers)
    own = {
        "model_store": str(directory / STORE),
        "load_models": ",".join(model.archive for model in models),
        "models": config.table_text(table),
    }
    return Settings(given | own, tuple(models))


def _listed(given: Mapping[str, str]) -> list[str] | None:
    """The archives that the settings name; None for all."""
    text = given.get("load_models", "all").strip()
    return None if text.lower() == "all" else [name.strip() for name in text.split(",")]


def _absolute(name: str, directory: Path) -> str:
    return str(directory / name.strip())


def _problems(given: Mapping[str, str], directory: Path) -> Iterator[str]:
    """What cannot be honoured."""
    for name in _FILES:
        if name in given and given[name] and not Path(given[name]).exists():
            yield f"{name}: there is no file {given[name]}"
    if bool(given.get("private_key_file")) != bool(given.get("certificate_file")):
        yield "private_key_file and certificate_file go together, and one is missing"
    store = directory / given.get("model_store", STORE).strip()
    if store.resolve() != (directory / STORE).resolve():
        yield f"model_store is {store}, and serve takes models from {directory / STORE} alone"
    if given.get("enable_envvars_config", "").strip().lower() == "true":
        yield (
            "enable_envvars_config: serve takes settings from this file and not from the "
            "environment; write them here"
        )
    if given.get("model_snapshot", "").strip():
        yield "model_snapshot: serve loads the models of load_models; remove this setting"
