"""Changes of what a folder of models serves: promotion and roll-back, written as configs.

``models.config`` is the state: what a server that starts now serves. ``rollout/`` holds the
configs that bring a running server there, in order. ``stable.json`` beside the versions of a
model lists those that were stable before, the way back of a roll-back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hepdata_adapters.common.core.errors import ConfigError, nearest
from hepdata_serving.archive import write_atomically
from hepdata_serving.errors import ArchiveError
from hepdata_serving.integrity import parse_json
from hepdata_serving.tfserving.configs import MODELS, ServedModel, parse_models, render_models
from hepdata_serving.tfserving.states import sequence
from hepdata_serving.versions import CANARY, STABLE, Versions

ROLLOUT = "rollout"
_HISTORY = "stable.json"


def promote(directory: Path, name: str | None = None) -> list[Path]:
    """Make the canary stable; returns the configs for a running server, in order.

    name: may be left out where there is one model. Raises ConfigError if there is no such model
    or no canary, ArchiveError for a corrupt folder.
    """
    return _change(directory, name, Versions.promoted)


def rollback(directory: Path, name: str | None = None) -> list[Path]:
    """Make the version stable that was so before; returns the configs, in order.

    Raises ConfigError if there is no such model or version, ArchiveError for a corrupt folder.
    """
    return _change(directory, name, Versions.rolled_back)


def announce(directory: Path, name: str, version: int) -> list[Path]:
    """Serve a newly exported version: the first as stable, a later one as canary."""
    before = served_versions(directory).get(name)
    after = before.exported(version) if before else Versions(stable=version)
    return _write(directory, name, before, after)


def served_versions(directory: Path) -> dict[str, Versions]:
    """The state of each model by name. Raises ArchiveError for a corrupt folder."""
    return {
        name: _versions(directory, model)
        for name, model in parse_models(directory / MODELS).items()
    }


def versions_on_disk(directory: Path, name: str) -> list[int]:
    """The versions of a model that lie in the folder, served or not, in order."""
    base = directory / "models" / name
    if not base.is_dir():
        return []
    return sorted(int(path.name) for path in base.iterdir() if path.name.isdecimal())


def _change(
    directory: Path, name: str | None, change: Callable[[Versions], Versions]
) -> list[Path]:
    models = served_versions(directory)
    if not models:
        raise ConfigError(f"{directory} serves no model: it has no {MODELS}; export one first")
    if name is None:
        if len(models) > 1:
            raise ConfigError(f"name one of the models in {directory}: {', '.join(models)}")
        name = next(iter(models))
    if name not in models:
        raise ConfigError(f"{directory} serves no model {name!r}{nearest(name, models)}")
    before = models[name]
    return _write(directory, name, before, change(before))


def _versions(directory: Path, model: ServedModel) -> Versions:
    if STABLE not in model.labels or not set(model.labels) <= {STABLE, CANARY}:
        raise ArchiveError(
            f"{directory / MODELS}: model {model.name!r} has the labels "
            f"{', '.join(model.labels) or 'none'}, not {STABLE} and perhaps {CANARY}"
        )
    on_disk = versions_on_disk(directory, model.name)
    for version in model.labels.values():
        if version not in on_disk:
            raise ArchiveError(
                f"{directory / MODELS}: version {version} of {model.name!r} is not in "
                f"{directory / 'models' / model.name}"
            )
    stable = model.labels[STABLE]
    # the history only grows at a promotion: a roll-back and an interrupted promotion leave
    # versions in it that do not come before the stable one
    earlier = [v for v in _history(directory, model.name) if v < stable and v in on_disk]
    return Versions(stable, model.labels.get(CANARY), tuple(earlier))


def _history(directory: Path, name: str) -> list[int]:
    path = directory / "models" / name / _HISTORY
    if not path.exists():
        return []
    try:
        versions = parse_json(path.read_bytes(), path.name)["earlier"]
        if versions == sorted({int(version) for version in versions}):
            return list(versions)
    except (OSError, ArchiveError, TypeError, ValueError, KeyError) as error:
        raise ArchiveError(f"{path} is corrupt: {error!r}") from error
    raise ArchiveError(f"{path} is corrupt: it holds {versions!r}, not versions in order")


def _write(directory: Path, name: str, before: Versions | None, after: Versions) -> list[Path]:
    """Write the sequence, the history and, last, the state."""
    others = {
        other: ServedModel(other, state.served, state.labels)
        for other, state in served_versions(directory).items()
    }
    folder = directory / ROLLOUT
    for old in folder.glob("*.config"):
        old.unlink()
    paths = []
    for number, step in enumerate(sequence(name, before, after), 1):
        text = render_models((others | {name: step.model}).values(), directory)
        path = folder / f"{number:02}-{step.action}-{name}.config"
        paths.append(write_atomically(path, text.encode()))
    if before and len(after.earlier) > len(before.earlier):
        history = json.dumps({"earlier": after.earlier}) + "\n"
        write_atomically(directory / "models" / name / _HISTORY, history.encode())
    final = others | {name: ServedModel(name, after.served, after.labels)}
    write_atomically(directory / MODELS, render_models(final.values(), directory).encode())
    return paths
