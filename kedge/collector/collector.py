"""The collector without its HTTP: takes, makes durable, appends in the background, says how it is."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from kedge.body import shown
from kedge.collector import earlier
from kedge.collector.appender import Appender
from kedge.collector.checks import Checks
from kedge.collector.commit import GroupCommit
from kedge.collector.declared import Declared
from kedge.collector.entries import Taken, frames
from kedge.collector.intake import MAX_NAMED, Intake
from kedge.collector.metrics import Metrics
from kedge.collector.payloads import Flushed
from kedge.collector.rejection import RequestRejected, busy, invalid
from kedge.collector.settings import Settings
from kedge.collector.upkeep import Upkeep
from kedge.errors import KedgeError, StoreError, UsageError, cause
from kedge.policy import Policy
from kedge.records.exposition import ModelStates
from kedge.store import Store
from kedge.store.identity import KnownStore
from kedge.store.journal import Journal
from kedge.tables import appending

TICK_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 20.0
RECEIVED = "bulk-"
"""Folders of files that are being received; one that a killed process left holds nothing acknowledged."""

T = TypeVar("T")


class Collector:
    """One spool, one store, the models declared."""

    def __init__(self, store: Store, policies: Iterable[Policy], settings: Settings) -> None:
        """Check what was declared; nothing is opened yet.

        Raises:
            UsageError: no model, one twice, or a hashed feature without a key.
        """
        self._store = store
        self._settings = settings
        self.declared = _declared(policies, settings.hash_key)
        self.metrics = Metrics()
        self.intake = Intake(self.declared, settings)
        self.checks = Checks(settings.spool / "checks", self.declared, self.metrics)
        self._model_states = ModelStates(store, self.declared, self.metrics)
        self._background = ThreadPoolExecutor(1, "append")
        self._pressed = ""
        self._spool_fault = ""
        self._away_since = ""
        self._lock_handle: int | None = None

    async def start(self) -> None:
        """Open the spool, take up what an earlier process left in it, begin to append."""
        settings = self._settings
        self._lock(settings)
        for left in settings.spool.glob(f"{RECEIVED}*"):
            shutil.rmtree(left, ignore_errors=True)
        earlier.upgrade(settings.spool, self.declared, self.metrics)
        self._journal = Journal(settings.spool / "journal", segment_bytes=settings.segment_bytes)
        self._journal.adopt(settings.spool / "aside")  # set aside under other policies
        self._commit = GroupCommit(self._write, self.metrics, max_bytes=settings.max_waiting_bytes)
        known = KnownStore(self._store, settings.spool / "store")
        self._appender = Appender(
            self._store, self.declared, self._journal, self.metrics, spool=settings.spool, verify=known.verify
        )
        self._upkeep = Upkeep(self._store, self.declared, settings, self.metrics)
        self._appending = asyncio.Lock()
        self.checks.load()
        self._ends = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        """Append once more if the store lets it, and close; what is left is in the spool."""
        self._ends.set()
        await asyncio.gather(*self._tasks)
        with suppress(KedgeError):
            await self.flush()
        self._commit.close()
        self._background.shutdown(wait=True)
        if self._lock_handle is not None:
            os.close(self._lock_handle)

    def ready(self) -> bool:
        """Whether it can acknowledge anything."""
        return not self._spool_fault

    def faults(self) -> dict[str, str]:
        """What is wrong, in words, by place; it may be ready all the same."""
        faults = {**self.metrics.faults, "spool": self._spool_fault or self._pressed}
        return {place: text for place, text in faults.items() if text}

    async def keep(self, taken: Sequence[Taken], size: int) -> None:
        """Return when all of it is durable.

        Args:
            size: Bytes it was sent in.

        Raises:
            RequestRejected: the disk is full, away or too far behind: send again later.
        """
        if not taken:
            return
        try:
            await self.submit(taken, size)
        except OSError as exc:
            raise self.not_kept(exc) from exc

    def submit(self, taken: Sequence[Taken], size: int) -> asyncio.Future[None]:
        """The same without waiting: the future has the OSError if the disk fails, see :meth:`not_kept`."""
        if self._pressed and any(one.patient for one in taken):
            raise busy(self._pressed)
        return self._commit.submit(taken, size)

    def not_kept(self, fault: OSError) -> RequestRejected:
        """Note that the disk failed; what to tell the sender."""
        self._spool_fault = f"spool {self._settings.spool}: cannot be written: {cause(fault, self._settings.spool)}"
        return busy(f"{self._spool_fault}; send again later")

    async def flush(self) -> Flushed:
        """Append everything acknowledged so far.

        Raises:
            StoreError: the store refused, or the spool.
        """
        async with self._appending:
            began = time.monotonic()
            try:
                segments = await self._commit.alone(self._journal.rotate)
                rows = await self._in_background(lambda: self._appender.run(segments))
            except (KedgeError, OSError) as exc:
                spool = self._settings.spool
                fault = f"spool {spool}: {cause(exc, exc.filename or spool)}" if isinstance(exc, OSError) else exc
                self.metrics.store_up.set(0)
                self._away_since = self._away_since or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                self.metrics.faults["store"] = f"away since {self._away_since}: {fault}"
                raise StoreError(str(fault)) from exc
            self._away_since = ""
            self.metrics.faults.pop("store", None)
            self.metrics.store_up.set(1)
            self.metrics.append_seconds.observe(time.monotonic() - began)
            return Flushed(rows)

    async def require_known(self, model: Declared, ids: Sequence[str]) -> None:
        """Raise RequestRejected, naming them, if the log has no prediction of some ids, after a flush."""
        try:
            await self.flush()
            known = await self._in_background(lambda: appending.known_ids(self._store, model.policy, ids))
        except KedgeError as exc:
            raise busy(f"whether the ids are known cannot be told: {exc}") from exc
        unknown = [identity for identity in dict.fromkeys(ids) if identity not in known]
        if unknown:
            named = ", ".join(map(shown, unknown[:MAX_NAMED]))
            raise invalid(f"nothing was taken: model {model.name} has no prediction of {len(unknown)} ids: {named}")

    def _write(self, group: Sequence[Taken]) -> None:
        """Make a group durable. In the journal's thread."""
        self._journal.append(frames(group, self.declared))

    async def _run(self) -> None:
        """Append at the interval, or sooner when segments fill up; more and more rarely while the store is away."""
        interval, failures = self._settings.interval_seconds, 0
        left = self._journal.backlog()[0]  # by an earlier process; it is appended at once
        due = time.monotonic() + (0 if left else interval)
        while not await self._ended():
            if time.monotonic() < due and (failures or not self._journal.full):
                continue
            failures = 0 if await self._attempt() else failures + 1
            due = time.monotonic() + (max(interval, min(MAX_BACKOFF_SECONDS, 2.0**failures)) if failures else interval)

    async def _watch(self) -> None:
        """Look at the spool beside the appending, which may wait long for a store that is away."""
        while not await self._ended():
            try:
                await self._look_around()
            except OSError as exc:
                self._spool_fault = f"spool {self._settings.spool}: cannot be looked at: {exc.strerror}"

    async def _ended(self) -> bool:
        """Whether it is told to end, after a moment."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ends.wait(), TICK_SECONDS)
        return self._ends.is_set()

    async def _attempt(self) -> bool:
        """Append, and do what else is due; whether it succeeded."""
        try:
            await self.flush()
            await self._in_background(self._upkeep.run_if_due)
            await self._in_background(self._model_states.refresh_if_due)
        except KedgeError:
            return False
        except Exception:  # whatever it is, events must go on being appended
            logging.exception("the log was not appended to")
            self.metrics.faults["append"] = "an unexpected fault; see the collector's own log"
            return False
        self.metrics.faults.pop("append", None)
        return True

    async def _look_around(self) -> None:
        """Measure the spool; note when it runs full, try again when it could not be written."""
        size, free, oldest = await asyncio.to_thread(self._measure)
        self.metrics.spool_bytes.set(size)
        self.metrics.spool_free_bytes.set(free)
        self.metrics.oldest_seconds.set(oldest)
        settings = self._settings
        if size > settings.max_spool_bytes:
            self._pressed = f"{size:,} bytes wait for the store, {settings.max_spool_bytes:,} may; send again later"
        elif free < settings.reserve_bytes:
            self._pressed = f"{free:,} bytes are left on the spool's disk; send again later"
        else:
            self._pressed = ""
        if self._spool_fault:
            try:
                await self._commit.alone(self._journal.probe)
            except OSError:
                return
            self._spool_fault = ""

    def _measure(self) -> tuple[int, int, float]:
        disk = os.statvfs(self._settings.spool)
        size, oldest = self._journal.backlog()
        return size, disk.f_bavail * disk.f_frsize, oldest

    async def _in_background(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._background, work)

    def _lock(self, settings: Settings) -> None:
        """One process a spool: a second one would append what the first still holds."""
        try:
            settings.spool.mkdir(parents=True, exist_ok=True)
            self._lock_handle = os.open(settings.spool / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock_handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise UsageError(f"spool {settings.spool}: another collector uses it; give each its own --spool") from exc
        except OSError as exc:
            raise StoreError(f"spool {settings.spool}: cannot be used: {cause(exc, settings.spool)}") from exc


def _declared(policies: Iterable[Policy], hash_key: bytes | None) -> dict[str, Declared]:
    declared: dict[str, Declared] = {}
    for policy in policies:
        if policy.name in declared:
            raise UsageError(f"model {policy.name!r} is declared by two policies; one policy a model")
        declared[policy.name] = Declared(policy, hash_key)
    if not declared:
        raise UsageError("no model is declared; give --policy FILE")
    return declared


def now_microseconds() -> int:
    """This machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1000
