"""Clients of the served model, and the bank that answers later."""

from __future__ import annotations

import http.client
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from kedge.choice import Score
from kedge.errors import KedgeError


@dataclass(frozen=True)
class Request:
    """One row to be scored: its id, when it happened, its features as JSON values."""

    id: str
    time: datetime
    features: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the gateway gave back: a score and who made it, or None and the status."""

    score: Score | None
    version: str
    status: int


class Connections:
    """Keep-alive connections to one address, each used by one thread at a time."""

    def __init__(self, address: str, *, timeout_seconds: float = 10) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._timeout = timeout_seconds
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """POST once; a connection that the other side closed while idle is opened anew, once."""
        for attempt in (1, 2):
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            try:
                connection.request("POST", path, body, dict(headers))
                response = connection.getresponse()
                answer = response.status, dict(response.headers), response.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                if attempt == 2:
                    raise
                continue
            self._idle.put(connection)
            return answer
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections nobody uses."""
        while not self._idle.empty():
            self._idle.get_nowait().close()


class Clients:
    """A few clients that ask for predictions at the same time."""

    def __init__(self, gateway: str, model: str, *, clients: int = 4) -> None:
        self._connections = Connections(gateway)
        self._path = f"/v1/models/{model}:predict"
        self._pool = ThreadPoolExecutor(clients, thread_name_prefix="client")

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """One request a row, a few at a time, answers in the order asked."""
        return list(self._pool.map(self._ask, requests))

    def _ask(self, request: Request) -> Answer:
        body = orjson.dumps({"instances": [request.features]})
        headers = {
            "content-type": "application/json",
            "ce-id": request.id,
            "ce-time": request.time.isoformat(),
        }
        try:
            status, answered, raw = self._connections.post(self._path, body, headers)
        except (http.client.HTTPException, OSError):
            return Answer(None, "", 0)
        if status != 200:
            return Answer(None, "", status)
        return Answer(orjson.loads(raw)["predictions"][0], answered.get("x-kedge-version", ""), status)

    def close(self) -> None:
        """Wait for the clients that are under way and hang up."""
        self._pool.shutdown()
        self._connections.close()


@dataclass(frozen=True)
class Label:
    """An outcome and when it became known."""

    id: str
    value: int | float | str
    observed_at: datetime


class Bank:
    """Knows every outcome at once and tells it when it is due."""

    def __init__(self, collector: str, model: str) -> None:
        self._connections = Connections(collector, timeout_seconds=30)
        self._model = model
        self._waiting: list[Label] = []
        self._lock = threading.Lock()

    def later(self, label: Label) -> None:
        """Keep an outcome until its time."""
        with self._lock:
            self._waiting.append(label)

    def tell(self, now: datetime) -> int:
        """Post every outcome known by now; their number.

        Raises:
            KedgeError: the collector did not acknowledge them.
        """
        with self._lock:
            due = [label for label in self._waiting if label.observed_at <= now]
            self._waiting = [label for label in self._waiting if label.observed_at > now]
        if due:
            rows = [{"id": x.id, "label": x.value, "observed_at": x.observed_at} for x in due]
            self._post("/v1/labels", orjson.dumps({"model": self._model, "labels": rows}))
        return len(due)

    def flush(self) -> None:
        """Have the collector append everything it acknowledged to the prediction log."""
        self._post("/v1/flush", b"{}")

    def close(self) -> None:
        """Hang up."""
        self._connections.close()

    def _post(self, path: str, body: bytes) -> None:
        try:
            status, _, raw = self._connections.post(path, body, {"content-type": "application/json"})
        except (http.client.HTTPException, OSError) as exc:
            raise KedgeError(f"collector: POST {path} failed: {exc}; see its log in the platform's folder") from exc
        if status not in (200, 202):
            raise KedgeError(f"collector: POST {path} answered {status}: {raw[:500].decode(errors='replace')}")
