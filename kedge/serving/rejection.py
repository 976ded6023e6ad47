"""What a request at fault gets: a status of the 4xx and one sentence that names the fault."""

from __future__ import annotations


class RequestRejected(Exception):
    """A request that is not answered. Not a KedgeError: it ends a request, never the server."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
