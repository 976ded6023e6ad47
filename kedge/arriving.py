"""A request's body as it arrives: within a number of bytes and of seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import nullcontext
from math import inf
from typing import Any

from kedge.body import UnreadableBody

MAX_DISCARDED = 64 << 20
"""Bytes read and dropped before a refusal, which a sender that still sends would not see."""

NO_LIMIT = nullcontext()

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class SenderGone(UnreadableBody):
    """The connection ended within the body."""


async def receive_body(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    keep: Callable[[bytes], object],
    *,
    max_bytes: int,
    seconds: float,
    slowest: float = inf,
) -> None:
    """Hand each part of a body to ``keep``, as it was sent, but for parts beyond ``max_bytes``.

    Args:
        receive: ASGI's.
        seconds: For the whole body; one that has ``slowest`` bytes more may take a second more.

    Raises:
        UnreadableBody: too large, too slow, or the sender went away.
    """
    length = headers.get(b"content-length", b"")
    declared, most = int(length) if length.isdigit() else 0, max(max_bytes, MAX_DISCARDED)
    if declared > most or (declared > max_bytes and b"expect" in headers):
        raise _too_large(max_bytes)
    size, began = 0, asyncio.get_running_loop().time()
    limit = None if _is_here(receive) else asyncio.timeout(seconds)
    try:
        async with limit or NO_LIMIT:
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise SenderGone("malformed", "the sender went away within the body")
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                if size > most:
                    raise _too_large(max_bytes)
                if size <= max_bytes:
                    keep(part)
                if more and limit is not None:
                    limit.reschedule(began + seconds + size / slowest)
    except TimeoutError:
        than = f" and a second for each {slowest:,.0f} bytes" if slowest < inf else ""
        raise UnreadableBody("too-slow", f"the body did not arrive within {seconds:g} s{than}") from None
    if size > max_bytes:
        raise _too_large(max_bytes)


def _is_here(receive: Receive) -> bool:
    """Whether uvicorn has the whole body already, as it has most: then a limit of time costs more than the reading."""
    return getattr(getattr(receive, "__self__", None), "more_body", True) is False


def _too_large(max_bytes: int) -> UnreadableBody:
    return UnreadableBody("too-large", f"the body has more than {max_bytes:,} bytes; send less at once")
