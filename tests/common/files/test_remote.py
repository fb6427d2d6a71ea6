"""Reading over root:// and http:// from real servers, in one process and in DataLoader workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.columns import Columns, Jagged
from hepdata_adapters.common.core.errors import FileError, TreeError
from hepdata_adapters.common.files import http
from hepdata_adapters.common.files import open as remote
from hepdata_adapters.common.files.manifest import Manifest, build_manifest
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.samples import TYPES, write_events
from tests.helpers.servers import HttpServer, XrootdServer

ROOT = Path(__file__).resolve().parents[3]
SIZES = (3000, 10, 1003)
Server = HttpServer | XrootdServer


def need_xrootd() -> None:
    if reason := XrootdServer.missing():
        pytest.skip(reason)


def started(kind: str) -> Server:
    if kind == "root":
        need_xrootd()
        return XrootdServer()
    return HttpServer()


@pytest.fixture(scope="module", params=["http", "root"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that no test kills, with files in it."""
    with started(request.param) as running:
        for number, size in enumerate(SIZES):
            write_events(running.folder / f"{number}.root", size, seed=number)
        write_events(running.folder / "with space.root", 3000)
        write_events(running.folder / "rntuple.root", 3000, rntuple=True)
        (running.folder / "text.root").write_text("no ROOT file " * 100)
        yield running


