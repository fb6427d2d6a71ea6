"""Why a request cannot be answered, with TF Serving's status codes for gRPC and for HTTP."""

from __future__ import annotations

import grpc

from hepdata_serving.errors import ServerError

_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}


class RequestError(ServerError):
    """A request that is refused; the message goes to the client.

    >>> RequestError(grpc.StatusCode.NOT_FOUND, "no model 'ttH' is served").http_status
    404
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def http_status(self) -> int:
        """The HTTP status that stands for the code; 500 for one that is no client's fault."""
        return _HTTP.get(self.code, 500)


def invalid(message: str) -> RequestError:
    """The fault of a request whose content is wrong."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
