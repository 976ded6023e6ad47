"""HTTP in front of the collector. Events take a straight way past the router; everything else is ordinary Starlette."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kedge.body import UnreadableBody, encoding_of, shown
from kedge.collector import events
from kedge.collector.admission import Admission, Work
from kedge.collector.bulk import Bulk
from kedge.collector.collector import Collector, now_microseconds
from kedge.collector.entries import Taken
from kedge.collector.labels import from_json
from kedge.collector.openapi import document
from kedge.collector.payloads import MAX_BATCH, Accepted, Readiness
from kedge.collector.reading import json_of, plain
from kedge.collector.rejection import Reason, Refusal, RefusedEvent, RequestRejected
from kedge.collector.settings import Settings
from kedge.errors import KedgeError

STATUS: dict[Reason, int] = {
    "malformed": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "method": 405,
    "too-slow": 408,
    "too-large": 413,
    "media-type": 415,
    "unknown-model": 422,
    "unknown-type": 422,
    "invalid": 422,
    "clock": 422,
    "busy": 503,
}
HEADS: dict[int, Reason] = {400: "malformed", 408: "too-slow", 431: "too-large", 503: "busy"}
"""Why a request's head was refused, by the answer's status."""
RETRY_AFTER = b"2"
MAX_NAMED = 20
"""Faults named in one answer."""
MAX_DISCARDED = 64 << 20
"""Bytes read and dropped before a refusal, which a sender that still sends would not see."""

ACCEPTED: Any = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]}
EMPTY: Any = {"type": "http.response.body", "body": b""}


class App:
    """The ASGI application."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._settings = settings
        self._admission = Admission(settings, collector.declared)
        self._reading = 0
        self._bulk = Bulk(collector, settings)
        self._rest = self._routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "http" and scope["path"] == "/" and scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    def attempt(
        self, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: Callable[[Response | None], None]
    ) -> bool:
        """Take a single event that came whole; False if it has to go the ordinary way.

        Args:
            answer: Called once, with None when the event is durable, else with what to say.
        """
        try:
            fields = dict(headers)
            packed = b"content-encoding" in fields
            if packed or _kind(fields) == events.BATCHED or len(body) > self._settings.max_body_bytes:
                return False
            if not self._admission.at_once(fields, "events"):
                return False
            kept = self._collector.submit((self._event(fields, body),), len(body))
        except RequestRejected as exc:
            answer(self._rejection(exc))
        except Exception:  # noqa: BLE001  (the ordinary way logs it and answers)
            return False
        else:
            kept.add_done_callback(lambda done: answer(self._outcome(done.exception())))
        return True

    def _outcome(self, fault: BaseException | None) -> Response | None:
        if fault is None:
            return None
        if isinstance(fault, OSError):
            return self._rejection(self._collector.not_kept(fault))
        logging.error("an event was not taken", exc_info=fault)
        return _json(Refusal("an unexpected fault; see the collector's own log"), 500)

    def refused_connection(self, status: int) -> None:
        """Count a connection that brought no whole request head."""
        self._collector.metrics.refuse(HEADS[status])

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = dict(scope["headers"])
            await self._admission.admit(headers, "events")
            body = await self._body(headers, receive)
            if _kind(headers) == events.BATCHED:
                answer = await self._batch(body)
                await answer(scope, receive, send)
                return
            await self._collector.keep((self._event(headers, body),), len(body))
        except RequestRejected as exc:
            await self._rejection(exc)(scope, receive, send)
        else:
            await send(ACCEPTED)
            await send(EMPTY)

    def _event(self, headers: Mapping[bytes, bytes], body: bytes) -> Taken:
        intake, now = self._collector.intake, now_microseconds()
        if _kind(headers) != events.STRUCTURED:
            return intake.event(events.binary(headers, body), now)
        return intake.one(body, now) or intake.event(events.structured(json_of(body)), now)

    async def _batch(self, body: bytes) -> Response:
        """Keep the good events of a batch and name the bad ones: one sender's fault is not another prediction's."""
        now = now_microseconds()
        faults: dict[int, RequestRejected] = {}
        taken = self._collector.intake.batch(body, now)
        if taken is None:
            taken, faults = self._sorted(body, now)
        await self._collector.keep(taken, len(body))
        for fault in faults.values():
            self._collector.metrics.refuse(fault.reason)
        return _partial(sum(one.count for one in taken), faults) if faults else Response(status_code=202)

    def _sorted(self, body: bytes, now: int) -> tuple[list[Taken], dict[int, RequestRejected]]:
        """The events of a batch one by one: what is good, and what is not by its place."""
        values = json_of(body)
        if type(values) is not list:
            raise RequestRejected("malformed", f"a CloudEvents batch is a JSON array, got {shown(values)}")
        if len(values) > MAX_BATCH:
            raise RequestRejected("too-large", f"a batch has at most {MAX_BATCH:,} events, got {len(values):,}")
        taken: list[Taken] = []
        faults: dict[int, RequestRejected] = {}
        take = self._collector.intake.event
        for index, value in enumerate(values):
            try:
                taken.append(take(events.structured(value), now))
            except RequestRejected as exc:
                faults[index] = exc
        return taken, faults

    async def _labels(self, request: Request) -> Response:
        headers = dict(request.scope["headers"])
        kind = events.media_type(headers.get(b"content-type", events.JSON))
        name = request.query_params.get("model")
        require_known = _flag(request.query_params.get("require_known"))
        if kind != events.JSON:
            encoding = _encoding(headers)
            count = await self._bulk.keep(kind, encoding, name, request.stream(), require_known=require_known)
            return _json(Accepted(count), 202)
        name, items = from_json(await self._body(headers, request.receive), name)
        self._collector.intake.model(name)
        now = now_microseconds()
        intake = self._collector.intake
        taken: list[Taken] = []
        faults: dict[int, RequestRejected] = {}
        for index, item in enumerate(items):
            try:
                taken.append(intake.label(name, item, now))
            except RequestRejected as exc:
                faults[index] = exc
        if faults:
            raise _together(faults, "labels")
        if require_known:
            await self._bulk.refuse_unknown(name, [item["id"] for item in items])
        await self._collector.keep(taken, 200 * len(taken))
        return _json(Accepted(len(taken)), 202)

    async def _check(self, request: Request) -> Response:
        headers = dict(request.scope["headers"])
        kind = events.media_type(headers.get(b"content-type", events.JSON))
        if kind != events.JSON:
            raise RequestRejected(
                "media-type", f"a check cannot be {shown(kind.decode('latin-1'))}; send application/json"
            )
        body = await self._body(headers, request.receive)
        try:
            await asyncio.to_thread(self._collector.checks.take, body)
        except OSError as exc:
            raise RequestRejected("busy", f"the spool cannot be written: {exc.strerror}; send again later") from exc
        return Response(status_code=202)

    async def _flush(self, request: Request) -> Response:  # noqa: ARG002
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
        most, encoding = self._settings.max_body_bytes, _encoding(headers)
        return plain(await self._received_body(headers, receive, most), encoding, most)

    async def _received_body(self, headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
        declared = int(headers.get(b"content-length", b"0"))
        if declared > MAX_DISCARDED or (declared > most and b"expect" in headers):
            raise _too_large(most)
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            return await self._rest_of_body(body, receive, most)
        if len(body) > most:
            raise _too_large(most)
        return body

    async def _rest_of_body(self, first: bytes, receive: Receive, most: int) -> bytes:
        parts = [first]
        length = held = len(first)
        self._reading += held
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestRejected("malformed", "the sender went away within the body")
                    parts.append(message.get("body", b""))
                    length += len(parts[-1])
                    if length > most:
                        parts.clear()
                    if length > MAX_DISCARDED or (length > most and not message.get("more_body")):
                        raise _too_large(most)
                    now_held = length if length <= most else 0
                    self._reading += now_held - held
                    held = now_held
                    if self._reading > self._settings.max_waiting_bytes:
                        raise RequestRejected("busy", "too many large bodies at once; send again later")
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise RequestRejected("too-slow", f"the body took longer than {self._settings.body_seconds:g} s") from None
        finally:
            self._reading -= held

    def _rejection(self, exc: RequestRejected) -> Response:
        self._collector.metrics.refuse(exc.reason)
        return _rejection(exc)

    def _routes(self) -> ASGIApp:
        app = Starlette(
            routes=[
                Route("/v1/labels", self._guarded(self._labels, "labels"), methods=["POST"]),
                Route("/v1/checks", self._guarded(self._check, "checks"), methods=["POST"]),
                Route("/v1/flush", self._guarded(self._flush, "flush"), methods=["POST"]),
                Route("/healthz", _healthy),
                Route("/readyz", self._ready),
                Route("/metrics", self._metrics),
                Route("/openapi.json", _openapi),
                Route("/", _only_post, methods=["POST"]),
            ],
            lifespan=self._lifespan,
            exception_handlers={HTTPException: self._astray},
        )
        app.router.redirect_slashes = False
        return app

    async def _astray(self, request: Request, exc: Exception) -> Response:
        """What the router refuses: an address or a method that is not served."""
        assert isinstance(exc, HTTPException)
        allowed = (exc.headers or {}).get("Allow", "")
        if exc.status_code == 405:
            fault = RequestRejected(
                "method", f"{shown(request.method)} is not served at {shown(request.url.path)}; {allowed} is"
            )
        else:
            fault = RequestRejected("not-found", f"nothing is served at {shown(request.url.path)}; see /openapi.json")
        answer = self._rejection(fault)
        if allowed:
            answer.headers["allow"] = allowed
        return answer

    def _guarded(self, endpoint: Callable[[Request], Any], work: Work) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            try:
                await self._admission.admit(dict(request.scope["headers"]), work)
                answer: Response = await endpoint(request)
            except RequestRejected as exc:
                return self._rejection(exc)
            return answer

        return guarded

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        await self._collector.start()
        try:
            yield
        finally:
            await self._collector.stop()


def _encoding(headers: Mapping[bytes, bytes]) -> str:
    try:
        return encoding_of(headers.get(b"content-encoding", b""))
    except UnreadableBody as exc:
        raise RequestRejected(exc.reason, str(exc)) from None


def _kind(headers: Mapping[bytes, bytes]) -> bytes:
    return events.media_type(headers.get(b"content-type", b""))


async def _healthy(request: Request) -> Response:  # noqa: ARG001
    return PlainTextResponse("ok\n")


async def _openapi(request: Request) -> Response:  # noqa: ARG001
    return Response(document(), media_type="application/json")


async def _only_post(request: Request) -> Response:  # noqa: ARG001
    """Never reached: POST / is served before the router, whose 405 names the method."""
    return Response(status_code=405)


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _too_large(most: int) -> RequestRejected:
    return RequestRejected("too-large", f"the body has more than {most:,} bytes")


def _rejection(exc: RequestRejected) -> Response:
    answer = _json(Refusal(str(exc), exc.reason), STATUS[exc.reason])
    if exc.reason == "busy":
        answer.headers["retry-after"] = RETRY_AFTER.decode()
    if exc.reason == "unauthorized":
        answer.headers["www-authenticate"] = "Bearer"
    if exc.reason in ("too-large", "too-slow"):
        answer.headers["connection"] = "close"  # the rest of the body is not read
    return answer


def _partial(accepted: int, faults: dict[int, RequestRejected]) -> Response:
    refused = [RefusedEvent(index, str(exc), exc.reason) for index, exc in sorted(faults.items())[:MAX_NAMED]]
    status = max(STATUS[exc.reason] for exc in faults.values())
    error = f"{len(faults)} {'event was' if len(faults) == 1 else 'events were'} not taken"
    return _json(Refusal(error, accepted=accepted, refused=refused), status)


def _together(faults: dict[int, RequestRejected], what: str) -> RequestRejected:
    first = list(faults.items())[:MAX_NAMED]
    named = "; ".join(f"{what}[{index}]: {exc}" for index, exc in first)
    more = f"; and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
    return RequestRejected(first[0][1].reason, f"nothing was taken: {named}{more}")


def _flag(value: str | None) -> bool:
    if value in (None, "false", "0", ""):
        return False
    if value in ("true", "1"):
        return True
    raise RequestRejected("invalid", f"require_known must be true or false, got {shown(value)}")
