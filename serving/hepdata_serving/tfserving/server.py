"""TF Serving's interfaces on this machine only: REST by uvicorn, gRPC by its own server.

For tests, and for machines without ``tensorflow_model_server``. Each request runs as it comes;
TF Serving itself can put requests together (``batching.config``).
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
import uvicorn

from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_serving.errors import ServerError
from hepdata_serving.signals import signals_set
from hepdata_serving.tfserving.engine import Engine
from hepdata_serving.tfserving.rest import rest_app
from hepdata_serving.tfserving.rpc import MAX_MESSAGE_BYTES, add_services

_HOST = "127.0.0.1"
_GRACE_S = 5.0
_BACKLOG = 128


class TFServer:
    """Serves the folder that `export_tfserving` wrote; use it as a context manager.

    directory: holds ``models/<name>/<version>`` and ``models.config``.
    port, grpc_port: of REST and gRPC on 127.0.0.1; 0 takes a free one. threads: requests that
    run at once. poll: seconds between looks for changes of ``models.config``, which are then
    served; None for never.

    ::

        with TFServer("exported", port=0, grpc_port=0) as server:
            scores = predict(server.url, events)
    """

    def __init__(
        self,
        directory: Path | str,
        port: int = 8501,
        grpc_port: int = 8500,
        *,
        threads: int = 8,
        poll: float | None = 2.0,
    ) -> None:
        for name, number in (("port", port), ("grpc_port", grpc_port)):
            if not 0 <= number < 65536:
                raise ConfigError(f"{name} must be from 0 to 65535, not {number}")
        if threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        if poll is not None and poll <= 0:
            raise ConfigError(f"poll must be above 0 seconds, not {poll}")
        self.directory = Path(directory).resolve()
        self._port, self._grpc_port = port, grpc_port
        self._threads, self._poll = threads, poll
        self._engine = Engine(self.directory)
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def urls(self) -> dict[str, str]:
        """Where each model predicts, by its name. Raises ServerError when stopped."""
        base = f"http://{_HOST}:{self._ports()[0]}/v1/models"
        return {name: f"{base}/{name}:predict" for name in self._engine.models}

    @property
    def url(self) -> str:
        """Where the one model predicts. Raises ConfigError if there are several."""
        urls = self.urls
        if len(urls) > 1:
            raise ConfigError(f"{self.directory} serves several models: {', '.join(urls)}")
        return next(iter(urls.values()))

    @property
    def grpc_address(self) -> str:
        """Host and port of gRPC. Raises ServerError when stopped."""
        return f"{_HOST}:{self._ports()[1]}"

    def start(self) -> Self:
        """Load all models and answer requests from then on.

        Raises ServerError for a port in use, ConfigError for a folder that serves nothing or that
        holds settings of TLS (``ssl*``), which this server does not speak,
        ArchiveError for a model that cannot be loaded or misses its golden predictions.
        """
        if self._running:
            raise ServerError("this server is already running")
        if ssl := [path.name for path in sorted(self.directory.glob("ssl*"))]:
            raise ConfigError(
                f"{self.directory / ssl[0]}: this server speaks plain HTTP and gRPC, to this "
                "machine only. For TLS use tensorflow_model_server --ssl_config_file or a proxy; "
                f"or take {', '.join(ssl)} out of this folder"
            )
        self._running = _Running(self._engine, self._port, self._grpc_port, self._threads)
        if self._poll is not None:
            self._running.watch(self._poll)
        return self

    def reload(self) -> None:
        """Serve what ``models.config`` says now; on an error what was served stays.

        Raises as `start` does.
        """
        self._engine.reload()

    def wait(self, stop: Callable[[float], bool]) -> None:
        """Return when ``stop(seconds)``, which may wait that long, is true.

        Raises ServerError when the REST server ends on its own.
        """
        while not stop(0.5):
            if self._running is None:
                return
            if not self._running.alive:
                raise ServerError("the REST server ended unexpectedly")

    def stop(self) -> None:
        """Let requests that run end, and close both ports; harmless when stopped."""
        running, self._running = self._running, None
        if running:
            running.stop()

    def _ports(self) -> tuple[int, int]:
        if self._running is None:
            raise ServerError("this server is not running")
        return self._running.ports


class _Running:
    """Both servers and their threads, from start to stop."""

    def __init__(self, engine: Engine, port: int, grpc_port: int, threads: int) -> None:
        self._engine = engine
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(threads, "hepdata-tfserving")
        bound = _bind(port)
        try:
            _bind(grpc_port).close()  # a port in use is found before models load, which takes long
            engine.reload()
            self._grpc, grpc_port = _grpc_server(engine, self._pool, grpc_port)
            bound.listen(_BACKLOG)  # from now on, a client that comes is answered soon
        except BaseException:
            bound.close()
            raise
        self.ports = (int(bound.getsockname()[1]), grpc_port)
        self._grpc.start()
        self._rest = uvicorn.Server(
            uvicorn.Config(
                rest_app(engine, self._pool),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=int(_GRACE_S),
            )
        )
        self._thread = threading.Thread(
            target=self._rest.run, args=([bound],), name="hepdata-tfserving-rest"
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def watch(self, seconds: float) -> None:
        """Look for a changed config in a thread; faults go to stderr, once each."""
        self._watcher = threading.Thread(
            target=self._watch, args=(seconds,), name="hepdata-tfserving-watch"
        )
        self._watcher.start()

    def stop(self) -> None:
        self._stopping.set()
        self._rest.should_exit = True
        ended = self._grpc.stop(_GRACE_S)
        self._thread.join()
        ended.wait()
        self._pool.shutdown()
        if self._watcher:
            self._watcher.join()

    def _watch(self, seconds: float) -> None:
        said = ""
        while not self._stopping.wait(seconds):
            try:
                self._engine.reload_if_changed()
                said = ""
            except HepDataError as error:
                if said != str(error):
                    print(f"the models served stay as they are: {error}", file=sys.stderr)
                said = str(error)


def serve(
    directory: Path | str,
    port: int = 8501,
    *,
    grpc_port: int = 8500,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
) -> int:
    """Serve until Ctrl-C or SIGTERM; says ``ready: URL`` for each model, and for gRPC.

    Returns the exit code 0. Raises as `TFServer.start` does, ServerError when the server dies.
    """
    server = TFServer(directory, port, grpc_port)
    stopping = threading.Event()
    with signals_set(stopping):
        try:
            server.start()
            for url in server.urls.values():
                say(f"ready: {url}")
            say(f"ready: grpc {server.grpc_address}")
            server.wait(stopping.wait)
        finally:
            server.stop()
    return 0


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # connections of an earlier server that linger in TIME_WAIT are no obstacle
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((_HOST, port))
    except OSError as error:
        bound.close()
        raise _in_use(port) from error
    return bound


def _grpc_server(engine: Engine, pool: ThreadPoolExecutor, port: int) -> tuple[Any, int]:
    """A server that is not started, and its port."""
    server = grpc.server(
        pool,
        options=[
            ("grpc.so_reuseport", 0),  # or two servers would share a port, and the requests
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ],
    )
    add_services(engine, server)
    try:
        return server, server.add_insecure_port(f"{_HOST}:{port}")
    except RuntimeError as error:
        raise _in_use(port) from error


def _in_use(port: int) -> ServerError:
    return ServerError(f"port {port} on {_HOST} is in use; choose another, or 0 for any")
