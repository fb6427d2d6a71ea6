"""Bodies of requests as clients send them, to bytes of JSON: decompressed, within bounds."""

from __future__ import annotations

import gzip
import io
import zlib
from http import HTTPStatus

from hepdata_serving.errors import BodyError

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Largest body that a server reads, before and after it is decompressed."""

_GZIP = ("gzip", "x-gzip")  # RFC 9110: these two are the same


def decoded(body: bytes, encoding: str, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body without its ``Content-Encoding``, which may be empty, identity or gzip.

    No more than ``limit`` bytes are ever made of it, however small it came.
    Raises BodyError: 400 for what is no gzip, 413 beyond the limit, 415 for another encoding.

    >>> decoded(gzip.compress(b"{}"), "gzip"), decoded(b"{}", "")
    (b'{}', b'{}')
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _GZIP:
        raise BodyError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding {encoding[:40]!r} is not known here: send gzip, or no encoding",
        )
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
            plain = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BodyError(
            HTTPStatus.BAD_REQUEST, f"the body is not valid gzip: {str(error)[:200]}"
        ) from error
    if len(plain) > limit:
        raise BodyError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {limit} bytes when it is decompressed",
        )
    return plain
