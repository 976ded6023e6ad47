"""The write-ahead log: what was acknowledged is in it, synced, until it is in the store.

A segment is a file of lines, ``<crc32 of the rest> <kind> <model> <key> <json>``. A line torn by a crash was never
acknowledged; a line damaged later is counted and skipped, the lines after it are read.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.store.files import sync_folder, write_file

Kind = Literal["p", "q", "r", "l"]
"""Prediction, request half, response half, label."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One acknowledged thing. ``key`` is the same for a thing sent twice."""

    kind: Kind
    model: str
    key: str
    body: bytes


def line(kind: Kind, model: str, key: str, body: bytes) -> bytes:
    """An entry as it lies in a segment; ``body`` is JSON and so has no line break.

    >>> line("l", "fraud", "00ff", b"{}")
    b'b30a5d96 l fraud 00ff {}\\n'
    """
    rest = f"{kind} {model} {key} ".encode() + body
    return b"%08x %b\n" % (zlib.crc32(rest), rest)


class Journal:
    """Segments in a folder. One thread at a time may call ``append`` and ``rotate``."""

    def __init__(self, folder: Path, *, first: int, segment_bytes: int) -> None:
        """Open the folder; segments left by an earlier process are closed ones.

        Args:
            folder: Where the segments lie.
            first: Number of the next segment, unless one that is here already has it or a higher one.
            segment_bytes: A segment of this size is closed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._next = max([first, *(number + 1 for number in self._numbers())])
        self._handle: int | None = None
        self._size = 0
        self._segment_bytes = segment_bytes
        self._full = False

    @property
    def full(self) -> bool:
        """Whether a segment was closed for its size and nobody asked for closed ones since."""
        return self._full

    def append(self, lines: list[bytes]) -> None:
        """Write the lines and return when they are on the disk; after an OSError none of them counts."""
        if self._handle is None:
            self._open()
        data = b"".join(lines)
        try:
            _write_all(self._handle, data)
            os.fdatasync(self._handle)  # type: ignore[arg-type]
        except OSError:
            self._abandon()
            raise
        self._size += len(data)
        if self._size >= self._segment_bytes:
            self.rotate()
            self._full = True

    def rotate(self) -> list[int]:
        """Close the segment that is being written, if there is one; the numbers of all closed ones, ascending."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            self._size = 0
        self._full = False
        return self._numbers()

    def probe(self) -> None:
        """Try whether the disk takes a write. Raises OSError if it does not."""
        write_file(self._folder / "probe", b"probe")

    def read(self, number: int, on_damage: Callable[[int], None]) -> Iterator[Entry]:
        """Entries of a closed segment; ``on_damage`` gets the length of each line that is not what was written."""
        with self._path(number).open("rb") as file:
            for raw in file:
                entry = _entry(raw)
                if entry is None:
                    on_damage(len(raw))
                else:
                    yield entry

    def remove(self, number: int) -> None:
        """Forget a segment whose entries are in the store."""
        self._path(number).unlink(missing_ok=True)

    def backlog(self) -> tuple[int, float]:
        """Bytes of all segments, and seconds since the oldest was last written to."""
        found = []
        for path in self._folder.glob("*.log"):
            try:
                found.append(path.stat())
            except FileNotFoundError:  # appended in this moment
                continue
        oldest = min((status.st_mtime for status in found), default=None)
        return sum(status.st_size for status in found), 0.0 if oldest is None else max(0.0, time.time() - oldest)

    def _open(self) -> None:
        path = self._path(self._next)
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._next += 1
        self._size = 0
        sync_folder(self._folder)

    def _abandon(self) -> None:
        """After a failed write nobody knows what is on the disk: cut back to what is known, go on in a new segment."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            os.ftruncate(handle, self._size)
        except OSError:
            pass  # a part of the last group may stay; it was not acknowledged, and senders repeat it under its id
        finally:
            os.close(handle)
            self._size = 0

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.log") if path.stem.isdigit())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.log"


def _write_all(handle: int | None, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]  # type: ignore[arg-type]


def _entry(raw: bytes) -> Entry | None:
    """The entry in a line, or None if the line is torn or damaged."""
    if not raw.endswith(b"\n") or raw[8:9] != b" ":
        return None
    rest = raw[9:-1]
    if b"%08x" % zlib.crc32(rest) != raw[:8]:
        return None
    kind, model, key, body = rest.split(b" ", 3)
    return Entry(kind.decode(), model.decode(), key.decode(), body)  # type: ignore[arg-type]
