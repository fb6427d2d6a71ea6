"""One version of a model, loaded: its signatures as described and as functions.

"Servable" is TF Serving's name for what it loads, serves and unloads as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from hepdata_adapters.common.core.columns import Array
from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_serving.errors import ArchiveError
from hepdata_serving.golden import check_golden
from hepdata_serving.integrity import check_folder, parse_json
from hepdata_serving.tfserving.faults import RequestError, invalid
from hepdata_serving.transforms import read_transform

DEFAULT_SIGNATURE = "serving_default"

_EXTRA = "assets.extra"
# lines of an error that tell where in the graph it was raised, not what is wrong
_GRAPH_PLACE = re.compile(
    r"Graph execution error:|Detected at node |<stack traces|\s+\[\[|\s*File "
)


@dataclass(frozen=True, eq=False)
class Servable:
    """A loaded version. Its methods may run in many threads at once.

    signatures: as in the SavedModel, by name, also those that only initialise it.
    """

    model: str
    version: int
    signatures: Mapping[str, SignatureDef]
    _functions: Mapping[str, Any]
    _saved_model: Any  # owns the variables that the functions read

    def signature(self, name: str) -> SignatureDef:
        """The signature of this name (the default one if empty); a fault if there is none."""
        name = name or DEFAULT_SIGNATURE
        if name not in self._functions:
            known = ", ".join(sorted(self._functions))
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"model {self.model!r} has no signature {name!r}; it has: {known}",
            )
        return self.signatures[name]

    def predict(
        self,
        inputs: Mapping[str, Array],
        signature_name: str = "",
        output_filter: Sequence[str] = (),
    ) -> dict[str, Array]:
        """Outputs by name, all or those of the filter, of inputs that fit the signature.

        Raises RequestError naming the input that does not fit, or with the reason that the
        graph gives for a value.
        """
        signature = self.signature(signature_name)
        check_inputs(inputs, signature)
        wanted = list(output_filter) or sorted(signature.outputs)
        for name in wanted:
            if name not in signature.outputs:
                raise invalid(f"there is no output {name!r}, only {sorted(signature.outputs)}")
        if len(set(wanted)) < len(wanted):
            raise invalid(f"the output filter names an output twice: {wanted}")
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        try:
            outputs = self._functions[signature_name or DEFAULT_SIGNATURE](**tensors)
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise invalid(_reason(error.message)) from error
        except tf.errors.OpError as error:
            raise RequestError(
                grpc.StatusCode.INTERNAL, f"the model failed: {_reason(error.message)}"
            ) from error
        return {name: outputs[name].numpy() for name in wanted}


def check_inputs(inputs: Mapping[str, Array], signature: SignatureDef) -> None:
    """Raise RequestError for the first input that is missing, unknown or of a wrong form.

    Inputs whose first dimension is open hold one row an event, so their numbers must agree.
    """
    check_names(inputs, signature)
    rows: tuple[str, int] | None = None
    for name in sorted(signature.inputs):
        values, info = inputs[name], signature.inputs[name]
        dtype = tf.as_dtype(info.dtype)
        if values.dtype != dtype.as_numpy_dtype:
            raise invalid(f"input {name!r} takes {dtype.name}, not {values.dtype}")
        shape = input_shape(info)
        if shape is None:
            continue
        fits = len(shape) == values.ndim and all(
            size in (-1, given) for size, given in zip(shape, values.shape, strict=True)
        )
        if not fits:
            raise invalid(
                f"input {name!r} takes the shape {shape_text(shape)}, "
                f"not {shape_text(values.shape)}"
            )
        if shape and shape[0] == -1:
            rows = rows or (name, len(values))
            if len(values) != rows[1]:
                raise invalid(
                    f"input {name!r} has {len(values)} rows, input {rows[0]!r} has {rows[1]}"
                )


def check_names(names: Iterable[str], signature: SignatureDef) -> None:
    """Raise RequestError for the first of the names that is no input, or input not named."""
    given, known = set(names), set(signature.inputs)
    if given != known:
        has = f"the signature has: {', '.join(sorted(known))}"
        for name in sorted(given - known):
            raise invalid(f"input {name!r} is not one of the model; {has}")
        raise invalid(f"input {min(known - given)!r} is missing; {has}")


def input_shape(info: TensorInfo) -> tuple[int, ...] | None:
    """The sizes an input must have, -1 for any; None if even the rank is open."""
    if info.tensor_shape.unknown_rank:
        return None
    return tuple(dim.size for dim in info.tensor_shape.dim)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as people write it, with ``n`` for the events and ``?`` for other open sizes.

    >>> shape_text((-1, 3)), shape_text((-1, -1)), shape_text((5,)), shape_text(())
    ('(n, 3)', '(n, ?)', '(5,)', '()')
    """
    sizes = ["?" if size == -1 else str(size) for size in shape]
    if shape and shape[0] == -1:
        sizes[0] = "n"
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def load(model: str, version: int, folder: Path) -> Servable:
    """Load a version and check its hashes and golden predictions, where it has any.

    Raises ArchiveError where it has changed, cannot be loaded or predicts something else.
    """
    where = f"version {version} of model {model!r} in {folder}"
    try:
        check_folder(folder, _EXTRA)
    except ArchiveError as error:
        raise ArchiveError(f"{where}: {error}") from error
    signatures = _signatures(folder, where)
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # of a corrupt graph, TensorFlow raises whatever its parts raise
        raise ArchiveError(f"{where} cannot be loaded: {str(error)[:500]}") from error
    servable = Servable(model, version, signatures, dict(loaded.signatures), loaded)
    try:
        _check_golden(servable, folder / _EXTRA)
    except ArchiveError as error:
        raise ArchiveError(f"{where}: {error}") from error
    return servable


