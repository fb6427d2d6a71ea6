"""Versions of the models of a folder for TorchServe: export, promotion and roll-back.

``config.properties`` is the state: `load_models` names the archives that are served, at most two
of a model, and ``models`` says which version is the default, the stable one. ``stable.json``
lists the versions that were stable before, the way back of a roll-back. Archives of other
versions stay in the model store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hepdata_adapters.common.core.errors import ConfigError, nearest
from hepdata_serving.archive import write_atomically
from hepdata_serving.errors import ArchiveError
from hepdata_serving.integrity import parse_json
from hepdata_serving.torchserve import config
from hepdata_serving.torchserve.config import CONFIG, STORE, Model, Table
from hepdata_serving.torchserve.properties import ENCODING, changed, parse
from hepdata_serving.versions import Versions

_HISTORY = "stable.json"


def version_text(number: int) -> str:
    """A version as TorchServe writes it.

    >>> version_text(2)
    '2.0'
    """
    return f"{number}.0"


def versions_on_disk(directory: Path, name: str) -> dict[int, Model]:
    """The archives of a model in the folder, served or not, by version."""
    return _on_disk(directory).get(name, {})


def served_versions(directory: Path) -> dict[str, Versions]:
    """The state of each model by name.

    Raises ConfigError for settings, ArchiveError for a folder that cannot be understood.
    """
    on_disk = _on_disk(directory)
    table = _table(directory)
    history = _history(directory)
    path = directory / CONFIG
    return {
        name: _versions(path, name, table.get(name, {}), list(models), history.get(name, []))
        for name, models in on_disk.items()
    }


def served_table(directory: Path) -> tuple[Table, list[Model]]:
    """The setting ``models``, and the models to load, the stable version of each name first.

    Raises ConfigError for a folder without models, and as `served_versions` does.
    """
    config.models_in(directory / STORE)
    on_disk = _on_disk(directory)
    return _table_of(directory, served_versions(directory), on_disk)


def announce(directory: Path, before: Mapping[str, Versions], name: str, version: int) -> None:
    """Serve a newly exported version: the first as stable, a later one as canary.

    before: `served_versions` as they were without its archive.
    """
    state = before.get(name)
    after = state.exported(version) if state else Versions(stable=version)
    _write(directory, {**before, name: after})


def promote(directory: Path, name: str | None = None) -> str:
    """Make the canary stable; returns the name of the model.

    name: may be left out where there is one model. Raises ConfigError if there is no such model
    or no canary, ArchiveError for a corrupt folder. A server takes it when it starts.
    """
    return _change(directory, name, Versions.promoted)


def rollback(directory: Path, name: str | None = None) -> str:
    """Make the version stable that was so before; returns the name of the model.

    Raises ConfigError if there is no such model or version, ArchiveError for a corrupt folder.
    """
    return _change(directory, name, Versions.rolled_back)


def _change(directory: Path, name: str | None, change: Callable[[Versions], Versions]) -> str:
    before = served_versions(directory)
    if not before:
        raise ConfigError(f"{directory} serves no model; export one first")
    if name is None:
        if len(before) > 1:
            raise ConfigError(f"name one of the models in {directory}: {', '.join(before)}")
        name = next(iter(before))
    if name not in before:
        raise ConfigError(f"{directory} serves no model {name!r}{nearest(name, before)}")
    _write(directory, before | {name: change(before[name])})
    return name


def _on_disk(directory: Path) -> dict[str, dict[int, Model]]:
    store = directory / STORE
    found: dict[str, dict[int, Model]] = {}
    for path in sorted(store.glob("[!.]*.mar")):
        model = config.model_of(path)
        versions = found.setdefault(model.name, {})
        number = _number(model.version, path)
        if number in versions:
            raise ArchiveError(
                f"{store} holds version {model.version} of {model.name!r} twice: "
                f"{versions[number].archive} and {model.archive}; remove one"
            )
        versions[number] = model
    return found


def _number(version: str, where: Path) -> int:
    match = re.fullmatch(r"([1-9]\d{0,8})(?:\.0)?", version)
    if not match:
        raise ArchiveError(f"{where}: version {version!r} is none of 1.0, 2.0, 3.0, …")
    return int(match[1])


def _table(directory: Path) -> Table:
    path = directory / CONFIG
    return config.table_in(parse(path.read_text(ENCODING))) if path.is_file() else {}


def _versions(
    path: Path, name: str, table: Mapping[str, Mapping[str, object]], on_disk: Sequence[int],
    history: Sequence[int],
) -> Versions:  # fmt: skip
    """The state of a model, where ``path`` has this table of its versions."""
    if not table and len(on_disk) == 1:
        return Versions(stable=on_disk[0])  # an archive that was copied to the store
    served = {_number(version, path): options for version, options in table.items()}
    stable = [version for version, options in served.items() if options.get("defaultVersion")]
    others = sorted(set(served) - set(stable))
    if len(stable) != 1 or len(others) > 1 or not set(served) <= set(on_disk):
        raise ArchiveError(
            f"{path}: 'models' has the versions {', '.join(table) or 'none'} of {name!r}. It must "
            "have one with defaultVersion true, at most one other, and the archives of both in "
            f"{STORE}"
        )
    earlier = [version for version in history if version < stable[0] and version in on_disk]
    return Versions(stable[0], others[0] if others else None, tuple(earlier))


def _history(directory: Path) -> dict[str, list[int]]:
    path = directory / _HISTORY
    if not path.exists():
        return {}
    try:
        found = parse_json(path.read_bytes(), path.name)["earlier"]
        if all(versions == sorted({int(v) for v in versions}) for versions in found.values()):
            return dict(found)
    except (OSError, ArchiveError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ArchiveError(f"{path} is corrupt: {error!r}") from error
    raise ArchiveError(f"{path} is corrupt: it holds {found!r}, not versions in order")


def _table_of(
    directory: Path, states: Mapping[str, Versions], on_disk: Mapping[str, Mapping[int, Model]]
) -> tuple[Table, list[Model]]:
    """The table of these versions with the options that the folder has, and their models."""
    old = _table(directory)
    table: Table = {}
    models = []
    for name, state in sorted(states.items()):
        given = {_number(text, directory): options for text, options in old.get(name, {}).items()}
        # a new version runs with what was chosen for the one that it may replace
        usual = next((options for options in given.values() if options.get("defaultVersion")), {})
        for version in sorted(state.served, key=lambda version: version != state.stable):
            model = on_disk[name][version]
            fixed = {"marName": model.archive, "defaultVersion": version == state.stable}
            chosen = config.options(model.archive) | given.get(version, usual) | fixed
            table.setdefault(name, {})[model.version] = chosen
            models.append(model)
    return table, models


def _write(directory: Path, states: Mapping[str, Versions]) -> None:
    """Write the history and, last, the state."""
    table, models = _table_of(directory, states, _on_disk(directory))
    path = directory / CONFIG
    text = path.read_text(ENCODING) if path.is_file() else config.new_text()
    changes = {
        "load_models": ",".join(model.archive for model in models),
        "models": config.table_text(table),
    }
    history = {"earlier": {name: state.earlier for name, state in sorted(states.items())}}
    write_atomically(directory / _HISTORY, (json.dumps(history) + "\n").encode())
    write_atomically(path, changed(text, changes).encode(ENCODING))
