"""Ask a model server for the predictions of raw events."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import requests

from hepdata_adapters.common.core.errors import ConfigError, EventError
from hepdata_adapters.common.inference.raw_events import without_nan
from hepdata_serving.errors import ServerError

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Largest body sent, half of what our servers accept."""

TOKEN = "HEPDATA_TOKEN"  # noqa: S105 (a name)
"""Names the token of a server that wants one; in the environment, where no log shows it."""


class Reply(NamedTuple):
    """A server's answer: the status, the JSON object (empty if it is none), and the text."""

    status: int
    answer: dict[str, Any]
    text: str

    @property
    def said(self) -> str:
        """What the server says is wrong."""
        return str(self.answer.get("error") or self.answer.get("message") or self.text[:200])


class _Part(NamedTuple):
    """One request: the number of its first event, and how many it has."""

    first: int
    events: int
    body: bytes


def predict(
    url: str,
    events: Sequence[Mapping[str, Any]],
    batch: int = 1000,
    timeout: float = 60.0,
) -> list[Any]:
    """One prediction an event, in order: a float, or a list of floats for several classes.

    events: branch name to number or list; numpy numbers and arrays are taken too, NaN and
    infinity are sent as null. At most ``batch`` events and `MAX_BODY_BYTES` go into a request.
    A token in the environment's ``HEPDATA_TOKEN`` is sent along; ``REQUESTS_CA_BUNDLE`` names the
    certificate of an https server that no authority has signed.

    Raises EventError naming the first event that the server refuses (or that cannot be sent),
    ServerError when there is no answer or another fault.
    """
    if batch < 1:
        raise ConfigError(f"batch must be at least 1, not {batch}")
    predictions: list[Any] = []
    with requests.Session() as session:
        for part in _parts(events, batch):
            predictions += _ask(session, url, part, timeout)
    return predictions


def send(session: requests.Session, url: str, timeout: float, body: bytes | None = None) -> Reply:
    """GET, or POST the JSON body. Raises ServerError when no answer comes."""
    try:
        response = session.request(
            "GET" if body is None else "POST",
            url,
            data=body,
            headers={"Content-Type": "application/json"} | _authorization(),
            timeout=timeout,
        )
    except requests.Timeout as error:
        raise ServerError(f"{url} did not answer within {timeout:g} s") from error
    except requests.RequestException as error:
        raise ServerError(f"no answer from {url}: {error}; is the server running?") from error
    return Reply(response.status_code, _json(response), response.text)


def _authorization() -> dict[str, str]:
    token = os.environ.get(TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


def plain(value: Any) -> Any:
    """Numbers and arrays of numpy, which know how to become Python's, as Python's."""
    tolist = getattr(value, "tolist", None)
    return value if tolist is None else tolist()


def _parts(events: Sequence[Mapping[str, Any]], batch: int) -> Iterator[_Part]:
    """Request bodies that respect both limits, in order."""
    texts: list[str] = []
    first = size = 0
    for number, event in enumerate(events):
        text = _event_text(event, number)
        if texts and (len(texts) == batch or size + len(text) > MAX_BODY_BYTES):
            yield _part(first, texts)
            texts, first, size = [], number, 0
        texts.append(text)
        size += len(text) + 2
    if texts:
        yield _part(first, texts)


def _part(first: int, texts: list[str]) -> _Part:
    return _Part(first, len(texts), f'{{"instances": [{", ".join(texts)}]}}'.encode())


def _event_text(event: Mapping[str, Any], number: int) -> str:
    values = {key: plain(value) for key, value in event.items()}
    try:
        text = json.dumps(without_nan(values), allow_nan=False)
    except TypeError as error:
        raise EventError(f"event {number} cannot be sent: {error}") from error
    if len(text) > MAX_BODY_BYTES:
        raise EventError(
            f"event {number} cannot be sent: it has {len(text)} bytes, "
            f"at most {MAX_BODY_BYTES} fit into a request"
        )
    return text


def _ask(session: requests.Session, url: str, part: _Part, timeout: float) -> list[Any]:
    reply = send(session, url, timeout, part.body)
    if reply.status != 200:
        _raise_fault(url, reply, part)
    predictions = reply.answer.get("predictions")
    if not isinstance(predictions, list) or len(predictions) != part.events:
        raise ServerError(f"{url} did not give {part.events} predictions: {reply.text[:200]}")
    return predictions


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _raise_fault(url: str, reply: Reply, part: _Part) -> None:
    reasons = reply.answer.get("instances")
    if reply.status == 400 and isinstance(reasons, dict) and reasons:
        index, reason = min((int(key), value) for key, value in reasons.items())
        more = f" ({reply.answer.get('error')})" if len(reasons) > 1 else ""
        raise EventError(f"event {part.first + index}: {reason}{more}")
    raise ServerError(f"{url} answered {reply.status}: {reply.said}")
