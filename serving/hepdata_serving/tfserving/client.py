"""Ask any server with TF Serving's REST interface for the predictions of raw events.

What the model takes is read from its metadata: a branch is an input ``(n,)`` or ``(n, k)``, or,
if jagged, an input ``(n, m)`` of any m beside the lengths (see `inference.padded_inputs`).
This needs no TensorFlow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import requests

from hepdata_adapters.common.core.columns import Columns, Jagged, take_all
from hepdata_adapters.common.core.errors import ConfigError, EventError
from hepdata_adapters.common.files.preparation import RawBranch
from hepdata_adapters.common.inference.padded_inputs import LENGTH, dense_inputs, input_name
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_serving.client import plain, send
from hepdata_serving.errors import ServerError
from hepdata_serving.transforms import any_events

MAX_NUMBERS = 300_000
"""Most numbers, padding included, in one request: 8 MB at most, half of what our server takes."""

_VERB = ":predict"
_SIGNATURE = "serving_default"
_DTYPES = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_BOOL": "bool",
    "DT_INT8": "int8",
    "DT_INT16": "int16",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
    "DT_UINT8": "uint8",
    "DT_UINT16": "uint16",
    "DT_UINT32": "uint32",
    "DT_UINT64": "uint64",
}


class _Input(NamedTuple):
    """An input of a signature: its numpy dtype, and its sizes with -1 for open ones."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Model:
    """Where a model answers, and how its inputs are made of events."""

    session: requests.Session
    url: str
    timeout: float
    transform: Transform

    def predictions(self, columns: Columns, first: int) -> list[Any]:
        """One prediction an event; ``first`` is the number of the first one.

        A part that is too large, or that the server refuses, is sent again in halves, so that
        an error names its event.
        """
        n = len(next(iter(columns.values())))
        size = n * sum(_width(column) for column in columns.values())
        if size <= MAX_NUMBERS:
            inputs = dense_inputs(columns, self.transform)
            body = json.dumps({"inputs": {name: x.tolist() for name, x in inputs.items()}})
            reply = send(self.session, self.url, self.timeout, body.encode())
            if reply.status == 200:
                outputs = reply.answer.get("outputs")
                if isinstance(outputs, list) and len(outputs) == n:
                    return outputs
                raise ServerError(f"{self.url} did not give {n} outputs: {reply.text[:200]}")
            if reply.status != 400:
                raise ServerError(f"{self.url} answered {reply.status}: {reply.said}")
            if n == 1:
                raise EventError(f"event {first}: {_reason(reply.said)}")
        elif n == 1:
            raise EventError(
                f"event {first} cannot be sent: it has {size} numbers, at most {MAX_NUMBERS} "
                "fit into a request"
            )
        middle = n // 2
        early = take_all(columns, np.arange(middle))
        late = take_all(columns, np.arange(middle, n))
        return self.predictions(early, first) + self.predictions(late, first + middle)


def predict(
    url: str,
    events: Sequence[Mapping[str, Any]],
    batch: int = 1000,
    timeout: float = 60.0,
) -> list[Any]:
    """One prediction an event, in order: a float, or a list of floats for several classes.

    url: ``http://host:port/v1/models/<name>[/versions/<v>|/labels/<l>]:predict``. events:
    branch name to number or list; numpy numbers and arrays are taken too, None stands for NaN.
    At most ``batch`` events and `MAX_NUMBERS` go into a request.

    Raises EventError naming the first event and its branch that does not fit the model, or that
    the server refuses; ServerError when there is no answer or another fault.
    """
    if batch < 1:
        raise ConfigError(f"batch must be at least 1, not {batch}")
    if not url.endswith(_VERB):
        raise ConfigError(f"{url!r} is no URL for predictions of TF Serving: it ends in {_VERB!r}")
    if not events:
        return []
    predictions: list[Any] = []
    with requests.Session() as session:
        inputs = _inputs(session, url, timeout)
        model = _Model(session, url, timeout, _transform(inputs, events[0]))
        for first in range(0, len(events), batch):
            part = [
                {key: plain(value) for key, value in event.items()}
                for event in events[first : first + batch]
            ]
            columns, faults = columns_from_events(part, model.transform)
            if faults:
                index, reason = min(faults.items())
                raise EventError(f"event {first + index}: {reason}")
            predictions += model.predictions(columns, first)
    return predictions


def _inputs(session: requests.Session, url: str, timeout: float) -> dict[str, _Input]:
    """The inputs of the default signature, by name."""
    where = url.removesuffix(_VERB) + "/metadata"
    reply = send(session, where, timeout)
    if reply.status != 200:
        raise ServerError(f"{where} answered {reply.status}: {reply.said}")
    try:
        signatures = reply.answer["metadata"]["signature_def"]["signature_def"]
        return {
            name: _Input(
                _DTYPES[info["dtype"]],
                tuple(int(dim["size"]) for dim in info["tensor_shape"]["dim"]),
            )
            for name, info in signatures[_SIGNATURE]["inputs"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(
            f"{where} describes no signature {_SIGNATURE!r} of numbers: {error!r}"
        ) from error


def _transform(inputs: Mapping[str, _Input], event: Mapping[str, Any]) -> Transform:
    """How events become these inputs. Branches are named as in the event where it has them.

    Only the forms of the columns matter: values are scaled and refused by the server.
    """
    branches = {input_name(key): key for key in event if isinstance(key, str)}
    found: list[RawBranch] = []
    for name, (dtype, shape) in inputs.items():
        if name.endswith(LENGTH) and _is_jagged(name.removesuffix(LENGTH), inputs):
            continue
        if len(shape) not in (1, 2) or (shape[1:] == (-1,) and not _is_jagged(name, inputs)):
            raise ServerError(
                f"the model's input {name!r} has the shape {list(shape)}, which is no branch: "
                "it was not exported by hepdata-adapters"
            )
        jagged = shape[1:] == (-1,)
        found.append(
            RawBranch(
                name=name if name in event else branches.get(name, name),
                kind="flat" if len(shape) == 1 else "jagged" if jagged else "array",
                dtype=dtype,
                size=1 if jagged or len(shape) == 1 else shape[1],
            )
        )
    return any_events(found)


def _is_jagged(name: str, inputs: Mapping[str, _Input]) -> bool:
    """Whether the input is padded to any length, with the lengths beside it."""
    return (
        name in inputs
        and inputs[name].shape[1:] == (-1,)
        and inputs.get(name + LENGTH) == _Input("int64", (-1,))
    )


def _reason(said: str) -> str:
    r"""What the graph said of one event, without TensorFlow's words around it.

    >>> _reason("assertion failed: [HT holds NaN (event 0 of those given)]\n\t [[{{node A}}]]")
    'HT holds NaN'
    """
    found = re.search(r"assertion failed: \[(.*?)(?: \(event 0 of those given\))?\]", said)
    return found[1] if found else said


def _width(column: Any) -> int:
    """Numbers an event has in this column when it is padded; one more for its length."""
    if isinstance(column, Jagged):
        return int(column.lengths.max(initial=1)) + 1
    return int(np.prod(column.shape[1:]))
