"""Real file servers on loopback for tests: Debian's xrootd, and HTTP with or without ranges.

Each is a process of its own, started by a context manager that returns when it answers and
leaves neither process nor file behind::

    with XrootdServer() as server:
        make_file(server.folder / "a.root")
        uproot.open(server.url("a.root"))
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

START_SECONDS = 30.0
XROOTD_USER = "nobody"  # xrootd refuses to run as root


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def poll(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until ``done()``; raises TimeoutError naming what did not happen."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} within {seconds:g} s")
        time.sleep(0.02)


class _Server:
    """A process that serves ``folder``, a temporary one that others may read."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="hepdata-server-"))
        self.folder = self.home / "files"
        self.folder.mkdir()
        self.home.chmod(0o755)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    @property
    def output(self) -> str:
        """What the server printed so far."""
        log = self.home / "output.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def start(self) -> None:
        """Start, or start again on the same port; returns when the server answers."""
        with (self.home / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home
            )

        def answers() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"{type(self).__name__} ended at once:\n{self.output}")
            return self._answers()

        poll(answers, START_SECONDS, f"{type(self).__name__} did not answer")

    def kill(self) -> None:
        """End it at once, connections and all, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop answering while connections stay open, as an overloaded machine would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process and remove its files."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class XrootdServer(_Server):
    """Debian's ``xrootd`` (package xrootd-server)."""

    @staticmethod
    def missing() -> str | None:
        """Why it cannot run here, or None."""
        if shutil.which("xrootd") is None:
            return "no xrootd server here (Debian: apt-get install xrootd-server)"
        if importlib.util.find_spec("fsspec_xrootd") is None:
            return "no xrootd client here (pip install hepdata-adapters[xrootd])"
        return None

    def url(self, name: str) -> str:
        return f"root://127.0.0.1:{self.port}//{name}"

    def _command(self) -> list[str]:
        state = self.home / "state"
        state.mkdir(exist_ok=True)
        config = self.home / "xrootd.cfg"
        config.write_text(
            f"all.export /\n"
            f"oss.localroot {self.folder}\n"
            f"xrd.port {self.port}\n"
            f"xrd.network nodnr\n"
            f"all.adminpath {state}\n"
            f"all.pidpath {state}\n"
        )
        command = ["xrootd", "-c", str(config), "-l", str(state / "xrootd.log")]
        if os.geteuid() == 0:
            shutil.chown(state, XROOTD_USER)
            command += ["-R", XROOTD_USER]
        return command

    @property
    def output(self) -> str:
        logs = sorted((self.home / "state").rglob("xrootd.log"))
        return super().output + "".join(log.read_text(errors="replace") for log in logs)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as peer:
                peer.sendall(struct.pack(">5i", 0, 0, 0, 4, 2012))  # the protocol's handshake
                return len(peer.recv(16)) == 16
        except OSError:
            return False


@dataclass(frozen=True)
class Request:
    """A request that the HTTP server answered: the status and the bytes of the body."""

    method: str
    path: str
    range: str | None
    status: int
    size: int


class HttpServer(_Server):
    """uvicorn and starlette; without ``ranges``, every GET is answered by the whole file."""

    def __init__(self, ranges: bool = True) -> None:
        super().__init__()
        self.ranges = ranges

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{quote(name)}"

    def requests(self) -> list[Request]:
        """All requests since the start or the last `forget`."""
        log = self.home / "requests.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [Request(**json.loads(line)) for line in lines]

    def forget(self) -> None:
        """Let `requests` begin anew."""
        (self.home / "requests.jsonl").write_text("")

    def fail(self, *answers: tuple[int, dict[str, str]]) -> None:
        """Answer the next requests by these statuses and headers."""
        (self.home / "failures.json").write_text(json.dumps(answers))

    def _command(self) -> list[str]:
        options = [] if self.ranges else ["--no-ranges"]
        log = self.home / "requests.jsonl"
        return [
            sys.executable, __file__, str(self.folder), str(self.port), str(log), *options
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as peer:
                peer.sendall(b"OPTIONS * HTTP/1.0\r\n\r\n")
                return peer.recv(4) == b"HTTP"
        except OSError:
            return False


def _serve(folder: Path, port: int, log: Path, ranges: bool) -> None:
    import uvicorn
    from starlette.responses import FileResponse, PlainTextResponse

    failures = log.with_name("failures.json")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await PlainTextResponse("ready")(scope, receive, send)
            return
        if failures.exists() and (answers := json.loads(failures.read_text())):
            failures.write_text(json.dumps(answers[1:]))
            status, headers = answers[0]
            await PlainTextResponse("not now", status, headers)(scope, receive, send)
            return
        wanted = dict(scope["headers"]).get(b"range", b"").decode() or None
        if not ranges:
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"range"]

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                if not ranges:
                    message["headers"] = [
                        pair for pair in message["headers"] if pair[0] != b"accept-ranges"
                    ]
                size = 0 if scope["method"] == "HEAD" else int(headers[b"content-length"])
                entry = Request(scope["method"], scope["path"], wanted, message["status"], size)
                # before the answer is out, so that nobody counts too early
                with log.open("a") as file:
                    file.write(json.dumps(entry.__dict__) + "\n")
            await send(message)

        path = folder / scope["path"].lstrip("/")
        found = path.is_file() and path.resolve().is_relative_to(folder.resolve())
        answer = FileResponse(path) if found else PlainTextResponse("no such file", 404)
        await answer(scope, receive, counted)

    uvicorn.run(
        app, host="127.0.0.1", port=port, lifespan="off", access_log=False, log_level="warning"
    )


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--no-ranges", dest="ranges", action="store_false")
    _serve(**vars(parser.parse_args()))


if __name__ == "__main__":
    _main()
