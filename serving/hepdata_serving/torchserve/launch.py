"""The command, environment and folder with which Java runs TorchServe."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hepdata_adapters.common.core.errors import MissingExtraError
from hepdata_serving.torchserve.config import STORE
from hepdata_serving.torchserve.settings import Settings

_MAX_TEMPORARY = 70  # characters; the whole path of a unix socket in it must stay below 104

# settings of an outer job (torchrun, another TorchServe) that Java or a worker would obey
_FOREIGN = (
    "TS_CONFIG_FILE",
    "TS_MODEL_SERVER_HOME",
    "TS_OPEN_INFERENCE_PROTOCOL",
    "TS_BENCHMARK",
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
)


def java_command(
    java: Path, home: Path, folder: Path, directory: Path, settings: Settings
) -> list[str]:
    """Java with the files that lie in ``folder``: settings and the config of the log."""
    return [
        str(java),
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={folder}",
        "-XX:-UsePerfData",  # or Java leaves a folder in /tmp
        f"-Dlog4j.configurationFile={(folder / 'log4j2.xml').as_uri()}",
        *settings.java_options,
        *("-cp", f"{home / 'ts' / 'frontend' / '*'}{settings.plugins}"),
        "org.pytorch.serve.ModelServer",
        *("--python", settings.properties.get("python", sys.executable).strip()),
        *("-f", str(folder / "config.properties")),
        *("-s", str(directory / STORE)),
        "-ncs",
    ]


def torchserve_home() -> Path:
    """The folder that holds the package ``ts``."""
    spec = importlib.util.find_spec("ts")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).resolve().parent.parent
        if (home / "ts" / "frontend" / "model-server.jar").is_file():
            return home
    raise MissingExtraError("torchserve", "serve")


def check_torch(settings: Settings) -> None:
    """Raise MissingExtraError where TorchServe's workers, which are this Python, have no torch.

    Of another Python (``python`` in the settings) nothing is known.
    """
    if "python" not in settings.properties and importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "torch", "which runs the models of this folder")


def temporary_folder() -> Path:
    """A folder for this server's sockets, unpacked archives and logs."""
    usual = Path(tempfile.gettempdir()).resolve()
    # mkdtemp makes a new folder that only this user can read, also in /tmp
    place = usual if len(str(usual)) <= _MAX_TEMPORARY else Path("/tmp")  # noqa: S108
    return Path(tempfile.mkdtemp(prefix="hepserve-", dir=place))


def environment(outer: Mapping[str, str], logs: Path) -> dict[str, str]:
    kept = {key: value for key, value in outer.items() if key not in _FOREIGN}
    kept |= {"LOG_LOCATION": str(logs), "METRICS_LOCATION": str(logs)}
    kept.setdefault("OMP_NUM_THREADS", "1")
    return kept
