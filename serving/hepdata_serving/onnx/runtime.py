"""Predictions of an exported ONNX model in this process, through ONNX Runtime; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.columns import Column, Columns, Jagged, take_all
from hepdata_adapters.common.dense import dense_inputs
from hepdata_adapters.common.errors import EventError, MissingExtraError
from hepdata_adapters.common.events import columns_from_events
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_serving.answers import MAX_ROWS
from hepdata_serving.errors import ArchiveError
from hepdata_serving.golden import check_golden
from hepdata_serving.integrity import parse_json, read_checked
from hepdata_serving.transforms import read_transform

FILES = ("golden.json", "metadata.json", "model.onnx", "transform.json")
"""What `SHA256SUMS` of an exported folder is about."""

OUTPUTS = ("score", "valid")
"""Scores float32, NaN for an event that may not be scored; and whether it may, ``(n,)`` bool."""

MAX_VALUES = 4_000_000
"""Padded values of a branch in one run of the graph, so that one long event costs little."""


class OnnxModel:
    """The folder of `hepdata_serving.onnx.export.export_onnx`, loaded and proven.

    folder: holds ``model.onnx``, ``transform.json`` and ``golden.json``. threads: of one run.

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
            self._transform, self._unknown = read_transform(files["transform.json"])
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
        columns, faults = columns_from_events(events, self._transform)
        for index, reason in faults.items():
            raise EventError(f"event {index}: {reason}")
        try:
            return predictions(self._graph, columns, self._transform)
        except EventError as error:
            if self._unknown is not None:
                raise EventError(f"{error}; why is not known here: {self._unknown}") from None
            raise ArchiveError(
                f"{error}, which its transform.json allows: the two do not belong together"
            ) from None


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


def predictions(graph: Graph, columns: Columns, transform: Transform) -> list[Any]:
    """The predictions of all events. Raises EventError naming the first that the graph refuses."""
    values: list[Any] = []
    for part in _parts(columns):
        score, valid = graph(dense_inputs(part, transform))
        if not valid.all():
            raise EventError(f"the graph refuses event {len(values) + int(np.argmin(valid))}")
        values += score.astype(float).tolist()
    return values


def _parts(columns: Columns) -> Iterator[Columns]:
    """The columns in runs of events whose padded form stays small."""
    n = len(next(iter(columns.values())))
    longest = max(map(_longest, columns.values()))
    rows = max(1, min(MAX_ROWS, MAX_VALUES // longest))
    for start in range(0, n, rows):
        yield take_all(columns, np.arange(start, min(start + rows, n)))


def _longest(column: Column) -> int:
    return max(1, int(column.lengths.max(initial=1))) if isinstance(column, Jagged) else 1
