"""Predictions of an exported ONNX model in this process, through ONNX Runtime; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Columns, Jagged, take_all
from hepdata_adapters.common.core.errors import EventError, MissingExtraError
from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events, events_from_columns
from hepdata_serving.answers import MAX_ROWS
from hepdata_serving.errors import ArchiveError
from hepdata_serving.golden import check_golden
from hepdata_serving.integrity import parse_json, read_checked
from hepdata_serving.transforms import read_transform

GRAPH = "model.onnx"
FILES = ("golden.json", "metadata.json", GRAPH, "transform.json")
"""What `SHA256SUMS` of an exported folder is about."""

OUTPUTS = ("score", "valid")
"""Scores float32, NaN for an event that may not be scored; and whether it may, ``(n,)`` bool."""

MAX_VALUES = 4_000_000
"""Padded values of a branch in one run of the graph, so that one long event costs little."""


class OnnxModel:
    """The folder of `hepdata_serving.onnx.export.export_onnx`, loaded and proven.

    folder: holds ``model.onnx`` and what `FILES` names beside it. threads: of one run.
    name, task, outputs, transform: what the model was exported as.

    A scaling function of the user's is part of the graph and need not be registered here; only
    why an event is refused is then not known.

    Raises ArchiveError when a file is missing or corrupt, or a golden event gets another
    prediction than it had when the model was exported; MissingExtraError without ONNX Runtime.

    ::

        model = OnnxModel("exported/higgs")
        scores = model.predict([{"MET_px": 1.2, "Jet_Px": [30.1, -2.0]}])
    """

    def __init__(self, folder: Path | str, *, threads: int = 1) -> None:
        folder = Path(folder)
        try:
            files = read_checked(folder, FILES)
            self.transform, self._unknown = read_transform(files["transform.json"])
            about = parse_json(files["metadata.json"], "metadata.json")
            self.name, self.task = str(about["name"]), str(about["task"])
            self.outputs: tuple[str, ...] = tuple(map(str, about["outputs"]))
            golden = parse_json(files["golden.json"], "golden.json")
            events, expected = golden["events"], golden["predictions"]
            self._graph = Graph(files["model.onnx"], threads)
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{folder} is not an exported ONNX model: {error}") from error
        check_golden(events, expected, self.predict)

    def predict(self, events: Sequence[object]) -> list[Any]:
        """One prediction an event, in order: a float, or a list of floats for several classes.

        events: branch name to number or list; ``None`` stands for NaN.
        Raises EventError naming the first bad event and its branch.
        """
        columns, faults = columns_from_events(events, self.transform)
        for index, reason in faults.items():
            raise EventError(f"event {index}: {reason}")
        values: list[Any] = self.scores(columns).astype(float).tolist()
        return values

    def scores(self, columns: Columns) -> NDArray[np.float32]:
        """Scores ``(n,)`` or ``(n, C)`` of n events that the transform allows, by branch.

        Raises EventError naming the first that only the graph refuses.
        """
        scores, valid = self.run(columns)
        if valid.all():
            return scores
        refused = f"the graph refuses event {int(np.argmin(valid))}"
        if self._unknown is not None:
            raise EventError(f"{refused}; why is not known here: {self._unknown}")
        raise ArchiveError(
            f"{refused}, which its transform.json allows: the two do not belong together"
        )

    def run(self, columns: Columns) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scores as of `scores`, NaN where not valid, and ``valid`` ``(n,)`` of any n events."""
        parts = [self._graph(dense_inputs(part, self.transform)) for part in _parts(columns)] or [
            (np.zeros(0, np.float32), np.zeros(0, np.bool_))
        ]
        scores, valid = map(np.concatenate, zip(*parts, strict=True))
        return scores, valid

    def reason(self, columns: Columns) -> str:
        """Why the one event that these columns hold is not valid."""
        _, faults = columns_from_events(events_from_columns(columns), self.transform)
        return faults.get(0) or f"not known here: {self._unknown or 'its transform allows it'}"


class Graph:
    """A graph of `hepdata_serving.onnx.graph.save_graph` in ONNX Runtime.

    Raises ArchiveError for bytes that it cannot load, MissingExtraError where it is missing.
    """

    def __init__(self, data: bytes, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise MissingExtraError("onnxruntime", "onnx") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; its warnings are about hardware it looks for
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the exceptions of its C++ part have no common base
            raise ArchiveError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load model.onnx: {str(error)[:300]}"
            ) from error

    def __call__(
        self, inputs: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scores ``(n,)`` or ``(n, C)`` and ``valid`` ``(n,)`` of dense inputs of n events.

        Raises ArchiveError for a graph with other inputs or outputs.
        """
        try:
            score, valid = self._session.run(OUTPUTS, dict(inputs))
        except Exception as error:  # the exceptions of its C++ part have no common base
            raise ArchiveError(
                f"model.onnx cannot be run on these inputs: {str(error)[:300]}"
            ) from error
        return score, valid


def onnx_folders(directory: Path | str) -> list[Path]:
    """The exported models of a folder: itself, or those in it (``DIR/NAME``); there may be none.

    >>> onnx_folders("no-such-folder")
    []
    """
    directory = Path(directory)
    if (directory / GRAPH).is_file():
        return [directory]
    return sorted(path.parent for path in directory.glob(f"[!.]*/{GRAPH}"))


def _parts(columns: Columns) -> Iterator[Columns]:
    """The columns in runs of events whose padded form stays small."""
    n = len(next(iter(columns.values())))
    longest = max(map(_longest, columns.values()))
    rows = max(1, min(MAX_ROWS, MAX_VALUES // longest))
    for start in range(0, n, rows):
        yield take_all(columns, np.arange(start, min(start + rows, n)))


def _longest(column: Column) -> int:
    return max(1, int(column.lengths.max(initial=1))) if isinstance(column, Jagged) else 1
