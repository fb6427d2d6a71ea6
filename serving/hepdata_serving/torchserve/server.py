"""A TorchServe on this machine only: started, ready when it says so, gone when stopped.

Java is started directly and not by the ``torchserve`` script. The script keeps one pid file
a machine (a second server is refused, and a stale file can name a stranger), reads settings
from whatever environment it is started in, and leaves logs and keys in the current folder.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.errors import ServerError
from hepdata_serving.signals import signals_set
from hepdata_serving.torchserve import guard
from hepdata_serving.torchserve.java import find_java
from hepdata_serving.torchserve.launch import (
    check_torch,
    environment,
    java_command,
    temporary_folder,
    torchserve_home,
)
from hepdata_serving.torchserve.logs import LOG_CONFIG, LOG_FILE, failure_in, tail
from hepdata_serving.torchserve.probe import FAULTS, KEY_FILE, ask, tokens
from hepdata_serving.torchserve.processes import end_group, free_ports, port_is_free
from hepdata_serving.torchserve.properties import ENCODING, render
from hepdata_serving.torchserve.settings import Settings, read_settings

_POLL_S = 0.1
_GRACE_S = 5.0
_PORT_TRIALS = 3


class TorchServer:
    """Serves the folder that `export_torchserve` wrote; use it as a context manager.

    directory: holds ``model_store/*.mar`` and ``config.properties``, all of which is honoured:
    addresses and their schemes, certificates, tokens, limits. Only addresses that stand there as
    they were exported get free ports on 127.0.0.1.
    port: of the predictions; 0 takes a free one, None that of the settings.
    workers: processes for each version of a model, None as in the settings.
    log: folder for TorchServe's log, removed at stop if None.
    timeout: seconds until every model must be ready.

    ::

        with TorchServer("exported", port=0) as server:
            scores = predict(server.url, events)
    """

    def __init__(
        self,
        directory: Path | str,
        port: int | None = None,
        *,
        workers: int | None = None,
        log: Path | None = None,
        timeout: float = 120.0,
    ) -> None:
        if workers is not None and workers < 1:
            raise ConfigError(f"workers must be at least 1, not {workers}")
        if port is not None and not 0 <= port < 65535:
            raise ConfigError(f"port must be from 0 to 65534, not {port}")
        self.directory = Path(directory).resolve()
        self.timeout = timeout
        self._wanted_port, self._wanted_workers = port, workers
        self._wanted_log = log
        torchserve_home()  # a package that is missing is told before a setting that is wrong
        self._settings = self._read_settings()
        check_torch(self._settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self.log = Path()  # the file of TorchServe's log, once started

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def urls(self) -> dict[str, str]:
        """Where the stable version of each model predicts, by its name."""
        base = f"{self._settings.inference.url}/predictions"
        return {model.name: f"{base}/{model.name}" for model in self._settings.models}

    @property
    def canary_urls(self) -> dict[str, str]:
        """Where the version that is not yet stable predicts, by the name of the model."""
        seen: set[str] = set()
        canaries = {}
        for model in self._settings.models:  # the stable version of a name comes first
            if model.name in seen:
                canaries[model.name] = f"{self.urls[model.name]}/{model.version}"
            seen.add(model.name)
        return canaries

    @property
    def others(self) -> dict[str, str]:
        """Where it listens besides the predictions: management, metrics, grpc, grpc management."""
        return self._settings.others

    @property
    def key_file(self) -> Path | None:
        """The file with TorchServe's tokens, for this user only; None where it needs none."""
        return self._folder / KEY_FILE if self._folder and self._settings.has_tokens else None

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
        java, home = find_java(), torchserve_home()
        try:
            for trial in range(_PORT_TRIALS):
                self._settings = self._read_settings()
                self._check_port()
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
                raise ServerError(f"TorchServe ended unexpectedly:\n{tail(self.log)}")

    def stop(self) -> None:
        """End Java and its workers and remove all temporary files; harmless when stopped."""
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        atexit.unregister(self.stop)
        left = end_group(process, _GRACE_S) if process else []
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        guarding, self._guard = self._guard, None
        if guarding:  # last, so that it does what we may not come to
            guarding.kill()
            guarding.communicate()
        if left:
            raise ServerError(f"processes {left} of TorchServe could not be ended")

    def _read_settings(self) -> Settings:
        return read_settings(
            self.directory, self._wanted_port, self._wanted_workers, iter(free_ports(6))
        )

    def _check_port(self) -> None:
        address = self._settings.inference
        if address.connected == "127.0.0.1" and not port_is_free(address.port):
            raise ServerError(
                f"port {address.port} on 127.0.0.1 is in use; choose another, or 0 for any"
            )

    def _launch(self, java: Path, home: Path) -> None:
        folder = self._folder = temporary_folder()
        atexit.register(self.stop)
        self._guard = subprocess.Popen(  # noqa: S603 (no shell, our own arguments)
            [sys.executable, "-I", "-S", guard.__file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # who reads our output must see it end with us
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us
        )
        logs = self._wanted_log.resolve() if self._wanted_log else folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / LOG_FILE
        self.log.unlink(missing_ok=True)
        written = folder / "config.properties"
        written.write_text(render(self._settings.properties), ENCODING)
        (folder / "log4j2.xml").write_text(LOG_CONFIG)
        with (logs / "console.log").open("wb") as console:
            self._process = subprocess.Popen(  # noqa: S603 (no shell, our own arguments)
                java_command(java, home, folder, self.directory, self._settings),
                cwd=folder,
                env=environment(os.environ, logs),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: Ctrl-C reaches us, and we end it
            )
        if self._guard.stdin:
            self._guard.stdin.write(f"{self._process.pid}\n".encode())
            self._guard.stdin.flush()

    def _wait_until_ready(self, cancelled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.timeout
        while not self._is_ready():
            self._raise_failure()
            if cancelled():
                raise ServerError("stopped before TorchServe was ready")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"TorchServe was not ready after {self.timeout:g} s:\n{tail(self.log)}"
                )
            time.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        """Whether each version has all its workers and really answers a request."""
        settings = self._settings
        keys = tokens(self._folder) if self._folder and settings.has_tokens else {}
        if settings.has_tokens and not keys:
            return False
        with contextlib.suppress(*FAULTS):
            for model in settings.models:
                place = f"{model.name}/{model.version}"
                status, answer = ask(
                    settings.management, f"/models/{place}", keys.get("management")
                )
                if status != 200 or not all(map(_has_workers, json.loads(answer))):
                    return False
                status, _ = ask(
                    settings.inference,
                    f"/predictions/{place}",
                    keys.get("inference"),
                    {"instances": []},
                )
                if status != 200:
                    raise ServerError(
                        f"model {model.name!r} is loaded but answers {status}:\n{tail(self.log)}"
                    )
            return True
        return False

    def _raise_failure(self) -> None:
        """Raise ServerError if Java ended or the log tells of a failure."""
        ended = self._process is None or self._process.poll() is not None
        console = self.log.with_name("console.log")
        if ended and "Failed to bind" in tail(console, 400):
            raise _PortTakenError("a port that TorchServe needs was taken while it started")
        if ended:
            raise ServerError(f"TorchServe did not start:\n{tail(console)}")
        if failure_in(self.log):
            # Java may notice a dead worker before it has read the worker's last words
            time.sleep(1.0)
            reason = failure_in(self.log)
            raise ServerError(f"TorchServe cannot serve {self.directory}: {reason}")


def _has_workers(described: dict[str, Any]) -> bool:
    ready = sum(worker["status"] == "READY" for worker in described["workers"])
    return bool(ready >= max(1, described["minWorkers"]))


class _PortTakenError(ServerError):
    """A port was free when we looked and is not any more."""


def serve(
    directory: Path | str,
    port: int | None = None,
    *,
    workers: int | None = None,
    log: Path | None = None,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
) -> int:
    """Serve until Ctrl-C or SIGTERM; says ``ready: URL`` for each model once it answers.

    Says it also of a version that is tried out beside the stable one, of management, metrics and
    gRPC, and where the tokens are.

    Returns the exit code 0. Raises ServerError when the server does not start or dies.
    """
    server = TorchServer(directory, port, workers=workers, log=log)
    stopping = threading.Event()
    with signals_set(stopping):
        try:
            server.start(cancelled=stopping.is_set)
            for url in server.urls.values():
                say(f"ready: {url}")
            for url in server.canary_urls.values():
                say(f"ready: {url}")
            for what, address in server.others.items():
                say(f"ready: {what} {address}")
            if server.key_file:
                say(f"tokens: {server.key_file}")
            server.wait(stopping.wait)
        except ServerError:
            if not stopping.is_set():
                raise
        finally:
            server.stop()
    return 0
