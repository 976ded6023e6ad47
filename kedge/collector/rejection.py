"""Why something that was sent is not taken."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from kedge.errors import DataError

Reason = Literal[
    "malformed",  # not JSON, not a CloudEvent, not a table
    "media-type",  # a content type nobody reads here
    "unknown-model",  # no policy declares it
    "unknown-type",  # an event type that is not collected
    "invalid",  # a field is missing, of the wrong type or outside its bounds
    "clock",  # event time too far from the collector's clock
    "too-large",
    "too-slow",
    "unauthorized",
    "forbidden",  # known, and may not send this
    "not-found",  # no such address
    "method",  # not by this method
    "busy",  # come again: memory, disk or connections are used up
]


class RequestRejected(DataError):
    """Not taken; the message names the fault, ``reason`` is its kind."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


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
