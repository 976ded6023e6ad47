"""HTTP in front of the collector. Events take a straight way past the router; everything else is ordinary Starlette."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kedge.arriving import receive_body
from kedge.body import encoding_of, json_of, shown, unpacked
from kedge.collector import events
from kedge.collector.admission import Admission, Work
from kedge.collector.bulk import Bulk
from kedge.collector.collector import Collector, now_microseconds
from kedge.collector.entries import Taken
from kedge.collector.intake import MAX_NAMED, Faults
from kedge.collector.labels import from_json
from kedge.collector.openapi import document
from kedge.collector.payloads import Accepted, Readiness
from kedge.collector.rejection import REJECTIONS, STATUS, Reason, Refusal, RefusedEvent, Rejection, RequestRejected
from kedge.collector.settings import Settings
from kedge.errors import KedgeError, StoreError

HEADS: dict[int, Reason] = {400: "malformed", 408: "too-slow", 431: "too-large", 503: "busy"}
"""Why a request's head was refused, by the answer's status."""
FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}
RETRY_AFTER = "2"


class App:
    """The ASGI application."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._settings = settings
        self._admission = Admission(settings, collector.declared, collector.metrics.faults)
        self._held = 0
        """Bytes of bodies that are still arriving."""
        self._bulk = Bulk(collector, settings)
        self._served = self._routes()
        self.fault: KedgeError | None = None
        """Why it did not start."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        await (self._live(receive, send) if scope["type"] == "lifespan" else self._served(scope, receive, send))

    def attempt(
        self, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: Callable[[Response | None], None]
    ) -> bool:
        """Take an event, or a batch, that came whole; False if it has to go the ordinary way.

        Args:
            answer: Called once, with None when all of it is durable, else with what to say.
        """
        try:
            fields = dict(headers)
            if b"content-encoding" in fields or len(body) > self._settings.max_body_bytes:
                return False
            if not self._admission.at_once(fields, "events"):
                return False
            taken, faults = self._taken(fields, body)
            if not taken:
                answer(self._outcome(taken, faults))
                return True
            kept = self._collector.submit(taken, len(body))
        except REJECTIONS as exc:
            answer(self._rejection(exc))
        except Exception:  # noqa: BLE001  (the ordinary way logs it and answers)
            return False
        else:
            kept.add_done_callback(lambda done: answer(self._outcome(taken, faults, done.exception())))
        return True

    def _outcome(self, taken: Sequence[Taken], faults: Faults, fault: BaseException | None = None) -> Response | None:
        if fault is None:
            return self._partial(taken, faults) if faults else None
        if isinstance(fault, OSError):
            return self._rejection(self._collector.not_kept(fault))
        logging.error("events were not taken", exc_info=fault)
        return _json(Refusal("an unexpected fault; see the collector's own log"), 500)

    def refused_connection(self, status: int) -> None:
        """Count a connection that brought no whole request head."""
        self._collector.metrics.refuse(HEADS[status])

    async def _events(self, request: Request) -> Response:
        headers = await self._admitted(request, "events")
        body = await self._body(headers, request.receive)
        taken, faults = self._taken(headers, body)
        await self._collector.keep(taken, len(body))
        return self._partial(taken, faults) if faults else Response(status_code=202)

    def _taken(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Sequence[Taken], Faults]:
        """The good events of a body, and what is wrong with the others, which are refused without them."""
        intake, now = self._collector.intake, now_microseconds()
        match _kind(headers):
            case events.BATCHED:
                return intake.batch(body, now)
            case events.STRUCTURED:
                return (intake.one(body, now) or intake.event(events.structured(json_of(body)), now),), {}
            case _:
                return (intake.event(events.binary(headers, body), now),), {}

    def _partial(self, taken: Sequence[Taken], faults: Faults) -> Response:
        """What is said of a batch of which some events were not taken."""
        for fault in faults.values():
            self._collector.metrics.refuse(fault.reason)
        refused = [RefusedEvent(index, str(exc), exc.reason) for index, exc in sorted(faults.items())[:MAX_NAMED]]
        status = max(STATUS[exc.reason] for exc in faults.values())
        error = f"{len(faults)} {'event was' if len(faults) == 1 else 'events were'} not taken"
        return _json(Refusal(error, accepted=sum(one.count for one in taken), refused=refused), status)

    async def _labels(self, request: Request) -> Response:
        headers = await self._admitted(request, "labels")
        kind, name = _kind(headers) or events.JSON, request.query_params.get("model")
        known = _flag(request.query_params.get("require_known", ""))
        if kind == events.JSON:
            body = await self._body(headers, request.receive)
            count = await self._bulk.keep(*from_json(body, name), require_known=known)
        else:
            count = await self._bulk.keep_file(kind, headers, name, request.receive, require_known=known)
        return _json(Accepted(count), 202)

    async def _check(self, request: Request) -> Response:
        headers = await self._admitted(request, "checks")
        if (kind := _kind(headers) or events.JSON) != events.JSON:
            raise RequestRejected(
                "media-type", f"a check cannot be {shown(kind.decode('latin-1'))}; send application/json"
            )
        body = await self._body(headers, request.receive)
        try:
            await asyncio.to_thread(self._collector.checks.take, body)
        except OSError as exc:
            raise self._collector.not_kept(exc) from exc
        return Response(status_code=202)

    async def _flush(self, request: Request) -> Response:
        await self._admitted(request, "flush")
        try:
            return _json(await self._collector.flush())
        except KedgeError as exc:
            raise RequestRejected(
                "busy", f"what was acknowledged is safe in the spool, the log cannot be written: {exc}"
            ) from exc

    async def _ready(self, request: Request) -> Response:  # noqa: ARG002
        ready = self._collector.ready()
        return _json(Readiness(ready, self._collector.faults()), 200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:  # noqa: ARG002
        content, kind = self._collector.metrics.page()
        return Response(content, media_type=kind)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, unpacked, if it is small and soon enough."""
        most, encoding = self._settings.max_body_bytes, encoding_of(headers.get(b"content-encoding", b""))
        parts: list[bytes] = []

        def hold(part: bytes) -> None:
            parts.append(part)
            self._held += len(part)
            if self._held > self._settings.max_waiting_bytes:
                raise RequestRejected("busy", "too many large bodies at once; send again later")

        try:
            await receive_body(receive, headers, hold, max_bytes=most, seconds=self._settings.body_seconds)
        finally:
            self._held -= sum(map(len, parts))
        return unpacked(b"".join(parts), encoding, most)

    async def _admitted(self, request: Request, work: Work) -> dict[bytes, bytes]:
        """The headers of a request that may be made."""
        headers = dict(request.scope["headers"])
        await self._admission.admit(headers, work)
        return headers

    def _rejection(self, exc: Rejection) -> Response:
        self._collector.metrics.refuse(exc.reason)
        answer = _json(Refusal(str(exc), exc.reason), STATUS[exc.reason])
        if exc.reason == "busy":
            answer.headers["retry-after"] = RETRY_AFTER
        if exc.reason == "unauthorized":
            answer.headers["www-authenticate"] = "Bearer"
        if exc.reason in ("too-large", "too-slow"):
            answer.headers["connection"] = "close"  # the rest of the body is not read
        return answer

    def _routes(self) -> ASGIApp:
        app = Starlette(
            routes=[
                Route("/", self._events, methods=["POST"]),
                Route("/v1/labels", self._labels, methods=["POST"]),
                Route("/v1/checks", self._check, methods=["POST"]),
                Route("/v1/flush", self._flush, methods=["POST"]),
                Route("/healthz", _healthy),
                Route("/readyz", self._ready),
                Route("/metrics", self._metrics),
                Route("/openapi.json", _openapi),
            ],
            exception_handlers={HTTPException: self._astray, **dict.fromkeys(REJECTIONS, self._refused)},
        )
        app.router.redirect_slashes = False
        return app

    async def _astray(self, request: Request, exc: Exception) -> Response:
        """What the router refuses: an address or a method that is not served."""
        assert isinstance(exc, HTTPException)
        allowed, address = (exc.headers or {}).get("Allow", ""), shown(request.url.path)
        if exc.status_code == 405:
            fault = RequestRejected("method", f"{shown(request.method)} is not served at {address}; {allowed} is")
        else:
            fault = RequestRejected("not-found", f"nothing is served at {address}; see /openapi.json")
        answer = self._rejection(fault)
        if allowed:
            answer.headers["allow"] = allowed
        return answer

    async def _refused(self, request: Request, exc: Exception) -> Response:  # noqa: ARG002
        assert isinstance(exc, REJECTIONS)
        return self._rejection(exc)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and stop the collector; Starlette would print the traceback of a start that failed."""
        await receive()
        try:
            await self._collector.start()
        except (KedgeError, OSError) as exc:
            spool = self._settings.spool
            self.fault = exc if isinstance(exc, KedgeError) else StoreError(f"spool {spool}: cannot be used: {exc}")
            await send({"type": "lifespan.startup.failed"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._collector.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _kind(headers: Mapping[bytes, bytes]) -> bytes:
    return events.media_type(headers.get(b"content-type", b""))


async def _healthy(request: Request) -> Response:  # noqa: ARG001
    return PlainTextResponse("ok\n")


async def _openapi(request: Request) -> Response:  # noqa: ARG001
    return Response(document(), media_type="application/json")


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _flag(value: str) -> bool:
    if value not in FLAGS:
        raise RequestRejected("invalid", f"require_known must be true or false, got {shown(value)}")
    return FLAGS[value]
