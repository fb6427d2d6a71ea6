"""The errors of the serving room, as branches of the package's one tree.

::

    HepDataError
    ├── ExportError      a model cannot be written as an archive
    ├── ArchiveError     an archive is corrupt, or does not give its own golden predictions
    ├── ServerError      a server does not start, stays away or answers with a fault
    ├── BodyError        the body of a request cannot be read; it has an HTTP status
    └── JavaError        no Java that TorchServe can use; the message is the remedy
"""

from __future__ import annotations

from http import HTTPStatus

from hepdata_adapters.common.core.errors import HepDataError

__all__ = ["ArchiveError", "BodyError", "ExportError", "JavaError", "ServerError", "one_line"]


class ExportError(HepDataError):
    """A model cannot be exported; the message says why and what to change."""


class ArchiveError(HepDataError):
    """An archive is incomplete, unsafe, or its model does not predict what it should."""


class ServerError(HepDataError):
    """A server did not start, died, or answered a request with a fault of its own."""


class BodyError(HepDataError):
    """The body of a request cannot be read; ``status`` and message go to the client.

    >>> BodyError(HTTPStatus.BAD_REQUEST, "no gzip").status.value
    400
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class JavaError(HepDataError):
    """No suitable Java was found."""


def one_line(error: BaseException) -> str:
    r"""The first line of what an error of another library says, without a full stop.

    >>> one_line(ValueError("no such node.\nTraceback: ..."))
    'no such node'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0][:300] if lines else type(error).__name__).rstrip(".")
