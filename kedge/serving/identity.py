"""Who a request is: its id, which joins prediction and label, and the time it counts in."""

from __future__ import annotations

import re
import secrets
from datetime import datetime

from kedge import clock
from kedge.serving.rejection import RequestRejected

PLAIN = re.compile(r"[!-~]{1,128}")
"""What an id may look like: it goes into a header and into events."""


def new_id() -> str:
    """An id no other request has, and that nobody can guess: of an id that comes twice the log keeps what came first.

    >>> len(new_id())
    32
    """
    return secrets.token_hex(16)


def checked_id(given: object, field: str) -> str:
    """The id the client gave.

    Raises:
        RequestRejected: it could not stand in a header.
    """
    if not isinstance(given, str) or not PLAIN.fullmatch(given):
        raise RequestRejected(400, f"{field}: an id must be 1 to 128 visible ASCII characters without spaces")
    return given


def event_time(given: str | None) -> datetime:
    """The time the client gave in ``ce-time``, or now.

    Raises:
        RequestRejected: it is not an RFC 3339 time with an offset.
    """
    if given is None:
        return clock.now()
    try:
        time = datetime.fromisoformat(given)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise RequestRejected(400, "ce-time: must be a time such as 2026-03-02T00:00:00Z")
    return time


def identify(header_id: str | None, body_id: object, time: str | None) -> tuple[str, datetime]:
    """The id and the event time of a request: ``ce-id``, else the id in its body, else a new one.

    Raises:
        RequestRejected: what was given cannot be one.
    """
    if header_id is not None:
        request_id = checked_id(header_id, "ce-id")
    else:
        request_id = new_id() if body_id is None else checked_id(body_id, '"id"')
    return request_id, event_time(time)


def row_id(request_id: str, row: int, rows: int) -> str:
    """The id of a row's prediction: the request's own, or ``<id>-<row>`` where it has several rows."""
    return request_id if rows == 1 else f"{request_id}-{row}"
