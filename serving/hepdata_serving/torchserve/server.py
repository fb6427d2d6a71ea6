"""A TorchServe on this machine only: started, ready when it says so, gone when stopped.

Java is started directly and not by the ``torchserve`` script. The script keeps one pid file
a machine (a second server is refused, and a stale file can name a stranger), reads settings
from whatever environment it is started in, and leaves logs and keys in the current folder.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import requests

from hepdata_adapters.common.errors import ConfigError, MissingExtraError
from hepdata_serving.errors import ServerError
from hepdata_serving.signals import signals_set
from hepdata_serving.torchserve import config
from hepdata_serving.torchserve.java import find_java
from hepdata_serving.torchserve.logs import LOG_CONFIG, LOG_FILE, failure_in, tail
from hepdata_serving.torchserve.processes import end_group, free_ports, port_is_free

_POLL_S = 0.1
_GRACE_S = 5.0
_PORT_TRIALS = 3
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


class TorchServer:
    """Serves the folder that `export_torchserve` wrote; use it as a context manager.

    directory: holds ``model_store/*.mar`` and ``config.properties``.
    port: of the predictions, on 127.0.0.1; 0 takes a free one. All other ports are free ones.
    workers: processes for each model. log: folder for TorchServe's log, removed at stop if None.
    timeout: seconds until every model must be ready.

    ::

        with TorchServer("exported", port=0) as server:
            scores = predict(server.url, events)
    """

    def __init__(
        self,
        directory: Path | str,
        port: int = 8080,
        *,
        workers: int = 1,
        log: Path | None = None,
        timeout: float = 120.0,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, not {workers}")
        if not 0 <= port < 65535:
            raise ConfigError(f"port must be from 0 to 65534, not {port}")
        self.directory = Path(directory).resolve()
        self.models = config.models_in(self.directory / "model_store")
        self.workers = workers
        self.timeout = timeout
        self._wanted_port = port
        self._wanted_log = log
        self._ports = config.Ports()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._log = Path()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def urls(self) -> dict[str, str]:
        """Where each model predicts, by its name."""
        base = f"http://127.0.0.1:{self._ports.inference}/predictions"
        return {model.name: f"{base}/{model.name}" for model in self.models}

    @property
    def url(self) -> str:
        """Where the one model predicts. Raises ConfigError if there are several."""
        urls = self.urls
        if len(urls) > 1:
            raise ConfigError(f"{self.directory} serves several models: {', '.join(urls)}")
        return next(iter(urls.values()))

    @property
    def pid(self) -> int | None:
        """Java's process id, which is also its process group's; None when stopped."""
        return self._process.pid if self._process else None

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> Self:
        """Start and return when every model answers.

        Raises ServerError with the reason, and leaves nothing running, when the port is in
        use, a model is refused, TorchServe dies, ``timeout`` passes or ``cancelled()`` is true.
        """
        if self._process:
            raise ServerError("this server is already running")
        java, home = find_java(), _torchserve_home()
        try:
            for trial in range(_PORT_TRIALS):
                self._ports = self._choose_ports()
                self._launch(java, home)
                try:
                    self._wait_until_ready(cancelled)
                    break
                except _PortTakenError:
                    # another process took a port between our look and Java's bind
                    self.stop()
                    if trial + 1 == _PORT_TRIALS:
                        raise
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self, stop: Callable[[float], bool]) -> None:
        """Return when ``stop(seconds)``, which may wait that long, is true.

        Raises ServerError when TorchServe ends on its own.
        """
        while not stop(0.5):
            if self._process is None:
                return
            if self._process.poll() is not None:
                raise ServerError(f"TorchServe ended unexpectedly:\n{tail(self._log)}")

    def stop(self) -> None:
        """End Java and its workers and remove all temporary files; harmless when stopped."""
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        atexit.unregister(self.stop)
        left = end_group(process, _GRACE_S) if process else []
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        if left:
            raise ServerError(f"processes {left} of TorchServe could not be ended")

    def _choose_ports(self) -> config.Ports:
        ports = config.Ports(*free_ports(5))
        if self._wanted_port == 0:
            return ports
        if not port_is_free(self._wanted_port):
            raise ServerError(
                f"port {self._wanted_port} on 127.0.0.1 is in use; choose another, or 0 for any"
            )
        return replace(ports, inference=self._wanted_port)

    def _launch(self, java: Path, home: Path) -> None:
        folder = self._folder = _temporary_folder()
        logs = self._wanted_log.resolve() if self._wanted_log else folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / LOG_FILE
        self._log.unlink(missing_ok=True)
        written = self.directory / "config.properties"
        given = config.parse(written.read_text()) if written.is_file() else {}
        properties = config.settings(self.models) | given | self._ports.properties()
        settings = folder / "config.properties"
        settings.write_text(config.render(config.with_workers(properties, self.workers)))
        (folder / "log4j2.xml").write_text(LOG_CONFIG)
        command = [
            str(java),
            f"-Dmodel_server_home={home}",
            f"-Djava.io.tmpdir={folder}",
            "-XX:-UsePerfData",  # or Java leaves a folder in /tmp
            f"-Dlog4j.configurationFile={(folder / 'log4j2.xml').as_uri()}",
            *("-cp", str(home / "ts" / "frontend" / "*")),
            "org.pytorch.serve.ModelServer",
            *("--python", sys.executable),
            *("-f", str(settings)),
            *("-s", str(self.directory / "model_store")),
            "-ncs",
            "--disable-token-auth",
        ]
        atexit.register(self.stop)
        with (logs / "console.log").open("wb") as console:
            self._process = subprocess.Popen(  # noqa: S603 (no shell, our own arguments)
                command,
                cwd=folder,
                env=_environment(os.environ, logs),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: Ctrl-C reaches us, and we end it
            )

    def _wait_until_ready(self, cancelled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.timeout
        with requests.Session() as session:
            # a proxy from the environment must not see requests to this machine
            session.trust_env = False
            while not self._is_ready(session):
                self._raise_failure()
                if cancelled():
                    raise ServerError("stopped before TorchServe was ready")
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"TorchServe was not ready after {self.timeout:g} s:\n{tail(self._log)}"
                    )
                time.sleep(_POLL_S)

    def _is_ready(self, session: requests.Session) -> bool:
        """Whether each model has all its workers and really answers a request."""
        try:
            for model in self.models:
                described = session.get(
                    f"http://127.0.0.1:{self._ports.management}/models/{model.name}", timeout=5
                )
                if described.status_code != 200:
                    return False
                workers = [worker for entry in described.json() for worker in entry["workers"]]
                if sum(worker["status"] == "READY" for worker in workers) < self.workers:
                    return False
                answer = session.post(self.urls[model.name], json={"instances": []}, timeout=5)
                if answer.status_code != 200:
                    raise ServerError(
                        f"model {model.name!r} is loaded but answers {answer.status_code}:\n"
                        f"{tail(self._log)}"
                    )
        except (requests.ConnectionError, requests.Timeout):
            return False
        return True

    def _raise_failure(self) -> None:
        """Raise ServerError if Java ended or the log tells of a failure."""
        ended = self._process is None or self._process.poll() is not None
        console = self._log.with_name("console.log")
        if ended and "Failed to bind" in tail(console, 400):
            raise _PortTakenError("a port that TorchServe needs was taken while it started")
        if ended:
            raise ServerError(f"TorchServe did not start:\n{tail(console)}")
        if failure_in(self._log):
            # Java may notice a dead worker before it has read the worker's last words
            time.sleep(1.0)
            reason = failure_in(self._log)
            raise ServerError(f"TorchServe cannot serve {self.directory}: {reason}")


class _PortTakenError(ServerError):
    """A port was free when we looked and is not any more."""


def serve(
    directory: Path | str,
    port: int = 8080,
    *,
    workers: int = 1,
    log: Path | None = None,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
) -> int:
    """Serve until Ctrl-C or SIGTERM; says ``ready: URL`` for each model once it answers.

    Returns the exit code 0. Raises ServerError when the server does not start or dies.
    """
    server = TorchServer(directory, port, workers=workers, log=log)
    stopping = threading.Event()
    with signals_set(stopping):
        try:
            server.start(cancelled=stopping.is_set)
            for url in server.urls.values():
                say(f"ready: {url}")
            server.wait(stopping.wait)
        except ServerError:
            if not stopping.is_set():
                raise
        finally:
            server.stop()
    return 0


def _torchserve_home() -> Path:
    """The folder that holds the package ``ts``."""
    spec = importlib.util.find_spec("ts")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).resolve().parent.parent
        if (home / "ts" / "frontend" / "model-server.jar").is_file():
            return home
    raise MissingExtraError("torchserve", "serve")


def _temporary_folder() -> Path:
    """A folder for this server's sockets, unpacked archives and logs."""
    usual = Path(tempfile.gettempdir()).resolve()
    # mkdtemp makes a new folder that only this user can read, also in /tmp
    place = usual if len(str(usual)) <= _MAX_TEMPORARY else Path("/tmp")  # noqa: S108
    return Path(tempfile.mkdtemp(prefix="hepserve-", dir=place))


def _environment(outer: Mapping[str, str], logs: Path) -> dict[str, str]:
    kept = {key: value for key, value in outer.items() if key not in _FOREIGN}
    kept |= {"LOG_LOCATION": str(logs), "METRICS_LOCATION": str(logs)}
    kept.setdefault("OMP_NUM_THREADS", "1")
    return kept