def _signatures(folder: Path, where: str) -> dict[str, SignatureDef]:
    path = folder / "saved_model.pb"
    try:
        graphs = SavedModel.FromString(path.read_bytes()).meta_graphs
    except FileNotFoundError:
        raise ArchiveError(f"{where} is incomplete: there is no {path.name}") from None
    except (OSError, DecodeError) as error:
        raise ArchiveError(f"{where} cannot be loaded: {path.name}: {error}") from error
    for graph in graphs:
        if "serve" in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise ArchiveError(f"{where} has no graph with the tag 'serve'")


def _check_golden(servable: Servable, extra: Path) -> None:
    """A version exported by others has no examples, and is not checked."""
    path = extra / "golden.json"
    if not path.is_file():
        return
    try:
        golden = parse_json(path.read_bytes(), path.name)
        events, expected = golden["events"], golden["predictions"]
        transform, _ = read_transform((extra / "transform.json").read_bytes())
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ArchiveError(f"{path} cannot be used: {error!r}") from error

    def predict(events: Sequence[object]) -> list[Any]:
        columns, faults = columns_from_events(events, transform)
        if faults:
            raise ArchiveError(f"golden event {min(faults)}: {faults[min(faults)]}")
        outputs = servable.predict(dense_inputs(columns, transform))
        scores = next(iter(outputs.values()))
        return list(np.asarray(scores, np.float64).tolist())

    try:
        check_golden(events, expected, predict)
    except RequestError as error:
        raise ArchiveError(f"the golden events are refused: {error}") from error


def _reason(message: str) -> str:
    r"""What a graph says of a value, without the places in the graph.

    >>> _reason("Graph execution error:\n\nDetected at node Assert defined at\n"
    ...     "<stack traces unavailable>\nassertion failed: [MET holds NaN]\n"
    ...     "\t [[{{node Assert}}]] [Op:__inference_7]")
    'assertion failed: [MET holds NaN]'
    """
    lines = [line for line in message.splitlines() if line and not _GRAPH_PLACE.match(line)]
    return re.sub(r" \[Op:[^\]]*\]$", "", " ".join(lines)) or message
