"""Reading over HTTP: ranges that are what was asked for, and servers that fail for a while.

One middleware of the client sees every request that fsspec makes, whether to open a file or to
read ranges of it. It asks again after lost connections, 429 and 5xx, with growing waits, and
gives up within a bounded time by an error that holds the last status.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from hepdata_adapters.common.core.errors import FileError

# seconds; a request may take as long as it likes while bytes arrive
TIMEOUTS: dict[str, Any] = {"total": None, "sock_connect": 10, "sock_read": 30}


@dataclass(frozen=True)
class Patience:
    """How long to ask again: the waits of a server's restart are survived, a dead one is told.

    tries: of one request. first: seconds before the second try; each wait is twice the one
    before, of which a random part of up to a half is left out, so that the workers of a job do
    not come back all at once. longest: of one wait, also where the server names it
    (``Retry-After``). total: seconds after which no new try begins.

    >>> patience = Patience()
    >>> sum(patience.wait(number, None, share=0.5) for number in range(patience.tries - 1)) > 5
    True
    """

    tries: int = 7
    first: float = 0.25
    longest: float = 30.0
    total: float = 60.0

    def wait(self, failed: int, asked: float | None, share: float | None = None) -> float:
        """Seconds after ``failed`` earlier failures; asked: what the server named."""
        if asked is not None:
            return min(max(asked, self.first), self.longest)
        share = random.uniform(0.5, 1.0) if share is None else share  # noqa: S311 (no secret)
        return min(self.first * 2.0**failed, self.longest) * share


PATIENCE = Patience()
_PASSING = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}


class UnansweredError(Exception):  # an OSError would be wrapped by aiohttp
    """A request that no try answered; the message holds the last status or failure."""

    def __getitem__(self, _: object) -> Any:
        # fsspec returns errors in the place of data, and uproot takes slices of them
        raise self


def client_options(check: Callable[[Any], Awaitable[None]]) -> dict[str, Any]:
    """What aiohttp's client is told. check: raises for answers that are of no use."""
    import aiohttp

    return {
        "timeout": aiohttp.ClientTimeout(**TIMEOUTS),
        "middlewares": (ask_again,),
        "raise_for_status": check,
    }


async def ask_again(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """The answer to a request, its body read; raises UnansweredError or FileError (no ranges)."""
    import aiohttp

    began = time.monotonic()
    for failed in range(PATIENCE.tries):
        asked = None
        try:
            answer = await handler(request)
            if answer.status not in _PASSING:
                _require_range(request, answer)
                if request.method == "GET" and "Range" in request.headers:
                    await answer.read()  # here, where a connection lost midway can be mended
                return answer
            reason = f"HTTP {answer.status} {answer.reason or ''}".rstrip()
            asked = _retry_after(answer.headers.get("Retry-After"))
            answer.close()
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            text = " ".join(str(error).split())
            reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        wait = PATIENCE.wait(failed, asked)
        spent = time.monotonic() - began
        if failed + 1 == PATIENCE.tries or spent + wait > PATIENCE.total:
            break
        await asyncio.sleep(wait)
    raise UnansweredError(f"{reason}; asked {failed + 1} times in {spent:.0f} s")


def _require_range(request: Any, answer: Any) -> None:
    """Refuse an answer that is not the range asked for.

    fsspec and uproot would take the bytes for it: wrong data without an error.
    """
    wanted = request.headers.get("Range", "")
    if not wanted or not answer.ok:
        return
    start = wanted.removeprefix("bytes=").split("-")[0]
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        answer.close()
        raise FileError(
            "the HTTP server does not support range requests; "
            "copy the file, or serve it by one that does",
            file=str(request.url),
        )


def _retry_after(value: str | None) -> float | None:
    """Seconds from a header that holds them or a date.

    >>> _retry_after("7"), _retry_after("soon"), _retry_after(None)
    (7.0, None, None)
    """
    if value is None:
        return None
    try:
        return float(value) if value.strip().isdigit() else (
            parsedate_to_datetime(value).timestamp() - time.time()
        )  # fmt: skip
    except (TypeError, ValueError):
        return None
