"""The path of a prediction: the ASGI application in front of KServe's own.

KServe's server answers probes, metadata and metrics; a prediction takes the short way here, where a request at fault
is refused with the one sentence that names the fault and everything is bounded: bytes, time, what a log holds.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from kedge.arriving import SenderGone, receive_body
from kedge.body import UnreadableBody, encoding_of, unpacked
from kedge.serving import v1, v2
from kedge.serving.events import Prediction
from kedge.serving.identity import checked_id, new_id
from kedge.serving.model import Scored
from kedge.serving.rejection import RequestRejected
from kedge.serving.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = dict[bytes, bytes]

MAX_BYTES = 4 * 2**20
BODY_SECONDS = 10.0
WANTED = frozenset({
    b"content-type", b"content-length", b"ce-id", b"ce-time", b"expect", b"inference-header-content-length",
    b"content-encoding", b"x-kedge-smoke",
})  # fmt: skip
STATUS = {"media-type": 415, "too-large": 413, "too-slow": 408, "malformed": 400}
JSON, OCTETS = b"application/json", b"application/octet-stream"
READABLE = frozenset({JSON, OCTETS, b""})


class Answer(NamedTuple):
    """What goes out, and what of it counts as a prediction."""

    body: bytes
    request_id: str
    time: datetime | None = None
    scored: Scored | None = None
    json_length: int | None = None


Verb = Callable[[Headers, bytes], Answer]


class Front:
    """Answers predictions and explanations of one model; hands GETs that KServe knows to its application.

    Args:
        inner: KServe's application.
        service: What is served.
    """

    def __init__(self, inner: App, service: Service) -> None:
        self._inner = inner
        self._service = service
        model = self._model = service.model
        self._signed = [(b"x-kedge-version", model.version.encode()), (b"x-kedge-slot", model.slot.encode())]
        name = model.name
        self._verbs: dict[str, tuple[str, Verb]] = {
            f"/v1/models/{name}:predict": ("v1", self._predict_v1),
            f"/v1/models/{name}:explain": ("explain", self._explain),
            f"/v2/models/{name}/infer": ("v2", self._predict_v2),
            f"/v2/models/{name}/versions/{model.version}/infer": ("v2", self._predict_v2),
        }
        self._gets = {
            "/", "/metrics", "/v1/models", f"/v1/models/{name}", "/v2", "/v2/health/live", "/v2/health/ready",
            f"/v2/models/{name}", f"/v2/models/{name}/ready",
        }  # fmt: skip
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        found = self._verbs.get(scope["path"])
        if found is None or scope["method"] != "POST":
            await self._other(scope, receive, send)
            return
        began = time.perf_counter()
        protocol, verb = found
        headers = {name: value for name, value in scope["headers"] if name in WANTED}
        try:
            body = await self._body(headers, receive)
            if body is None:
                return  # the client went away
            read = time.perf_counter()
            answer = await self._service.worked(len(body), verb, headers, body)
        except RequestRejected as rejection:
            await self._refuse(send, protocol, rejection, _harmless_id(headers))
            return
        await self._send(send, 200, answer)
        if answer.scored is None or answer.time is None:
            self._service.metrics.requests[protocol, 200] += 1
            return
        latency = 1000 * (time.perf_counter() - began)
        prediction = Prediction(answer.request_id, answer.time, answer.scored, latency, len(body))
        self._service.answered(protocol, prediction, read - began, smoke=b"x-kedge-smoke" in headers)

    def _predict_v1(self, headers: Headers, body: bytes) -> Answer:
        _refuse_octets(headers)
        request_id, when = self._identity(headers, None)
        scored = self._model.score(v1.read(body, self._model.signature.names))
        return Answer(v1.write(scored, self._model.classes), request_id, when, scored)

    def _predict_v2(self, headers: Headers, body: bytes) -> Answer:
        request = v2.read(body, _json_length(headers), self._model.signature.names)
        request_id, when = self._identity(headers, request.id)
        scored = self._model.score(request.rows)
        raw, json_length = v2.write(request, scored, self._model, request_id)
        return Answer(raw, request_id, when, scored, json_length)

    def _explain(self, headers: Headers, body: bytes) -> Answer:
        _refuse_octets(headers)
        request_id, _ = self._identity(headers, None)
        explanations = self._model.explain(v1.read(body, self._model.signature.names))
        derived = {"derived": self._model.derived} if self._model.derived else {}
        return Answer(orjson.dumps({"explanations": explanations} | derived), request_id)

    def _identity(self, headers: Headers, body_id: object) -> tuple[str, datetime]:
        return self._service.identify(_text(headers.get(b"ce-id")), body_id, _text(headers.get(b"ce-time")))

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind not in READABLE:
            raise RequestRejected(
                415, "content-type: must be application/json, or application/octet-stream with v2 tensors"
            )
        try:
            encoding = encoding_of(headers.get(b"content-encoding", b""))
            parts: list[bytes] = []
            await receive_body(receive, headers, parts.append, max_bytes=MAX_BYTES, seconds=BODY_SECONDS)
            return unpacked(b"".join(parts), encoding, MAX_BYTES)
        except SenderGone:
            return None
        except UnreadableBody as exc:
            raise RequestRejected(STATUS[exc.reason], str(exc)) from None

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything but a prediction. KServe's repository verbs stay shut: anyone could unload the model."""
        path, method = scope["path"], scope["method"]
        if path in self._gets and method == "GET":
            if self.draining and path.endswith("/ready"):
                await self._refuse(send, "health", RequestRejected(503, "shutting down"), None)
            else:
                await self._inner(scope, receive, send)
        elif path in self._gets or path in self._verbs:
            allowed = "GET" if path in self._gets else "POST"
            await self._refuse(
                send, "other", RequestRejected(405, f"{method[:20]} is not allowed here; use {allowed}"), None
            )
        else:
            known = f"this server has the model {self._model.name!r}"
            await self._refuse(send, "other", RequestRejected(404, f"nothing at {path[:100]!r}; {known}"), None)

    async def _refuse(self, send: Send, protocol: str, rejection: RequestRejected, request_id: str | None) -> None:
        self._service.refused(protocol, rejection)
        answer = Answer(orjson.dumps({"error": rejection.message}), request_id or new_id())
        await self._send(send, rejection.status, answer, close=rejection.status in (408, 413))

    async def _send(self, send: Send, status: int, answer: Answer, close: bool = False) -> None:
        headers = [
            (b"content-type", JSON if answer.json_length is None else OCTETS),
            (b"content-length", b"%d" % len(answer.body)),
            (b"x-request-id", answer.request_id.encode()),
            *self._signed,
        ]
        if answer.json_length is not None:
            headers.append((b"inference-header-content-length", b"%d" % answer.json_length))
        if close or self.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _refuse_octets(headers: Headers) -> None:
    if headers.get(b"content-type", b"").startswith(OCTETS):
        raise RequestRejected(415, "content-type: must be application/json here; binary tensors go to v2")


def _json_length(headers: Headers) -> int | None:
    given = headers.get(b"inference-header-content-length")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 9:
        raise RequestRejected(400, "inference-header-content-length: must be a number of bytes")
    return int(given)


def _harmless_id(headers: Headers) -> str | None:
    """The client's id for an answer that refuses it, unless the id is the fault."""
    try:
        return checked_id(headers.get(b"ce-id", b"").decode("latin-1"), "ce-id")
    except RequestRejected:
        return None
