"""Labels by the file: JSON lines, CSV or Parquet, checked whole before the first is kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kedge.arriving import Receive, receive_body
from kedge.body import encoding_of, packing, parts, shown
from kedge.collector.collector import RECEIVED, Collector, now_microseconds
from kedge.collector.declared import Declared, model_of
from kedge.collector.entries import Taken
from kedge.collector.labels import FILES
from kedge.collector.rejection import RequestRejected, busy, invalid
from kedge.collector.settings import Settings
from kedge.tables.rowwise import Rows

Headers = Mapping[bytes, bytes]

MAX_RECEIVED = 4
"""Files received at once; they lie in the spool."""
MAX_LOOKED_UP = 2
"""Requests at once whose ids are looked up in the log: it may be read whole, in the thread that appends to it."""
SLOWEST_BYTES = 256 << 10
"""A second, beyond the time that every body has."""
LABEL_BYTES = 200
"""Of a label that waits for the disk, about."""


class Bulk:
    """Reads labels twice: once to find faults, once to keep them, never a file whole in memory."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._settings = settings
        self._received = asyncio.Semaphore(MAX_RECEIVED)
        self._looked_up = asyncio.Semaphore(MAX_LOOKED_UP)
        self._one = asyncio.Semaphore(1)  # one file read at a time bounds the memory

    async def keep(self, name: str, rows: Callable[[], Rows], *, require_known: bool) -> int:
        """Make the labels of a model durable; how many.

        Args:
            rows: Reads them, from the first.

        Raises:
            RequestRejected: an unknown model, or rows that are no labels (nothing is kept); too many that ask for known
                ids; or the disk is full.
        """
        model = model_of(self._collector.declared, name)

        def labels() -> Iterator[Taken]:
            return self._collector.intake.labels(model, rows(), now_microseconds())

        ids = await asyncio.to_thread(lambda: [row[0] for taken in labels() for row in taken.rows])
        if require_known:
            await self._require_known(model, ids)
        count, checked = 0, labels()
        while taken := await asyncio.to_thread(next, checked, None):
            await self._collector.keep([taken], LABEL_BYTES * taken.count)
            count += taken.count
        return count

    async def _require_known(self, model: Declared, ids: Sequence[str]) -> None:
        if self._looked_up.locked():
            raise busy(f"{MAX_LOOKED_UP} requests with require_known are looked up in the log; send again later")
        async with self._looked_up:
            await self._collector.require_known(model, ids)

    async def keep_file(
        self, kind: bytes, headers: Headers, name: str | None, receive: Receive, *, require_known: bool
    ) -> int:
        """The same of a file that arrives.

        Raises:
            RequestRejected, UnreadableBody: also an unknown content type, or a file too large or too slow.
        """
        if kind not in FILES:
            raise RequestRejected(
                "media-type",
                f"labels cannot be {shown(kind.decode('latin-1'))}; send application/json, application/x-ndjson, "
                "text/csv or application/vnd.apache.parquet",
            )
        if name is None:
            raise invalid("which model? add ?model=NAME to the address")
        policy, most = model_of(self._collector.declared, name).policy, self._settings.max_bulk_bytes
        encoding = encoding_of(headers.get(b"content-encoding", b""))
        if self._received.locked():
            raise busy(f"{MAX_RECEIVED} files of labels are being received; send again later")
        try:
            async with self._received:
                with tempfile.TemporaryDirectory(dir=self._settings.spool, prefix=RECEIVED) as folder:
                    received, path = Path(folder) / "received", Path(folder) / "labels.parquet"
                    await self._receive(headers, receive, received)
                    async with self._one:
                        await asyncio.to_thread(self._unpack, received, encoding, path)
                        return await self.keep(
                            name, lambda: FILES[kind](path, policy, most), require_known=require_known
                        )
        except OSError as exc:
            raise self._collector.not_kept(exc) from exc

    async def _receive(self, headers: Headers, receive: Receive, path: Path) -> None:
        settings = self._settings
        with path.open("wb") as file:
            most, seconds = settings.max_bulk_bytes, settings.body_seconds
            await receive_body(receive, headers, file.write, max_bytes=most, seconds=seconds, slowest=SLOWEST_BYTES)

    def _unpack(self, received: Path, encoding: str, path: Path) -> None:
        """Many clients send a file that was compressed and say nothing of it."""
        with received.open("rb") as packed:
            encoding = encoding or packing(packed.read(4))
            packed.seek(0)
            if not encoding:
                received.rename(path)
                return
            with path.open("wb") as plain:
                plain.writelines(parts(packed, received.stat().st_size, encoding, self._settings.max_bulk_bytes))
        received.unlink()
