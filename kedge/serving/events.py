"""Tells the collector what was predicted, off the request path.

A request appends to a bounded queue and goes on. One task sends batches of CloudEvents and tries again while the
collector is away or pushes back; what finds the queue full is dropped and counted. A batch whose acknowledgement was
lost is sent again: the collector keeps one event an id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

import orjson

from kedge import collect_token
from kedge.serving.identity import row_id
from kedge.serving.model import Scored, ServedModel

TYPE = "dev.kedge.prediction"
MAX_WAITING = 20_000  # rows; about 1 KB each
MAX_WAITING_BYTES = 64 * 2**20  # of the requests that brought them
BATCH_ROWS, BATCH_BYTES = 500, 2**20  # whichever comes first; the collector takes 4 MiB
SLICE_ROWS = 25  # encoded at a time, a quarter of a millisecond; then requests that wait are answered
GATHER_SECONDS = 0.2
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 10.0
AGAIN = (408, 425, 429)  # and all of the 5xx: sent once more
SEND_SECONDS = 10.0
SAID_SECONDS = 60.0  # between two lines of the log about events that are dropped

log = logging.getLogger("kserve")


class Prediction(NamedTuple):
    """An answered request."""

    request_id: str
    time: datetime
    scored: Scored
    latency_ms: float
    size: int
    """Bytes of the request, which are about what it holds while it waits."""


class Outbox:
    """The bounded queue and the task that empties it. Without an address nothing is kept.

    Args:
        model: Whose predictions these are.
        address: Of the collector, such as ``http://127.0.0.1:8090``, or None.
        max_waiting: Rows kept at most.
    """

    def __init__(self, model: ServedModel, address: str | None, *, max_waiting: int = MAX_WAITING) -> None:
        self._model = model
        self._address = address
        self._most = max_waiting
        self._queue: deque[Prediction] = deque()
        self._bytes = 0
        self._say_again = 0.0
        self._told = 0  # rows of the first prediction that the collector has
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.waiting = 0
        self.sent = 0
        self.dropped = 0

    def add(self, prediction: Prediction) -> None:
        """Remember a prediction to send, or count it as dropped. Never waits."""
        if self._address is None:
            return
        rows = len(prediction.scored.rows)
        if self.waiting >= self._most or self._bytes >= MAX_WAITING_BYTES:  # one request, bounded itself, may exceed
            self.dropped += rows
            self._say_dropped()
            return
        self.waiting += rows
        self._bytes += prediction.size
        self._queue.append(prediction)

    def _say_dropped(self) -> None:
        now = time.monotonic()
        if now >= self._say_again:
            self._say_again = now + SAID_SECONDS
            log.warning(
                "prediction events are dropped, %d so far: %d rows wait for %s, which is away or too slow",
                self.dropped,
                self.waiting,
                self._address,
            )

    def start(self) -> None:
        """Begin to send, on the running loop."""
        if self._address is not None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, seconds: float) -> None:
        """Send what waits, for at most so long; the rest is dropped and counted."""
        self._closing.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()
        if self.waiting:
            log.warning("%d prediction events were not sent: the collector did not take them", self.waiting)
        self.dropped += self.waiting
        self._forget(self.waiting)

    async def _run(self) -> None:
        import httpx

        headers = {"content-type": "application/cloudevents-batch+json"}
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(timeout=SEND_SECONDS, limits=limits, headers=headers, trust_env=False) as client:
            while not (self._closing.is_set() and not self._queue):
                if self.waiting < BATCH_ROWS:
                    await self._pause(GATHER_SECONDS)
                if self._queue:
                    await self._deliver(client, *await self._next_batch())

    async def _next_batch(self) -> tuple[bytes, int]:
        """The events of the rows that wait longest, and how many they are."""
        parts: list[bytes] = []
        rows, size, pause = 0, 0, SLICE_ROWS
        for prediction, some in self._slices():
            parts.append(orjson.dumps(self._events(prediction, some))[1:-1])
            rows, size = rows + len(some), size + len(parts[-1])
            if rows >= BATCH_ROWS or size >= BATCH_BYTES:
                break
            if rows >= pause:
                await asyncio.sleep(0)
                pause = rows + SLICE_ROWS
        return b"[" + b",".join(parts) + b"]", rows

    def _slices(self) -> Iterator[tuple[Prediction, range]]:
        """The rows that wait, a few of a prediction at a time; more predictions may come meanwhile."""
        told = self._told
        for place in count():
            if place == len(self._queue):
                return
            prediction = self._queue[place]
            rows = len(prediction.scored.rows)
            for first in range(told, rows, SLICE_ROWS):
                yield prediction, range(first, min(first + SLICE_ROWS, rows))
            told = 0

    def _forget(self, rows: int) -> None:
        self.waiting -= rows
        self._told += rows
        while self._queue and self._told >= len(self._queue[0].scored.rows):
            prediction = self._queue.popleft()
            self._told -= len(prediction.scored.rows)
            self._bytes -= prediction.size

    async def _deliver(self, client: Any, body: bytes, rows: int) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            answer = await self._post(client, body)
            if answer is not None and answer.status_code < 500 and answer.status_code not in AGAIN:
                break
            await self._pause(max(pause, _asked_pause(answer)))
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
        self._forget(rows)
        taken = rows if answer.status_code < 300 else _accepted(answer, rows)
        self.sent += taken
        self.dropped += rows - taken
        if taken < rows:
            log.error(
                "the collector refused %d prediction events: %d %s", rows - taken, answer.status_code, answer.text
            )

    async def _post(self, client: Any, body: bytes) -> Any:
        """The collector's answer, or None if it gave none."""
        import httpx

        try:
            return await client.post(self._address, content=body, headers=collect_token.shown())
        except (httpx.HTTPError, OSError):  # the file of a token is not there, for the moment
            return None

    async def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            await asyncio.sleep(min(seconds, 0.1))
            return
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _events(self, prediction: Prediction, rows: range) -> list[dict[str, Any]]:
        model, scored = self._model, prediction.scored
        return [
            {
                "specversion": "1.0",
                "id": row_id(prediction.request_id, row, len(scored.rows)),
                "source": f"/{model.name}/{model.slot}",
                "type": TYPE,
                "time": prediction.time,
                "datacontenttype": "application/json",
                "data": {
                    "model": model.name,
                    "version": model.version,
                    "slot": model.slot,
                    "features": scored.rows[row],
                    "score": scored.scores[row],
                    "prediction": scored.predictions[row],
                    "latency_ms": prediction.latency_ms,
                },
            }
            for row in rows
        ]


def _asked_pause(answer: Any) -> float:
    """Seconds the collector asks to wait, at most the longest pause."""
    after = answer.headers.get("retry-after", "") if answer is not None else ""
    return min(float(after), MAX_PAUSE_SECONDS) if after.isdigit() and len(after) < 9 else 0.0


def _accepted(answer: Any, rows: int) -> int:
    """How many events of a refused batch the collector took all the same."""
    try:
        accepted = orjson.loads(answer.content)["accepted"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return 0
    return min(rows, accepted) if type(accepted) is int and accepted > 0 else 0
