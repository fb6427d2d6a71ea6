"""Reading entry ranges of trees as columns. Open files and decoded units are kept, bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hepdata_adapters.common.config.dataset_config import Reading
from hepdata_adapters.common.core.columns import Columns, with_shared_offsets
from hepdata_adapters.common.core.errors import FileError, InvalidValueError, ReplacedError
from hepdata_adapters.common.core.threads import default_threads
from hepdata_adapters.common.files.checksums import Records
from hepdata_adapters.common.files.content import content_of
from hepdata_adapters.common.files.decoded_cache import DecodedCache
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.open import open_root, reading
from hepdata_adapters.common.files.read import read_columns
from hepdata_adapters.common.files.schema import Branch, get_tree
from hepdata_adapters.common.files.unit_cache import RecentUnits, UnitCache, UnitKey, Units
from hepdata_adapters.common.files.unreadable import of_file, read_each

CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Opened:
    """A tree of an open file."""

    file: FileInfo
    directory: Any
    tree: Any


class Source:
    """Reads columns; belongs to one process (open it after the fork).

    branches: names of the branches to read, the same for all files. max_bytes: of the units used
    last. threads: that decompress, as many as there are cores by default. kept: holds units beyond
    these. A file stays open while it is in use: what is read of it
    is of one content, that of the manifest, or ReplacedError is raised, at the latest by `check`,
    which leaving the ``with`` block calls.
    """

    def __init__(
        self,
        branches: Sequence[str],
        max_open: int = Reading().open_files,
        max_bytes: int = CACHE_BYTES,
        threads: int | None = None,
        kept: Units | None = None,
    ) -> None:
        self.branches = tuple(dict.fromkeys(branches))
        self._max_open, self._threads = max_open, threads or default_threads()
        self._open: OrderedDict[tuple[str, str], Opened] = OrderedDict()
        self._decoded = DecodedCache(max_bytes)
        self._recent = RecentUnits(self._decoded)
        self._units = UnitCache(self._recent, kept)
        self._records = Records()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.check()
        finally:
            self.close()

    def check(self) -> None:
        """Raise ReplacedError if a file in use is not what it was. For the end of each pass."""
        for opened in list(self._open.values()):
            self._check(opened)

    def close(self) -> None:
        """Close all files and forget all units, but those that are kept for later epochs."""
        for opened in list(self._open.values()):
            self._drop(opened)
        self._recent.clear()

    @property
    def cached_bytes(self) -> int:
        """Bytes of the units kept, and of decoded pages that reach beyond one."""
        return self._decoded.cached_bytes

    def unit(self, file: FileInfo, number: int) -> Columns:
        """All columns of one unit of a file, from the cache if they are there."""
        key = UnitKey(file, number, self.branches)
        columns = self._units.get(key)
        if columns is None:
            columns = self.read(file, *key.entries)
            if self._units.lasting:  # later runs will believe it: is it still the same file?
                self._check(self._opened(file))
            self._units.keep(key, columns)
        return columns

    def used_up(self, file: FileInfo, number: int) -> None:
        """Nobody needs the unit again in this epoch: where room is needed, it is the first to go.

        The units in use come in turn. To let go of the one that was used last would be to let go
        of the one that is needed next, each time.
        """
        self._recent.first_to_go(UnitKey(file, number, self.branches))

    def read(self, file: FileInfo, start: int, stop: int) -> Columns:
        """Columns of entries ``start`` to ``stop``, the derived ones computed.

        Raises FileError with the entry range, InvalidValueError where branches that should share
        a count do not.
        """
        opened = self._opened(file)
        branches = [file.branch(name) for name in file.preparation.needs(self.branches)]
        try:
            columns = _read(opened, branches, start, stop, self._decoded, self._threads)
        except FileError:
            self._check_after_error(opened)
            self._drop(opened)  # a broken handle serves no second try
            raise
        self._check(opened, ask=False)
        columns = with_shared_offsets(columns)
        if file.record:
            place = {"file": file.url, "tree": file.tree}
            self._records.check(file.record, columns, start, stop, place)
        try:
            columns = file.preparation(columns, self.branches)
        except InvalidValueError as error:
            raise error.at(file.url, file.tree, start) from None
        for name, column in columns.items():
            if len(column) != stop - start:
                raise FileError(
                    f"{len(column)} values read for {stop - start} entries",
                    file=file.url, tree=file.tree, branch=name, entries=(start, stop),
                )  # fmt: skip
        return columns

    def _opened(self, file: FileInfo) -> Opened:
        name = (file.url, file.tree)
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        directory = open_root(file.url)
        try:
            with reading(file=file.url, tree=file.tree):
                tree = get_tree(directory, file.tree, file.url)
                difference = file.content.difference(content_of(directory, file.tree, tree))
                opened = Opened(file, directory, tree)
            if difference:
                raise ReplacedError.by(difference, file.url)
        except BaseException:
            directory.close()
            raise
        self._open[name] = opened
        while len(self._open) > self._max_open:
            oldest = next(iter(self._open.values()))
            self._check(oldest, ask=False)
            self._drop(oldest)
        return opened

    def _check(self, opened: Opened, *, ask: bool = True) -> None:
        """Raise ReplacedError, and close the file, if it is no longer the one that was opened.

        ask: the server of a remote file too, see `RemoteSource.change`.
        """
        with reading(file=opened.file.url):
            change = opened.directory.file.source.change(ask=ask)
        if change:
            self._drop(opened)
            raise ReplacedError.by(change, opened.file.url)

    def _check_after_error(self, opened: Opened) -> None:
        """`_check`, as what looks like damage may be another file; who does not answer says no."""
        try:
            self._check(opened, ask=False)
        except ReplacedError:
            raise
        except FileError:
            pass

    def _drop(self, opened: Opened) -> None:
        self._open.pop((opened.file.url, opened.file.tree), None)
        self._decoded.forget(opened.tree)
        opened.directory.close()


def _read(
    opened: Opened,
    branches: Sequence[Branch],
    start: int,
    stop: int,
    kept: DecodedCache,
    threads: int,
) -> Columns:
    """`read_columns`; the FileError names the branches that cannot be read."""
    file, tree = opened.file, opened.tree
    place: Any = {"file": file.url, "tree": file.tree, "entries": (start, stop)}
    try:
        with reading(**place):
            return read_columns(tree, branches, start, stop, kept, threads)
    except FileError as error:
        if of_file(error):
            read_each(lambda few: read_columns(tree, few, start, stop), branches, place)
        raise