@pytest.fixture(params=["http", "root"])
def mortal(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for one test, with one file of a few units."""
    with started(request.param) as running:
        write_events(running.folder / "a.root", 12_000, step=3000)
        yield running


@pytest.fixture(scope="module")
def wide() -> Iterator[HttpServer]:
    """74 branches as in the paper, 2 units."""
    random = np.random.default_rng(0)
    size = 8000
    flat = {f"flat{i}": random.normal(size=size).astype(np.float32) for i in range(22)}
    jagged = {f"jagged{i}": "var * float32" for i in range(52)}
    offsets = np.arange(size + 1) * 2
    content = random.normal(size=offsets[-1]).astype(np.float32)
    lists = ak.unflatten(content, np.diff(offsets))
    with HttpServer() as running:
        with uproot.recreate(running.folder / "wide.root") as file:
            file.mktree("Events", dict.fromkeys(flat, "float32") | jagged)
            for start in range(0, size, 4000):
                rows = slice(start, start + 4000)
                file["Events"].extend(
                    {name: values[rows] for name, values in flat.items()}
                    | dict.fromkeys(jagged, lists[rows])
                )
        yield running


def manifest_of(url: str) -> Manifest:
    return build_manifest([Sample(files=[url], label=1)])


def read_all(url: str) -> Columns:
    file = manifest_of(url).files[0]
    with Source(list(TYPES)) as source:
        return source.read(file, 0, file.entries)


def test_a_pattern_is_what_the_server_lists() -> None:
    need_xrootd()
    with XrootdServer() as running:
        (running.folder / "sub").mkdir()
        for name in ("a_0.root", "a_1.root", "sub/b.root"):
            write_events(running.folder / name, 20)
        base = running.url("a_0.root").removesuffix("a_0.root")

        def found(pattern: str) -> list[str]:
            return [url.removeprefix(base) for url in remote.expand(base + pattern)]

        assert found("a_*.root") == ["a_0.root", "a_1.root"]
        assert found("**/*.root") == ["a_0.root", "a_1.root", "sub/b.root"]
        assert found("s*/[ab].root") == ["sub/b.root"]
        assert manifest_of(f"{base}a_*.root:Events").entries == 40
        for pattern in ("c*.root", "nowhere/*.root"):
            with pytest.raises(FileError, match="no file on the server matches"):
                remote.expand(base + pattern)
    with pytest.raises(FileError, match="https has no such thing: name each file"):
        remote.expand("https://localhost:1/*.root")


def assert_same(left: Columns, right: Columns) -> None:
    assert list(left) == list(right)
    for name, column in left.items():
        other = right[name]
        if isinstance(column, Jagged):
            assert isinstance(other, Jagged)
            np.testing.assert_array_equal(column.offsets, other.offsets)
            column, other = column.content, other.content
        assert column.dtype == other.dtype
        np.testing.assert_array_equal(column, other)


def run_script(folder: Path, source: str, *arguments: str, seconds: float = 120) -> str:
    """What a script prints; fails if it hangs, ends badly or says anything on stderr.

    In a process of its own, since a hang or a bad exit must not take the tests with it.
    """
    script, out, err = folder / "script.py", folder / "out.txt", folder / "err.txt"
    script.write_text(source)
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]  # fork, Python 3.12
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, *options, str(script), *arguments],
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        )  # fmt: skip
    try:
        code: int | str = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = f"no end within {seconds:g} s"
    finally:
        # the workers as well
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    said = f"{out.read_text()}\n{err.read_text()}"
    assert code == 0, f"{code}: {said}"
    assert not err.read_text(), said
    return out.read_text()


class TestReading:
    @pytest.mark.parametrize("name", ["0.root", "with space.root", "rntuple.root"])
    def test_same_as_the_local_file(self, server: Server, name: str) -> None:
        assert_same(read_all(server.url(name)), read_all(str(server.folder / name)))

    def test_the_tree_may_follow_the_url(self, server: Server) -> None:
        manifest = manifest_of(server.url("0.root") + ":Events")
        assert (manifest.files[0].tree, manifest.entries) == ("Events", SIZES[0])
        assert manifest.files[0].url == server.url("0.root")

    def test_missing_file(self, server: Server) -> None:
        url = server.url("missing.root")
        with pytest.raises(FileError, match="no such file") as caught:
            manifest_of(url)
        assert url in str(caught.value)

    def test_wrong_tree(self, server: Server) -> None:
        with pytest.raises(TreeError, match="did you mean 'Events'"):
            manifest_of(server.url("0.root") + ":Event")

    def test_not_root(self, server: Server) -> None:
        with pytest.raises(FileError, match=r"not a ROOT file .*text\.root"):
            manifest_of(server.url("text.root"))

    def test_truncated(self, server: Server) -> None:
        whole = (server.folder / "0.root").read_bytes()
        (server.folder / "cut.root").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(FileError, match=r"truncated.*cut\.root"):
            manifest_of(server.url("cut.root"))

    def test_a_replaced_file_is_read_anew(self, server: Server) -> None:
        path = write_events(server.folder / "replaced.root", 300, seed=1)
        read_all(server.url(path.name))
        path.unlink()
        write_events(path, 500, seed=2)
        assert_same(read_all(server.url(path.name)), read_all(str(path)))


class TestHttp:
    """What goes over the wire."""

    def test_one_branch_is_a_small_part_of_the_file(self, wide: HttpServer) -> None:
        wide.forget()
        file = manifest_of(wide.url("wide.root")).files[0]
        with Source(["flat0"]) as source:
            source.read(file, 0, file.entries)
        gets = [request for request in wide.requests() if request.method == "GET"]
        # single ranges only: many servers answer several by the whole file
        assert all(request.status == 206 and "," not in str(request.range) for request in gets)
        size = (wide.folder / "wide.root").stat().st_size
        assert sum(request.size for request in gets) < 0.1 * size

    def test_a_unit_of_74_branches_is_one_request(self, wide: HttpServer) -> None:
        file = manifest_of(wide.url("wide.root")).files[0]
        names = [branch.name for branch in file.schema.values() if branch.name[0] in "fj"]
        assert (len(names), len(file.units)) == (74, 3)
        with Source(names) as source:
            source.unit(file, 0)
            wide.forget()
            source.unit(file, 1)
            assert len(wide.requests()) == 1

    @pytest.mark.parametrize("rntuple", [False, True])
    def test_a_server_without_ranges_is_refused(self, rntuple: bool) -> None:
        with HttpServer(ranges=False) as server:
            write_events(server.folder / "a.root", 3000, rntuple=rntuple)
            with pytest.raises(FileError, match=r"does not support range requests.*a\.root"):
                manifest_of(server.url("a.root"))

    @pytest.mark.parametrize("rntuple", [False, True])
    def test_ranges_that_end_midway_give_no_wrong_data(self, rntuple: bool) -> None:
        with HttpServer() as server:
            write_events(server.folder / "a.root", 12_000, step=3000, rntuple=rntuple)
            file = manifest_of(server.url("a.root")).files[0]
            with Source(["MET"], max_bytes=0) as source:  # no page is kept
                source.read(file, 0, 1)
                server.kill()
                server.ranges = False
                server.start()
                with pytest.raises(FileError, match=r"a\.root"):
                    source.read(file, 0, 12_000)

    def test_a_frozen_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(http.TIMEOUTS, "sock_read", 1)
        monkeypatch.setattr(http, "PATIENCE", http.Patience(total=1))
        with HttpServer() as server:
            write_events(server.folder / "a.root", 12_000, step=3000)
            file = manifest_of(server.url("a.root")).files[0]
            with Source(["MET"]) as source:
                server.freeze()
                with pytest.raises(FileError, match=r"server does not answer.*Timeout"):
                    source.read(file, 0, 3000)
                server.thaw()
                assert len(source.read(file, 0, 3000)["MET"]) == 3000

    def test_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "PATIENCE", http.Patience(tries=2))
        with HttpServer() as server:
            url = server.url("a.root")
        start = time.monotonic()
        with pytest.raises(FileError, match="server does not answer") as caught:
            manifest_of(url)
        assert url in str(caught.value)
        assert time.monotonic() - start < 5


class TestLostServer:
    def test_killed_for_good(self, mortal: Server, tmp_path: Path) -> None:
        """A clear error within half a minute, and a clean end of the process."""
        run_script(tmp_path, KILLED, mortal.url("a.root"), str(mortal._process.pid), seconds=60)

    def test_killed_and_started_again(self, mortal: Server) -> None:
        """Reading goes on by itself, with exact data."""
        file = manifest_of(mortal.url("a.root")).files[0]
        local = read_all(str(mortal.folder / "a.root"))
        with Source(list(TYPES)) as source:
            source.read(file, 0, 3000)
            mortal.kill()
            restart = threading.Timer(1, mortal.start)
            restart.start()
            assert_same(source.read(file, 0, file.entries), local)
            restart.join()

    def test_frozen_xrootd(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        need_xrootd()
        monkeypatch.setenv("XRD_STREAMTIMEOUT", "2")  # the user's setting goes before ours
        monkeypatch.setenv("XRD_CONNECTIONWINDOW", "1")
        monkeypatch.setenv("XRD_CONNECTIONRETRY", "2")
        with XrootdServer() as server:
            write_events(server.folder / "a.root", 12_000, step=3000)
            assert server._process is not None
            pid = str(server._process.pid)
            run_script(tmp_path, FROZEN, server.url("a.root"), pid, seconds=60)


KILLED = """
import os, signal, sys, time
from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.files.manifest import build_manifest
from hepdata_adapters.common.files.source import Source

url, pid = sys.argv[1:]
file = build_manifest([Sample(files=[url], label=1)]).files[0]
with Source(["MET", "Jet_pt"]) as source:
    source.read(file, 0, 3000)
    os.kill(int(pid), signal.SIGKILL)
    start = time.monotonic()
    try:
        source.read(file, 3000, 6000)
    except FileError as error:
        assert "the server does not answer" in str(error), error
        assert f"[file {url}, tree Events, entries 3000 to 6000]" in str(error), error
    else:
        raise AssertionError("read from a dead server")
    assert time.monotonic() - start < 40, time.monotonic() - start
"""

FROZEN = """
import os, signal, sys, time
from pathlib import Path
from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.files.manifest import build_manifest
from hepdata_adapters.common.files.source import Source

url, pid = sys.argv[1:]
file = build_manifest([Sample(files=[url], label=1)]).files[0]
with Source(["MET", "Jet_pt"]) as source:
    first = source.read(file, 3000, 6000)["MET"]
    threads = list(Path(f"/proc/{pid}/task").glob("*/status"))
    os.kill(int(pid), signal.SIGSTOP)
    while not all("\\nState:\\tT" in status.read_text() for status in threads):
        time.sleep(0.01)  # on a busy machine its threads stop one after the other
    try:
        source.read(file, 3000, 6000)
    except FileError as error:
        assert "the server does not answer" in str(error), error
    else:
        raise AssertionError("read from a frozen server")
    os.kill(int(pid), signal.SIGCONT)
    for attempt in range(100):  # for a second, the client refuses the server it gave up
        try:
            again = source.read(file, 3000, 6000)["MET"]
            break
        except FileError:
            time.sleep(0.1)
    assert (first == again).all()
"""


class TestWorkers:
    def test_every_start_method_delivers_all_events(self, server: Server, tmp_path: Path) -> None:
        """Exactly once and the same as from local files, although the parent has open files."""
        names = [f"{number}.root" for number in range(len(SIZES))]
        urls = [server.url(name) for name in names]
        run_script(tmp_path, WORKERS, *urls, seconds=150)
        local = RootIterableDataset(
            [str(server.folder / name) for name in names], batch_size=256, progress=False
        )
        batches = list(local)
        for method in ("none", "fork", "forkserver", "spawn"):
            with np.load(tmp_path / f"{method}.npz") as found:
                order = np.lexsort(found["event"].T[::-1])
                for name in ("event", "x", "mask", "lengths"):
                    wanted = np.concatenate([batch[name] for batch in batches])
                    rows = np.lexsort(np.concatenate([b["event"] for b in batches]).T[::-1])
                    np.testing.assert_array_equal(found[name][order], wanted[rows], method)
                assert len(np.unique(found["event"], axis=0)) == sum(SIZES)

    def test_tensorflow_and_the_client_of_xrootd_live_in_one_process(
        self, server: Server, tmp_path: Path
    ) -> None:
        """Imported after TensorFlow, the client called TensorFlow's OpenSSL and crashed."""
        pytest.importorskip("tensorflow")
        assert f"{SIZES[0]}" in run_script(tmp_path, TENSORFLOW, server.url("0.root"), seconds=90)

    def test_threads_open_a_file_that_others_read(self, server: Server) -> None:
        """Opening closed fsspec-xrootd's one handle of the URL: reads of other threads broke."""
        file = manifest_of(server.url("0.root")).files[0]
        with Source(["MET"]) as source:
            wanted = source.read(file, 0, file.entries)

        def read_again(_: int) -> None:
            for _ in range(30):
                with Source(["MET"]) as source:
                    assert_same(wanted, source.read(file, 0, file.entries))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read_again, range(4)))

    def test_a_fork_right_after_a_read(self, server: Server, tmp_path: Path) -> None:
        """Without `remote._ForkGuard` this hangs within a hundred forks over root://."""
        if not hasattr(os, "fork"):
            pytest.skip("no fork on this system")
        run_script(tmp_path, FORKS, server.url("0.root"), seconds=90)


