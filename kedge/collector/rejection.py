"""Why something that was sent is not taken."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from kedge.body import UnreadableBody
from kedge.errors import DataError

Reason = Literal[
    "malformed", "unauthorized", "forbidden", "not-found", "method", "too-slow", "too-large", "media-type", "clock",
    "unknown-model", "unknown-type", "invalid", "busy",
]  # fmt: skip
STATUS: dict[Reason, int] = {
    "malformed": 400,  # not JSON, not a CloudEvent, not a table
    "unauthorized": 401,
    "forbidden": 403,  # known, and may not send this
    "not-found": 404,  # no such address
    "method": 405,  # not by this method
    "too-slow": 408,
    "too-large": 413,
    "media-type": 415,  # a content type nobody reads here
    "unknown-model": 422,  # no policy declares it
    "unknown-type": 422,  # an event type that is not collected
    "invalid": 422,  # a field is missing, of the wrong type or outside its bounds
    "clock": 422,  # event time too far from the collector's clock
    "busy": 503,  # come again: memory, disk or connections are used up
}


class RequestRejected(DataError):
    """Not taken; the message names the fault, ``reason`` is its kind."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def invalid(message: str) -> RequestRejected:
    """Something that can be read and is not right."""
    return RequestRejected("invalid", message)


def malformed(message: str) -> RequestRejected:
    """Something that cannot be read."""
    return RequestRejected("malformed", message)


def busy(message: str) -> RequestRejected:
    """Something to be sent again."""
    return RequestRejected("busy", message)


REJECTIONS = (RequestRejected, UnreadableBody)
"""What an answer of the 4xx is made of."""
Rejection = RequestRejected | UnreadableBody


class RefusedEvent(Struct):
    """One event of a batch that was not taken."""

    index: int
    error: str
    reason: Reason


class Refusal(Struct):
    """Not taken; the message names the fault."""

    error: str
    reason: Reason | UnsetType = UNSET
    accepted: int | UnsetType = UNSET
    """Of a batch, the events that are durable all the same."""
    refused: list[RefusedEvent] | UnsetType = UNSET
    """Of a batch, the first of those that are not."""
