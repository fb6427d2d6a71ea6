"""What TorchServe hands on of a request, to the body that the client sent."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from hepdata_serving.errors import BodyError
from hepdata_serving.incoming import decoded

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def body_of(row: Mapping[str, object], headers: Mapping[str, object]) -> object:
    """The body, decompressed: bytes, or what TorchServe made of it.

    row: of the ``data`` that a handler gets, the body under ``body``, or ``data`` as a field of a
    form. headers: of the request, in any case.

    TorchServe reads a body that calls itself a form as one, and hands on its fields alone: of
    JSON, nothing arrives here, or pieces of it. So it is refused, by an error that says how to
    send it. Raises BodyError for that, and as `hepdata_serving.incoming.decoded` does.

    >>> body_of({"body": b"{}"}, {"Content-Type": "application/json"})
    b'{}'
    """
    sent = {name.lower(): str(value) for name, value in headers.items()}
    body = row.get("body", row.get("data"))
    kind = sent.get("content-type", "").partition(";")[0].strip().lower()
    if body is None and kind in _FORMS:
        raise BodyError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body came as {kind}, which is how curl -d sends it unless told otherwise, and "
            "TorchServe cannot read JSON from it: add -H 'Content-Type: application/json'",
        )
    if isinstance(body, bytes | bytearray | memoryview):
        return decoded(bytes(body), sent.get("content-encoding", ""))
    return body
