"""uvicorn's connection, bounded where uvicorn trusts its clients: a request's head, and who never reads the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 10.0
READ_SECONDS = 60.0


def bounded(
    count: Callable[[int], None], head_seconds: float = HEAD_SECONDS, read_seconds: float = READ_SECONDS
) -> type[HttpToolsProtocol]:
    """The protocol class for ``uvicorn.Config(http=...)``.

    Args:
        count: Told the status of each connection refused before a request was whole.
        head_seconds: For the first byte of a connection, and from the first to the last byte of a head.
        read_seconds: For a client to read an answer that does not fit the buffers; then it is cut off.
    """

    class BoundedProtocol(HttpToolsProtocol):
        _in_head = True
        _head_bytes = 0
        _deadline: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._deadline = self.loop.call_later(head_seconds, self._too_slow)

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            self._read()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(read_seconds, self._never_read)

        def resume_writing(self) -> None:
            self._read()
            super().resume_writing()

        def on_message_begin(self) -> None:
            self._in_head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._in_head:
                if self._deadline is not None:
                    self._disarm()
                return
            self._head_bytes += len(data)
            if self._deadline is None:
                self._deadline = self.loop.call_later(head_seconds, self._too_slow)
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
            count(408)
            self.transport.abort()

        def _too_slow(self) -> None:
            self._refuse(408, f"the request's head did not arrive within {head_seconds:g} s")

        def _refuse(self, status: int, message: str) -> None:
            self._disarm()
            if self.transport.is_closing():
                return
            count(status)
            body = orjson.dumps({"error": message})
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

    return BoundedProtocol
