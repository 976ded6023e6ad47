"""uvicorn's connection, bounded where uvicorn trusts its clients: a request's head, who never reads the answer, and how
many connections there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kedge.house import House

HEAD_BYTES = 32 * 1024
MAX_CONNECTIONS = 1000
HEAD_SECONDS = 10.0
READ_SECONDS = 60.0


@dataclass(frozen=True)
class Bounds:
    """What a server allows its clients."""

    count: Callable[[int], None]
    """Told the status of each connection refused before a request was whole."""
    head_seconds: float = HEAD_SECONDS
    """For the first byte of a connection, and from the first to the last byte of a head."""
    read_seconds: float = READ_SECONDS
    """For a client to read an answer that does not fit the buffers; then it is cut off."""
    most: int = MAX_CONNECTIONS
    """Connections at once; see :mod:`kedge.house`. Leave uvicorn's own limit out."""
    probes: frozenset[bytes] = frozenset()
    """Paths that are answered beyond it."""


class Bounded(HttpToolsProtocol):
    """uvicorn's connection within :class:`Bounds`; :func:`bounded` makes the class of one server."""

    bounds: ClassVar[Bounds]
    house: ClassVar[House]
    _in_head = True
    _head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.bounds.head_seconds, self._too_slow)
        self.house.enter(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self.house.leave(self)
        self._disarm()
        self._read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.bounds.read_seconds, self._never_read)

    def resume_writing(self) -> None:
        self._read()
        super().resume_writing()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        served = self.app
        if not self._admitted():
            self.app = _full
            self.bounds.count(503)
        super().on_headers_complete()
        self.app = served

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle is None or self.cycle.response_complete:  # no other request was waiting behind it
            self.house.rest(self)

    def _admitted(self) -> bool:
        """Whether the request that begins is served."""
        return self.house.begin(self) or self.url.partition(b"?")[0] in self.bounds.probes

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            if self._deadline is not None:
                self._disarm()
            return
        self._head_bytes += len(data)
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.bounds.head_seconds, self._too_slow)
        if self._head_bytes > HEAD_BYTES:
            self._refuse(431, f"the request's head is larger than {HEAD_BYTES // 1024} KiB")

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _disarm(self) -> None:
        self._head_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _never_read(self) -> None:
        self.bounds.count(408)
        self.transport.abort()

    def _too_slow(self) -> None:
        self._refuse(408, f"the request's head did not arrive within {self.bounds.head_seconds:g} s")

    def _refuse(self, status: int, message: str) -> None:
        self._disarm()
        if self.transport.is_closing():
            return
        self.bounds.count(status)
        body = orjson.dumps({"error": message})
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def bounded(bounds: Bounds) -> type[Bounded]:
    """The protocol class for ``uvicorn.Config(http=...)`` of one server."""
    house = House(bounds.most, lambda one: one.transport.close())  # type: ignore[attr-defined]
    return type("BoundedProtocol", (Bounded,), {"bounds": bounds, "house": house})


async def _full(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    """In the application's place, where there is no room."""
    body = orjson.dumps({"error": "as many connections as may are served; send again later"})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"2"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
