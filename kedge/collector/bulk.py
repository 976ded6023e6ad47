"""Labels by the file: JSON lines, CSV or Parquet, checked whole before the first is kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect

from kedge.body import UnreadableBody, packing, parts, shown
from kedge.collector import labels
from kedge.collector.collector import RECEIVED, Collector, now_microseconds
from kedge.collector.declared import Declared
from kedge.collector.entries import Taken
from kedge.collector.rejection import RequestRejected
from kedge.collector.settings import Settings
from kedge.errors import KedgeError

CHUNK = 5_000
MAX_NAMED = 20
MAX_RECEIVED = 4
"""Files received at once; they lie in the spool."""
SLOWEST_BYTES = 256 << 10
"""A second, once the time every body has is over."""
LINES = (b"application/x-ndjson", b"application/jsonl")
CSV = b"text/csv"
PARQUET = b"application/vnd.apache.parquet"


class Bulk:
    """Reads a file of labels twice: once to find faults, once to keep it, never whole in memory."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._settings = settings
        self._received = asyncio.Semaphore(MAX_RECEIVED)
        self._one = asyncio.Semaphore(1)  # one file read at a time bounds the memory

    async def keep(
        self, kind: bytes, encoding: str, name: str | None, body: AsyncIterator[bytes], *, require_known: bool
    ) -> int:
        """Make a file's labels durable; how many.

        Raises:
            RequestRejected: unknown content type or model, a file too large or too slow, or rows that are no labels
                (nothing is kept); or the disk is full.
        """
        if kind not in (*LINES, CSV, PARQUET):
            raise RequestRejected(
                "media-type",
                f"labels cannot be {shown(kind.decode('latin-1'))}; send application/json, application/x-ndjson, "
                "text/csv or application/vnd.apache.parquet",
            )
        if name is None:
            raise RequestRejected("invalid", "which model? add ?model=NAME to the address")
        model = self._collector.intake.model(name)
        if self._received.locked():
            raise RequestRejected("busy", f"{MAX_RECEIVED} files of labels are being received; send again later")
        try:
            async with self._received:
                with tempfile.TemporaryDirectory(dir=self._settings.spool, prefix=RECEIVED) as folder:
                    received, path = Path(folder) / "received", Path(folder) / "labels.parquet"
                    await self._receive(body, received)
                    async with self._one:
                        await asyncio.to_thread(self._unpack, received, encoding, path)
                        return await self._whole(model, kind, path, require_known=require_known)
        except OSError as exc:
            raise RequestRejected("busy", f"the spool cannot be written: {exc.strerror}; send again later") from exc

    async def refuse_unknown(self, name: str, ids: Sequence[str]) -> None:
        """Raise RequestRejected, naming them, if there is no prediction of some ids."""
        try:
            unknown = await self._collector.unknown_ids(self._collector.declared[name], ids)
        except KedgeError as exc:
            raise RequestRejected("busy", f"whether the ids are known cannot be told: {exc}") from exc
        if unknown:
            named = ", ".join(shown(identity) for identity in unknown[:MAX_NAMED])
            raise RequestRejected(
                "invalid", f"nothing was taken: model {name} has no prediction of {len(unknown)} ids: {named}"
            )

    async def _receive(self, body: AsyncIterator[bytes], path: Path) -> None:
        length = 0
        seconds = self._settings.body_seconds
        began = asyncio.get_running_loop().time()
        try:
            with path.open("wb") as file:
                async with asyncio.timeout(seconds) as limit:
                    async for part in body:
                        length += len(part)
                        if length > self._settings.max_bulk_bytes:
                            most = f"{self._settings.max_bulk_bytes:,}"
                            raise RequestRejected("too-large", f"the file has more than {most} bytes")
                        file.write(part)
                        limit.reschedule(began + seconds + length / SLOWEST_BYTES)
        except TimeoutError:
            slowest = f"{SLOWEST_BYTES >> 10} KiB a second after {seconds:g} s"
            raise RequestRejected("too-slow", f"the file came in slower than {slowest}") from None
        except ClientDisconnect:
            raise RequestRejected("malformed", "the sender went away within the file") from None

    def _unpack(self, received: Path, encoding: str, path: Path) -> None:
        """Many clients send a file that was compressed and say nothing of it."""
        with received.open("rb") as packed:
            encoding = encoding or packing(packed.read(4))
            packed.seek(0)
            if not encoding:
                received.rename(path)
                return
            try:
                with path.open("wb") as plain:
                    size = received.stat().st_size
                    plain.writelines(parts(packed, size, encoding, self._settings.max_bulk_bytes))
                received.unlink()
            except UnreadableBody as exc:
                raise RequestRejected(exc.reason, str(exc)) from None

    async def _whole(self, model: Declared, kind: bytes, path: Path, *, require_known: bool) -> int:
        ids = await asyncio.to_thread(self._checked, model, kind, path)
        if require_known:
            await self.refuse_unknown(model.name, ids)
        return await self._kept(model, kind, path)

    def _checked(self, model: Declared, kind: bytes, path: Path) -> list[str]:
        faults, ids, now = [], [], now_microseconds()
        for place, item in self._items(model, kind, path):
            try:
                ids.append(self._collector.intake.checked_label(model, item, now)[0]["_id"])
            except RequestRejected as exc:
                faults.append(f"{place}: {exc}")
                if len(faults) == MAX_NAMED:
                    break
        if faults:
            raise RequestRejected("invalid", f"nothing was taken: {'; '.join(faults)}")
        return ids

    async def _kept(self, model: Declared, kind: bytes, path: Path) -> int:
        rows = self._items(model, kind, path)
        count = 0
        while True:
            taken = await asyncio.to_thread(self._chunk, model.name, rows)
            if not taken:
                return count
            await self._collector.keep(taken, 200 * len(taken))
            count += len(taken)

    def _chunk(self, name: str, rows: Iterator[tuple[str, Any]]) -> list[Taken]:
        now = now_microseconds()
        return [self._collector.intake.label(name, item, now) for _, item in islice(rows, CHUNK)]

    def _items(self, model: Declared, kind: bytes, path: Path) -> Iterator[tuple[str, Any]]:
        """Each label and where it stands."""
        if kind in LINES:
            return labels.from_lines(path)
        if kind == CSV:
            return labels.from_csv(path, model.policy)
        return labels.from_parquet(path, self._settings.max_bulk_bytes)
