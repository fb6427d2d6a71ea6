"""What a request gets: pure functions from request bodies to answers, for any engine.

A body is ``{"instances": [{branch: number | list}, ...]}``; its answer is
``{"predictions": [...]}`` in the same order, or a fault with the reasons by instance. The
events of all requests of a batch run through one transform and one forward pass; a fault
stays with its own request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Columns, take_all
from hepdata_adapters.common.core.errors import EventError
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.transform.pipeline import ScoreFunction, Transform
from hepdata_serving.errors import ArchiveError, BodyError

MAX_REASONS = 100
"""Reasons listed in one answer, so that a large bad request gets a bounded reply."""

MAX_ROWS = 8192
"""Events in one forward pass, which bounds the memory of the activations."""


@dataclass(frozen=True)
class Answer:
    """An HTTP status and a JSON body."""

    status: HTTPStatus
    body: bytes


def answer_batch(
    bodies: Sequence[object], transform: Transform, score: ScoreFunction
) -> list[Answer]:
    """One answer a body, in order; never raises for what a client sent.

    bodies: JSON as bytes or text, what is parsed already, or the BodyError of one that cannot
    be read.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> transform = Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1),)))
    >>> good, bad = answer_batch(
    ...     [b'{"instances": [{"MET": 1.5}]}', b'{"instances": [{"MET": "x"}]}'],
    ...     transform, lambda x: 2 * x[:, 0])
    >>> good.body
    b'{"predictions": [3.0]}'
    >>> bad.status.value, json.loads(bad.body)["instances"]
    (400, {'0': "branch 'MET' takes numbers, not a string"})
    """
    requests = [_instances(body) for body in bodies]
    events = [event for request in requests if isinstance(request, list) for event in request]
    columns, faults = columns_from_events(events, transform)
    scores = _scores(columns, len(events) - len(faults), transform, score)
    answers: list[Answer] = []
    first = used = 0  # position among all events, and among the good ones
    for request in requests:
        if isinstance(request, Answer):
            answers.append(request)
            continue
        last = first + len(request)
        bad = {i - first: faults[i] for i in range(first, last) if i in faults}
        good = scores[used : used + len(request) - len(bad)]
        answers.append(_refusal(bad, len(request)) if bad else _predictions(good))
        first, used = last, used + len(good)
    return answers


def answer_one(
    body: object, transform: Transform, scores: Callable[[Columns], NDArray[np.float32]]
) -> Answer:
    """The answer to one body, as of `answer_batch`, of a model that takes raw columns.

    scores: of the columns of n events to ``(n,)`` or ``(n, C)``; may raise EventError.
    """
    request = _instances(body)
    if isinstance(request, Answer):
        return request
    columns, faults = columns_from_events(request, transform)
    if faults:
        return _refusal(faults, len(request))
    try:
        return _predictions(scores(columns))
    except EventError as error:
        return _fault(str(error))


def predict_events(
    events: Sequence[object], transform: Transform, score: ScoreFunction
) -> list[Any]:
    """Predictions as Python floats (lists of floats for several classes).

    Raises EventError naming the first bad event.
    """
    columns, faults = columns_from_events(events, transform)
    for index, reason in faults.items():
        raise EventError(f"event {index}: {reason}")
    predictions: list[Any] = _scores(columns, len(events), transform, score).astype(float).tolist()
    return predictions


def _instances(body: object) -> list[object] | Answer:
    """The events of a request, or why there are none."""
    if isinstance(body, BodyError):
        return _fault(str(body), body.status)
    if isinstance(body, bytes | bytearray | memoryview | str):
        try:
            body = json.loads(bytes(body) if isinstance(body, memoryview) else body)
        except (ValueError, RecursionError) as error:
            return _fault(f"the body is not valid JSON: {str(error)[:200]}")
    if not isinstance(body, dict):
        return _fault('the body must be an object: {"instances": [{branch: value, ...}, ...]}')
    if "instances" not in body:
        return _fault(f"the body has no 'instances', only {sorted(map(str, body))[:10]}")
    instances = body["instances"]
    if not isinstance(instances, list):
        return _fault("'instances' must be a list of events")
    return instances


def _scores(
    columns: Columns, n: int, transform: Transform, score: ScoreFunction
) -> NDArray[np.float32]:
    if not n:
        return np.zeros(0, np.float32)
    parts = []
    for start in range(0, n, MAX_ROWS):
        rows = np.arange(start, min(start + MAX_ROWS, n))
        made = transform(transform.prepare(take_all(columns, rows)))
        parts.append(score(transform.model_input(made.arrays)))
    scores = np.concatenate(parts)
    if len(scores) != n:
        raise ArchiveError(f"the model gave {len(scores)} scores for {n} events")
    return scores


def _predictions(scores: NDArray[np.float32]) -> Answer:
    finite = np.isfinite(scores).all(axis=tuple(range(1, scores.ndim)))
    bad = {int(row): "the model's output is NaN or infinite" for row in np.flatnonzero(~finite)}
    if bad:
        # not the client's fault, and strict JSON has no NaN to send
        return _refusal(bad, len(scores), HTTPStatus.INTERNAL_SERVER_ERROR)
    values = scores.astype(float).tolist()
    return Answer(HTTPStatus.OK, json.dumps({"predictions": values}).encode())


def _refusal(bad: dict[int, str], n: int, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Answer:
    shown = {str(index): reason for index, reason in list(bad.items())[:MAX_REASONS]}
    more = f" (the first {MAX_REASONS} are listed)" if len(bad) > MAX_REASONS else ""
    what = "cannot be used" if status is HTTPStatus.BAD_REQUEST else "got no prediction"
    error = f"{len(bad)} of {n} instances {what}{more}"
    return Answer(status, json.dumps({"error": error, "instances": shown}).encode())


def _fault(reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Answer:
    return Answer(status, json.dumps({"error": reason, "instances": {}}).encode())
