"""All models of a folder: which versions are loaded, which one a request means, reloading.

Requests read one immutable table that a reload replaces as a whole, so that a request sees the
old models or the new ones, and never waits for a model that is loading.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from hepdata_adapters.common.core.errors import HepDataError
from hepdata_serving.tfserving.aspired import Aspired, aspired, read_config
from hepdata_serving.tfserving.faults import RequestError, invalid
from hepdata_serving.tfserving.servable import Servable, load
from hepdata_serving.versions import STABLE


@dataclass(frozen=True)
class _Status:
    state: int
    error: str = ""


@dataclass(frozen=True)
class _Table:
    """What is served, and the state of every version that ever was."""

    models: Mapping[str, Mapping[int, Servable]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    statuses: Mapping[tuple[str, int], _Status] = field(default_factory=dict)


class Engine:
    """The models of an exported folder. All methods may be called from many threads.

    ::

        engine = Engine(directory)
        engine.reload()
        servable = engine.find(ModelSpec(name="tth"))
        servable.predict({"MET": np.array([1.0], np.float32), ...})
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._table = _Table()
        self._reloading = threading.Lock()
        self._read: Aspired | None = None

    @property
    def models(self) -> list[str]:
        """The names of the models that are served."""
        return sorted(self._table.models)

    def reload(self) -> None:
        """Serve what the folder's ``models.config`` asks for.

        Versions that are new are loaded before any old one is dropped, and versions and labels
        change in one step. On any error all stays as it was: ConfigError for a config that makes
        no sense, ArchiveError for a version that cannot be loaded or misses its golden
        predictions, RequestError (FAILED_PRECONDITION) for a label of a version that the config
        does not load.
        """
        with self._reloading:
            self._serve_folder()

    def reload_if_changed(self) -> None:
        """`reload` if the folder asks for something else than when it was last read."""
        with self._reloading:
            if aspired(read_config(self.directory), self.directory) != self._read:
                self._serve_folder()

    def reload_config(self, config: ModelServerConfig) -> None:
        """`reload` with a config that a client sends, until the folder's own one changes.

        As in TF Serving, a label can only be put on a version that is loaded already, so that
        no request with this label waits or fails: load with one config, label with the next.
        """
        with self._reloading:
            wanted = aspired(config, self.directory)
            _check_labels(wanted.labels, self._table.models)
            self._apply(wanted)

    def find(self, spec: ModelSpec) -> Servable:
        """The version that a request means: by number, by label, or else the stable one.

        Without a label ``stable`` it is the latest, as in TF Serving, which knows no other rule:
        an export must not move the requests that name no version.

        Raises RequestError: NOT_FOUND for a model or version that is not served,
        INVALID_ARGUMENT for a label that it does not have.
        """
        table = self._table
        if not spec.name:
            raise invalid("the request names no model")
        loaded = table.models.get(spec.name)
        if loaded is None:
            known = ", ".join(sorted(table.models))
            raise _not_found(f"no model {spec.name!r} is served, only: {known}")
        number = _number(spec, table)
        if number is None:
            number = table.labels.get(spec.name, {}).get(STABLE, max(loaded))
        if number not in loaded:
            raise _not_found(
                f"version {number} of model {spec.name!r} is not served, only: "
                f"{', '.join(map(str, sorted(loaded)))}"
            )
        return loaded[number]

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """The state of the version that is meant, or of all versions of the model, latest first.

        Raises RequestError as `find` does.
        """
        table = self._table
        number = _number(spec, table)
        statuses = {
            version: status
            for (model, version), status in table.statuses.items()
            if model == spec.name and number in (None, version)
        }
        if not statuses:
            which = "any version" if number is None else f"version {number}"
            raise _not_found(f"could not find {which} of model {spec.name!r}")
        response = GetModelStatusResponse()
        for version, status in sorted(statuses.items(), reverse=True):
            entry = response.model_version_status.add(version=version, state=status.state)
            if status.error:
                entry.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
            entry.status.error_message = status.error
        return response

    def _serve_folder(self) -> None:
        self._read = None
        self._read = aspired(read_config(self.directory), self.directory)
        self._apply(self._read)

    def _apply(self, wanted: Aspired) -> None:
        """Load, then switch; only one thread at a time may be here."""
        _check_labels(wanted.labels, wanted.versions)
        before = self._table
        new = {
            (model, version): folder
            for model, versions in wanted.versions.items()
            for version, folder in versions.items()
            if version not in before.models.get(model, {})
        }
        self._note(dict.fromkeys(new, _Status(ModelVersionStatus.LOADING)))
        loaded: dict[tuple[str, int], Servable] = {}
        for key, folder in new.items():
            try:
                loaded[key] = load(*key, folder)
            except HepDataError as error:
                ended = dict.fromkeys(new, _Status(ModelVersionStatus.END))
                self._note(ended | {key: _Status(ModelVersionStatus.END, str(error))})
                raise
        models = {
            model: {
                version: loaded.get((model, version)) or before.models[model][version]
                for version in versions
            }
            for model, versions in wanted.versions.items()
        }
        serving = {(model, version) for model in models for version in models[model]}
        statuses = dict.fromkeys(self._table.statuses, _Status(ModelVersionStatus.END)) | {
            key: status
            for key, status in self._table.statuses.items()
            if status.error and key not in serving
        }
        statuses |= dict.fromkeys(serving, _Status(ModelVersionStatus.AVAILABLE))
        self._table = _Table(models, wanted.labels, statuses)

    def _note(self, statuses: Mapping[tuple[str, int], _Status]) -> None:
        table = self._table
        self._table = replace(table, statuses={**table.statuses, **statuses})


def _number(spec: ModelSpec, table: _Table) -> int | None:
    """The version's number if the request gives it, by itself or by a label."""
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        return int(spec.version.value)
    if choice == "version_label":
        labels = table.labels.get(spec.name, {})
        if spec.version_label not in labels:
            known = ", ".join(sorted(labels)) or "none"
            raise invalid(
                f"model {spec.name!r} has no label {spec.version_label!r}; its labels: {known}"
            )
        return labels[spec.version_label]
    return None


def _check_labels(
    labels: Mapping[str, Mapping[str, int]], versions: Mapping[str, Mapping[int, object]]
) -> None:
    """Raise the fault of the first label whose version is not among these."""
    for model, numbers in labels.items():
        loaded = versions.get(model, {})
        for label, version in numbers.items():
            if version not in loaded:
                raise RequestError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"label {label!r} of model {model!r} is for version {version}, which is not "
                    f"loaded; loaded are: {sorted(loaded) or 'none'}",
                )


def _not_found(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.NOT_FOUND, message)
