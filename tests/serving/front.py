"""The front driven as an ASGI application, without a network."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import orjson

from kedge import bundle
from kedge.serving.events import Outbox
from kedge.serving.front import Front
from kedge.serving.metrics import Metrics
from kedge.serving.model import ServedModel
from kedge.serving.service import Service

ROW = {"amount": 12.5, "age_days": 7, "ratio": None, "recurring": True, "country": "DE"}
PREDICT = "/v1/models/payments:predict"
INFER = "/v2/models/payments/infer"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Server:
    """A front before an application that answers "inner"; events stay in ``outbox``."""

    def __init__(self, made: bundle.Bundle, **options: Any) -> None:
        self.model = ServedModel(made, made.load_model(), "blue")
        self.outbox = Outbox(self.model, "http://collector")
        self.metrics = Metrics(self.model, self.outbox)
        self.executor = ThreadPoolExecutor(1)
        self.service = Service(self.model, self.metrics, self.outbox, self.executor, **options)
        self.front = Front(_inner, self.service)

    def send(
        self, path: str, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None, method: str = "POST"
    ) -> Answer:
        parts = list(body) if isinstance(body, list) else [body]
        given = {"content-type": "application/json"} | (headers or {})
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            if not parts:
                await asyncio.sleep(3600)
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts) or part == b"..."}

        async def keep(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.front(scope, receive, keep))
        start, content = sent
        assert start["type"] == "http.response.start"
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        assert int(found["content-length"]) == len(content["body"])
        return Answer(start["status"], found, content["body"])

    def post(self, path: str, value: Any, headers: dict[str, str] | None = None) -> Answer:
        return self.send(path, orjson.dumps(value), headers)

    def predict(self, *rows: Any, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.post(PREDICT, {"instances": list(rows)}, named)


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"inner"})
