"""Group commit: what is sent at the same time is turned into columns together and shares one sync of the disk."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kedge.collector.entries import Taken
from kedge.collector.metrics import Metrics
from kedge.collector.rejection import busy
from kedge.tables.appending import Table

COMPANY_SECONDS = 0.003
"""A group waits so long for more: a sync and two changes of thread cost as much for one event as for a hundred."""

T = TypeVar("T")


class GroupCommit:
    """Hands groups to the journal's one thread: while one is synced the next one gathers."""

    def __init__(self, write: Callable[[Sequence[Taken]], None], metrics: Metrics, *, max_bytes: int) -> None:
        """Prepare.

        Args:
            write: Makes a group durable, or raises OSError.
            max_bytes: What may wait for the disk, as it was sent.
        """
        self._write = write
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, "journal")
        self._loop = asyncio.get_running_loop()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._gathering: list[Taken] = []
        self._next: asyncio.Future[None] = self._loop.create_future()
        self._busy = False

    def submit(self, taken: Sequence[Taken], size: int) -> asyncio.Future[None]:
        """Queue; the future is done when the group is durable and has the OSError when it is not.

        Four times as much may wait of a sender that cannot send again.

        Raises:
            RequestRejected: as much is waiting as may wait.
        """
        if self._bytes > self._max_bytes and (taken[0].patient or self._bytes > 4 * self._max_bytes):
            raise busy(f"{self._bytes:,} bytes wait for the disk; send again later")
        self._bytes += size
        self._gathering.extend(taken)
        if not self._busy:
            self._busy = True
            self._loop.call_later(COMPANY_SECONDS, self._start)
        return self._next

    async def alone(self, work: Callable[[], T]) -> T:
        """Run something in the journal's thread, between two groups."""
        return await self._loop.run_in_executor(self._thread, work)

    def close(self) -> None:
        """Wait for what is being written and end the thread."""
        self._thread.shutdown(wait=True)

    def _start(self) -> None:
        group, self._gathering, self._bytes = self._gathering, [], 0
        future, self._next = self._next, self._loop.create_future()
        began = time.perf_counter()
        written = self._loop.run_in_executor(self._thread, self._write, group)
        written.add_done_callback(lambda done: self._finished(future, group, began, done.exception()))

    def _finished(
        self, future: asyncio.Future[None], group: list[Taken], began: float, fault: BaseException | None
    ) -> None:
        if fault is not None:
            future.set_exception(fault)
        else:
            _count(group, self._metrics)
            self._metrics.commit_seconds.observe(time.perf_counter() - began)
            future.set_result(None)
        if self._gathering:
            self._loop.call_later(COMPANY_SECONDS, self._start)
        else:
            self._busy = False


def _count(group: Sequence[Taken], metrics: Metrics) -> None:
    """Count what is durable."""
    counts: Tally[tuple[str, Table, bool]] = Tally()
    for one in group:
        counts[one.model, one.table, one.other] += one.count - one.left_out
        if one.left_out:
            metrics.sampled_out.labels(one.model).inc(one.left_out)
    for (model, table, other), count in counts.items():
        (metrics.other if other else metrics.accepted).labels(model, table.removesuffix("s")).inc(count)
