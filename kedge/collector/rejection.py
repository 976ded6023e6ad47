"""Why something that was sent is not taken."""

from __future__ import annotations

from typing import Literal

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
    "not-found",  # no such address
    "method",  # not by this method
    "busy",  # come again: memory, disk or connections are used up
]

WORDS = {None: "null", True: "true", False: "false"}


class RequestRejected(DataError):
    """Not taken; the message names the fault, ``reason`` is its kind."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def shown(value: object) -> str:
    """A value from outside for a message: short, quoted, without control characters; JSON's words as JSON has them.

    >>> shown(None), shown(True), shown("yes"), shown([True])
    ('null', 'true', "'yes'", 'a list')
    """
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