WORKERS = """
import sys
import numpy as np
from torch.utils.data import DataLoader
from hepdata_adapters.torch import RootIterableDataset

if __name__ == "__main__":
    dataset = RootIterableDataset(sys.argv[1:], batch_size=256, progress=False)
    for method in ("none", "fork", "forkserver", "spawn"):
        print(method, flush=True)  # tells which one hangs
        options = {} if method == "none" else {
            "num_workers": 2, "multiprocessing_context": method
        }
        batches = list(DataLoader(dataset, batch_size=None, **options))
        np.savez(f"{method}.npz", **{
            name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]
        })
"""

TENSORFLOW = """
import os, sys
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what TensorFlow says of itself
import tensorflow
from hepdata_adapters.tf import root_dataset

dataset = root_dataset(sys.argv[1], batch_size=256, progress=False)
print(sum(len(batch["x"]) for batch in dataset))
"""

FORKS = """
import os, signal, sys, threading
from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.files.manifest import build_manifest
from hepdata_adapters.common.files.source import Source

file = build_manifest([Sample(files=[sys.argv[1]], label=1)]).files[0]

def total():
    with Source(["MET", "Jet_pt"]) as source:
        return float(source.read(file, 0, file.entries)["MET"].sum())

def read_on():
    while not done.is_set():
        assert total() == wanted

wanted = total()
done = threading.Event()
source = Source(["MET"])
for number in range(100):
    if number == 80:  # from here, another thread reads as well
        thread = threading.Thread(target=read_on)
        thread.start()
    source.read(file, 0, 1000 + number)
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(0 if number % 10 or total() == wanted else 1)
    assert os.waitpid(child, 0)[1] == 0, number
done.set()
thread.join()
assert total() == wanted
"""


@pytest.mark.parametrize("kind", ["http", "root"])
def test_a_server_leaves_nothing(kind: str) -> None:
    with started(kind) as server:
        process, home = server._process, server.home
        assert process is not None
        assert home.is_dir()
    assert process.poll() is not None
    assert not home.exists()


def test_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec_xrootd", None)
    with pytest.raises(remote.MissingExtraError, match=r'pip install "hepdata-adapters\[xrootd\]"'):
        remote.open_root("root://127.0.0.1:1//a.root")


def test_missing_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "apt-get install xrootd-server" in str(XrootdServer.missing())
