"""The short way of an event: uvicorn's connection without a task, a scope or a router for each request.

An event or a batch that is small, soon there and without anything unusual is handed to the application as headers and
body, and its answer is written when its group is durable. Whatever else comes goes uvicorn's and Starlette's ordinary
way.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Protocol

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from kedge.connection import MAX_CONNECTIONS, Bounds, bounded

PROBES = frozenset({b"/healthz", b"/readyz", b"/metrics"})
MAX_SHORT = 128 << 10
"""Bytes of a body on the short way: where nobody counts what bodies that still arrive take together."""
SHORT_SECONDS = 1.0
"""For the rest of such a body; then the ordinary way waits for it."""
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


class Events(Protocol):
    """What an application has for what comes this way; see :class:`kedge.collector.app.App`."""

    def attempt(
        self, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: Callable[[Response | None], None]
    ) -> bool: ...

    def refused_connection(self, status: int) -> None: ...


class Flight:
    """A body on its way, in the place of uvicorn's cycle of request and response, with what uvicorn asks of that."""

    body = b""
    response_complete = disconnected = False
    keep_alive = True
    message_event = SimpleNamespace(set=lambda: None)
    """In the place of the event that wakes a task: there is none."""


def protocol(app: Events, most: int = MAX_CONNECTIONS) -> type[HttpToolsProtocol]:
    """The protocol class for ``uvicorn.Config(http=...)``, for so many connections at once."""

    class EventProtocol(bounded(Bounds(app.refused_connection, most=most, probes=PROBES))):  # type: ignore[misc]
        _flight: Flight | None = None
        """What is being read."""
        _late: TimerHandle | None = None

        def on_headers_complete(self) -> None:
            if self._is_short() and self._admitted():
                self._in_head = False
                self.cycle = self._flight = Flight()
            else:
                super().on_headers_complete()

        def on_message_complete(self) -> None:
            if self._flight is None:
                super().on_message_complete()
                return
            flight = self._flight
            self._on_time()
            if app.attempt(self.headers, flight.body, partial(self._answer, flight)):
                self._flight = None
            else:
                self._go_the_long_way(flight)
                super().on_message_complete()

        def on_body(self, body: bytes) -> None:
            if self._flight is None:
                super().on_body(body)
            else:
                self._flight.body += body

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            flight = self._flight
            if flight is not None and len(flight.body) > MAX_SHORT:
                self._go_the_long_way(flight)
            elif flight is not None and self._late is None:
                self._late = self.loop.call_later(SHORT_SECONDS, self._go_the_long_way, flight)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._flight is not None:
                app.refused_connection(400)  # the sender went away within the body
            self._on_time()
            super().connection_lost(exc)

        def _is_short(self) -> bool:
            parser = self.parser
            return bool(
                self.url == b"/"
                and parser.get_method() == b"POST"
                and (self.cycle is None or self.cycle.response_complete)
                and parser.should_keep_alive()
                and parser.get_http_version() == "1.1"
                and not parser.should_upgrade()
                and not self.expect_100_continue
            )

        def _go_the_long_way(self, flight: Flight) -> None:
            """The rest of the body is still to come, or it is not to be read at once."""
            self._on_time()
            self._flight = None
            self.cycle = None  # type: ignore[assignment]
            super().on_headers_complete()
            if flight.body:
                super().on_body(flight.body)

        def _on_time(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _answer(self, flight: Flight, fault: Response | None) -> None:
            flight.response_complete = True
            if not flight.disconnected and not self.transport.is_closing():
                self.transport.write(ACCEPTED if fault is None else _raw(fault))
                if not flight.keep_alive:
                    self.transport.close()
            self.on_response_complete()

    return EventProtocol


def _raw(answer: Response) -> bytes:
    head = b"".join(b"%b: %b\r\n" % pair for pair in answer.raw_headers)
    return STATUS_LINE[answer.status_code] + head + b"\r\n" + bytes(answer.body)
