"""Bodies of TF Serving's REST interface: requests to inputs, outputs to answers.

Row format: ``{"instances": [...]}`` is answered by ``{"predictions": [...]}``; an instance is
an object of inputs, or the bare value where there is one input. Column format: ``{"inputs":
{...}}``, or the bare value, is answered by ``{"outputs": ...}``. Where there is one output, it
stands bare as well. NaN, Infinity and -Infinity are written as these words, both ways;
null stands for NaN in a request.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from hepdata_adapters.common.core.columns import Array
from hepdata_serving.tfserving.faults import invalid
from hepdata_serving.tfserving.servable import check_names
from hepdata_serving.tfserving.tensors import from_json

# what a number needs to be above the largest float, which Python would read as infinity
_HUGE = re.compile(rb"[eE]\+?0*[1-9][0-9]{2}|[0-9]{300}")


@dataclass(frozen=True)
class PredictBody:
    """A request as sent: the name of the signature (may be empty), and values in a format."""

    signature_name: str
    by_row: bool
    values: Any


def parse(body: bytes) -> PredictBody:
    """The parts of a request's body. Raises RequestError where it is not of either format.

    >>> parse(b'{"instances": [[1.0, NaN]]}')
    PredictBody(signature_name='', by_row=True, values=[[1.0, nan]])
    """
    try:
        document = json.loads(body, parse_float=_finite if _HUGE.search(body) else float)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(document, dict):
        raise invalid('the body must be an object: {"instances": [...]} or {"inputs": {...}}')
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("'signature_name' must be a string")
    if ("instances" in document) == ("inputs" in document):
        raise invalid("the body must have 'instances' or 'inputs', and not both")
    if "inputs" in document:
        return PredictBody(name, False, document["inputs"])
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise invalid("'instances' must be a list with at least one instance")
    return PredictBody(name, True, instances)


def inputs(body: PredictBody, signature: SignatureDef) -> dict[str, Array]:
    """The values as arrays in the dtypes of the signature's inputs, by name.

    Raises RequestError naming the input that is missing, unknown or holds something else.
    """
    values = _columns(body.values, signature) if body.by_row else _named(body.values, signature)
    return {
        name: from_json(name, values[name], tf.as_dtype(info.dtype))
        for name, info in sorted(signature.inputs.items())
    }


def answer(outputs: Mapping[str, Array], by_row: bool) -> bytes:
    """The body of the answer. Raises RequestError if the outputs cannot be given by row."""
    lists = {name: values.tolist() for name, values in outputs.items()}
    if not by_row:
        return json.dumps({"outputs": _bare(lists)}).encode()
    for name, values in outputs.items():
        if values.ndim == 0 or len(values) != len(next(iter(outputs.values()))):
            raise invalid(f"output {name!r} has no row for each instance: use the column format")
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return json.dumps({"predictions": [_bare(row) for row in rows]}).encode()


def _columns(instances: list[Any], signature: SignatureDef) -> dict[str, list[Any]]:
    """The values of each input, one an instance."""
    if not isinstance(instances[0], dict):
        name = _only_input(signature, "'instances' must hold objects")
        return {name: instances}
    for number, instance in enumerate(instances):
        if not isinstance(instance, dict):
            raise invalid(f"instance {number} is no object, but the first one is")
        if instance.keys() != signature.inputs.keys():
            check_names(instance, signature)
    return {name: [instance[name] for instance in instances] for name in signature.inputs}


def _named(values: Any, signature: SignatureDef) -> dict[str, Any]:
    if not isinstance(values, dict):
        return {_only_input(signature, "'inputs' must be an object"): values}
    check_names(values, signature)
    return values


def _only_input(signature: SignatureDef, otherwise: str) -> str:
    if len(signature.inputs) != 1:
        raise invalid(
            f"{otherwise}, because the signature has several inputs: "
            f"{', '.join(sorted(signature.inputs))}"
        )
    return str(next(iter(signature.inputs)))


def _bare(named: dict[str, Any]) -> Any:
    return next(iter(named.values())) if len(named) == 1 else named


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
