"""Writing scores: one row an event, to ROOT or Parquet, as they come."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from hepdata_adapters.common.core.columns import Array
from hepdata_adapters.common.core.errors import ConfigError, MissingExtraError
from hepdata_adapters.common.core.writing import whole_file

TREE = "scores"


class _Sink(Protocol):
    def write(self, columns: Mapping[str, Array]) -> None: ...

    def close(self) -> None: ...


class ScoreWriter:
    """Writes columns of numbers and text to ``.root`` (tree ``scores``) or ``.parquet``.

    The file appears under its name when it is complete; an error leaves nothing behind. Raises
    FileError where it cannot be written.

    >>> import tempfile, numpy as np, uproot
    >>> path = Path(tempfile.mkdtemp()) / "scores.root"
    >>> with ScoreWriter(path) as writer:
    ...     writer.write({"entry": np.arange(2), "score": np.array([0.1, 0.9])})
    >>> uproot.open(path)["scores"]["score"].array().tolist()
    [0.1, 0.9]
    """

    def __init__(self, path: Path) -> None:
        sinks: dict[str, type[_RootSink] | type[_ParquetSink]] = {
            ".root": _RootSink,
            ".parquet": _ParquetSink,
        }
        if path.suffix not in sinks:
            raise ConfigError(f"scores go to .root or .parquet files, not {str(path)!r}")
        self._whole = whole_file(path)
        partial = self._whole.__enter__()
        try:
            self._sink: _Sink = sinks[path.suffix](partial)
        except BaseException:
            self._whole.__exit__(*sys.exc_info())
            raise

    def write(self, columns: Mapping[str, Array]) -> None:
        """Append rows; all calls must give the same columns."""
        self._sink.write(columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._sink.close()
        except OSError:
            if error is None:
                self._whole.__exit__(*sys.exc_info())
                raise
        self._whole.__exit__(kind, error, trace)


class _RootSink:
    def __init__(self, path: Path) -> None:
        import uproot

        self._file = uproot.recreate(path)
        self._tree: Any = None

    def write(self, columns: Mapping[str, Array]) -> None:
        import awkward as ak

        texts = {name for name, values in columns.items() if values.dtype.kind == "U"}
        if self._tree is None:
            types = {
                name: "string" if name in texts else values.dtype
                for name, values in columns.items()
            }
            self._tree = self._file.mktree(TREE, types)
        self._tree.extend(
            {name: ak.from_numpy(v) if name in texts else v for name, v in columns.items()}
        )

    def close(self) -> None:
        self._file.close()


class _ParquetSink:
    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise MissingExtraError("pyarrow", "parquet") from None
        self._pyarrow, self._path = pyarrow, path
        self._writer: Any = None

    def write(self, columns: Mapping[str, Array]) -> None:
        # text as it is in ROOT: readers get str, and most of it is the same in all rows
        table = self._pyarrow.table(
            {
                name: self._pyarrow.array(values.tolist(), self._pyarrow.string())
                if values.dtype.kind == "U"
                else values
                for name, values in columns.items()
            }
        )
        if self._writer is None:
            self._writer = self._pyarrow.parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
