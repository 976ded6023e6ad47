"""Tells the collector what was predicted, off the request path.

A request appends to a bounded queue and goes on. One task sends batches of CloudEvents and tries again while the
collector is away or pushes back; what finds the queue full is dropped and counted. A batch whose acknowledgement was
lost is sent again: the collector keeps one event an id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson

from components.serve.identity import row_ids
from components.serve.model import Scored, ServedModel

TYPE = "dev.kedge.prediction"
MOST_WAITING = 20_000  # rows; about 1 KB each
BATCH_ROWS = 500
GATHER_SECONDS = 0.2
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0
AGAIN = (408, 425, 429)  # and all of the 5xx: sent once more
SEND_SECONDS = 10.0

log = logging.getLogger("kserve")


class Prediction(NamedTuple):
    """An answered request."""

    request_id: str
    time: datetime
    scored: Scored
    latency_ms: float


class Outbox:
    """The bounded queue and the task that empties it. Without an address nothing is kept.

    Args:
        model: Whose predictions these are.
        address: Of the collector, such as ``http://127.0.0.1:8090``, or None.
        token: Shown to the collector as a bearer token.
        most_waiting: Rows kept at most.
    """

    def __init__(
        self, model: ServedModel, address: str | None, *, token: str | None = None, most_waiting: int = MOST_WAITING
    ) -> None:
        self._model = model
        self._address = address
        self._token = token
        self._most = most_waiting
        self._queue: deque[Prediction] = deque()
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
        if self.waiting + rows > self._most:
            self.dropped += rows
            return
        self.waiting += rows
        self._queue.append(prediction)

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
        self.waiting = 0
        self._queue.clear()

    async def _run(self) -> None:
        import httpx

        headers = {"content-type": "application/cloudevents-batch+json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(timeout=SEND_SECONDS, limits=limits, headers=headers, trust_env=False) as client:
            while not (self._closing.is_set() and not self._queue):
                if self.waiting < BATCH_ROWS:
                    await self._pause(GATHER_SECONDS)
                batch = self._next_batch()
                if batch:
                    await self._deliver(client, batch)

    def _next_batch(self) -> list[Prediction]:
        rows = 0
        batch = []
        for prediction in islice(self._queue, BATCH_ROWS):
            batch.append(prediction)
            rows += len(prediction.scored.rows)
            if rows >= BATCH_ROWS:
                break
        return batch

    async def _deliver(self, client: Any, batch: list[Prediction]) -> None:
        body = orjson.dumps([event for prediction in batch for event in self._events(prediction)])
        rows = sum(len(prediction.scored.rows) for prediction in batch)
        pause = FIRST_PAUSE_SECONDS
        while True:
            answer = await self._post(client, body)
            if answer is not None and answer.status_code < 500 and answer.status_code not in AGAIN:
                break
            await self._pause(max(pause, _asked_pause(answer)))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        for _ in batch:
            self._queue.popleft()
        self.waiting -= rows
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
            return await client.post(self._address, content=body)
        except httpx.HTTPError:
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

    def _events(self, prediction: Prediction) -> list[dict[str, Any]]:
        model, scored = self._model, prediction.scored
        ids = row_ids(prediction.request_id, len(scored.rows))
        return [
            {
                "specversion": "1.0",
                "id": row_id,
                "source": f"/{model.name}/{model.slot}",
                "type": TYPE,
                "time": prediction.time,
                "datacontenttype": "application/json",
                "data": {
                    "model": model.name,
                    "version": model.version,
                    "slot": model.slot,
                    "features": row,
                    "score": score,
                    "prediction": decided,
                    "latency_ms": prediction.latency_ms,
                },
            }
            for row_id, row, score, decided in zip(ids, scored.rows, scored.scores, scored.predictions, strict=True)
        ]


def _asked_pause(answer: Any) -> float:
    """Seconds the collector asks to wait, at most the longest pause."""
    after = answer.headers.get("retry-after", "") if answer is not None else ""
    return min(float(after), LONGEST_PAUSE_SECONDS) if after.isdigit() and len(after) < 9 else 0.0


def _accepted(answer: Any, rows: int) -> int:
    """How many events of a refused batch the collector took all the same."""
    try:
        accepted = orjson.loads(answer.content)["accepted"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return 0
    return min(rows, accepted) if type(accepted) is int and accepted > 0 else 0
