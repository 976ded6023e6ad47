"""What becomes of a request once its protocol has read it: an id, an answer or a fault, and a place in the counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from kedge.serving.events import Outbox, Prediction
from kedge.serving.identity import identify, new_id
from kedge.serving.metrics import Metrics
from kedge.serving.model import ServedModel
from kedge.serving.rejection import RequestRejected

INLINE_BYTES = 16 * 1024  # a longer request is worth a thread, so that short ones do not wait for it
Result = TypeVar("Result")

log = logging.getLogger("kserve")


@dataclass(frozen=True)
class Service:
    """One served model, as HTTP and gRPC both use it."""

    model: ServedModel
    metrics: Metrics
    """Counts every answer."""
    outbox: Outbox
    """Gets every prediction."""
    executor: Executor
    """Runs long requests."""
    trust_event_time: bool = False
    """Take a prediction's time from ``ce-time``."""

    def identify(self, header_id: str | None, body_id: object, header_time: str | None) -> tuple[str, datetime]:
        """The id and the time of a request.

        Raises:
            RequestRejected: what was given cannot be one.
        """
        return identify(header_id, body_id, header_time if self.trust_event_time else None)

    async def worked(self, size: int, work: Callable[..., Result], *arguments: object) -> Result:
        """What ``work`` returns for a request of so many bytes: from a thread, unless it takes microseconds.

        Raises:
            RequestRejected: the request is at fault; 500 for whatever the model may raise, with the trace in the log.
        """
        try:
            if size <= INLINE_BYTES and self.model.quick:
                return work(*arguments)
            return await asyncio.get_running_loop().run_in_executor(self.executor, work, *arguments)
        except RequestRejected:
            raise
        except Exception:
            request_id = new_id()
            log.exception("request %s failed", request_id)
            raise RequestRejected(500, f"the model failed; see the log for {request_id}") from None

    def answered(self, protocol: str, prediction: Prediction, read_seconds: float, *, smoke: bool) -> None:
        """Count a prediction and tell the collector, but for a smoke test: it asks for rows of the past."""
        self.metrics.answered(protocol, prediction.scored, read_seconds, prediction.latency_ms / 1000)
        if not smoke:
            self.outbox.add(prediction)

    def refused(self, protocol: str, rejection: RequestRejected) -> None:
        """Count a request at fault."""
        self.metrics.requests[protocol, rejection.status] += 1
