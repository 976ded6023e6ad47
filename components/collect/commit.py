"""Group commit: requests that wait at the same time share one sync of the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from components.collect.journal import Journal
from components.collect.refusal import Refused

T = TypeVar("T")


class GroupCommit:
    """Hands lines to the journal's one thread, in groups: while one is synced the next one gathers."""

    def __init__(self, journal: Journal, *, most_bytes: int) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, "journal")
        self._loop = asyncio.get_running_loop()
        self._most_bytes = most_bytes
        self._lines: list[bytes] = []
        self._bytes = 0
        self._gathering: asyncio.Future[None] = self._loop.create_future()
        self._busy = False

    @property
    def waiting_bytes(self) -> int:
        """Bytes that gather for the next group."""
        return self._bytes

    def submit(self, lines: list[bytes], *, patient: bool = True) -> asyncio.Future[None]:
        """Queue lines; the future is done when they are durable and has the OSError when they are not.

        Args:
            patient: The sender can send again. Four times as much may wait of one that cannot.

        Raises:
            Refused: as much is waiting as may wait.
        """
        if self._bytes > self._most_bytes * (1 if patient else 4):
            raise Refused("busy", f"{self._bytes:,} bytes wait for the disk; send again later")
        self._lines.extend(lines)
        self._bytes += sum(map(len, lines))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._start)  # not at once: what arrived in the same moment joins the group
        return self._gathering

    async def alone(self, work: Callable[[], T]) -> T:
        """Run something in the journal's thread, between two groups."""
        return await self._loop.run_in_executor(self._thread, work)

    def close(self) -> None:
        """Wait for what is being written and end the thread."""
        self._thread.shutdown(wait=True)

    def _start(self) -> None:
        lines, self._lines, self._bytes = self._lines, [], 0
        group, self._gathering = self._gathering, self._loop.create_future()
        written = self._loop.run_in_executor(self._thread, self._journal.append, lines)
        written.add_done_callback(lambda done: self._finished(group, done))

    def _finished(self, group: asyncio.Future[None], written: asyncio.Future[None]) -> None:
        fault = written.exception()
        if fault is not None:
            group.set_exception(fault)
        else:
            group.set_result(None)
        if self._lines:
            self._start()
        else:
            self._busy = False
