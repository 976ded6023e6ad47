"""A body as the collector reads it: unpacked, and as JSON."""

from __future__ import annotations

from typing import Any

import orjson

from kedge.body import UnreadableBody, json_fault, unpacked
from kedge.collector.rejection import RequestRejected


def json_of(body: bytes) -> Any:
    """The JSON value in a body. NaN, Infinity and nesting beyond 1,024 levels are not JSON here.

    Raises:
        RequestRejected: malformed.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise RequestRejected("malformed", json_fault(body, exc)) from None


def plain(body: bytes, encoding: str, most: int) -> bytes:
    """A body unpacked to at most so many bytes.

    Raises:
        RequestRejected: too large, or damaged.
    """
    try:
        return unpacked(body, encoding, most)
    except UnreadableBody as exc:
        raise RequestRejected(exc.reason, str(exc)) from None
