"""The write-ahead log: what was acknowledged is in it, synced, until it is in the store.

A segment is a file of frames: ``KDG`` and a letter, length and CRC-32 of the payload, the payload. A frame torn by a
crash was never acknowledged; one damaged later is counted and skipped, and reading goes on at the next whole frame.
"""

from __future__ import annotations

import errno
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from kedge.store.files import sync_folder, write_file

HEAD = struct.Struct("<3s1sII")
MARK = b"KDG"
INDEX_BYTES = 48 << 20
"""Disk that the journal leaves to the index: one that cannot be written lets nothing out of a full spool."""


def frame(kind: bytes, payload: bytes) -> bytes:
    """A payload as it lies in a segment; ``kind`` is one letter."""
    return HEAD.pack(MARK, kind, len(payload), zlib.crc32(payload)) + payload


def frames(data: bytes, on_damage: Callable[[int], None]) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and payload of each whole frame; ``on_damage`` gets the length of each stretch that is not one.

    >>> whole = frame(b"l", b"one") + frame(b"l", b"two")
    >>> [bytes(payload) for _, payload in frames(whole, print)]
    [b'one', b'two']
    >>> [bytes(payload) for _, payload in frames(whole[:10] + b"?" + whole[11:], print)]
    15
    [b'two']
    """
    view = memoryview(data)
    place = 0
    while place < len(data):
        found = _whole(view, place)
        if found is None:
            after = data.find(MARK, place + 1)
            after = len(data) if after < 0 else after
            on_damage(after - place)
            place = after
        else:
            yield found
            place += HEAD.size + len(found[1])


def _whole(view: memoryview, place: int) -> tuple[bytes, memoryview] | None:
    head = view[place : place + HEAD.size]
    if len(head) < HEAD.size:
        return None
    mark, kind, length, check = HEAD.unpack(head)
    payload = view[place + HEAD.size : place + HEAD.size + length]
    if mark != MARK or len(payload) < length or zlib.crc32(payload) != check:
        return None
    return kind, payload


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
        self._refused = 0
        """Bytes of the last write that found no room."""

    @property
    def full(self) -> bool:
        """Whether a segment was closed for its size and nobody asked for closed ones since."""
        return self._full

    def append(self, data: bytes) -> int:
        """Write frames and return when they are on the disk: the segment's number. After an OSError none counts."""
        self._leave_room(len(data))
        handle = self._open() if self._handle is None else self._handle
        try:
            _write_all(handle, data)
            os.fdatasync(handle)
        except OSError:
            self._abandon(handle)
            raise
        number = self._next - 1
        self._size += len(data)
        if self._size >= self._segment_bytes:
            self.rotate()
            self._full = True
        return number

    def rotate(self) -> list[int]:
        """Close the segment that is being written, if there is one; the numbers of all closed ones, ascending."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._size = 0
        self._full = False
        return self._numbers()

    def probe(self) -> None:
        """Try whether the disk takes what it refused last, or any write. Raises OSError if it does not."""
        self._leave_room(self._refused)
        write_file(self._folder / "probe", b"probe")
        self._refused = 0

    def read(self, number: int, on_damage: Callable[[int], None]) -> Iterator[tuple[bytes, memoryview]]:
        """Frames of a closed segment, see :func:`frames`."""
        yield from frames(self._path(number).read_bytes(), on_damage)

    def adopt(self, path: Path) -> None:
        """Take over a file of frames as a closed segment."""
        path.rename(self._path(self._next))
        sync_folder(self._folder)
        self._next += 1

    def remove(self, number: int) -> None:
        """Forget a segment whose entries are in the store."""
        self._path(number).unlink(missing_ok=True)

    def backlog(self) -> tuple[int, float]:
        """Bytes of all segments, and seconds since the oldest was last written to."""
        found = []
        for path in self._folder.glob("*.log"):
            with suppress(FileNotFoundError):  # appended in this moment
                found.append(path.stat())
        oldest = min((status.st_mtime for status in found), default=None)
        return sum(status.st_size for status in found), 0.0 if oldest is None else max(0.0, time.time() - oldest)

    def _leave_room(self, length: int) -> None:
        """Of a small disk the index gets a quarter."""
        disk = os.statvfs(self._folder)
        kept = min(INDEX_BYTES, disk.f_blocks * disk.f_frsize // 4)
        if disk.f_bavail * disk.f_frsize - length < kept:
            self._refused = length
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> int:
        path = self._path(self._next)
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._next += 1
        self._size = 0
        sync_folder(self._folder)
        return self._handle

    def _abandon(self, handle: int) -> None:
        """After a failed write nobody knows what is on the disk: cut back to what is known, go on in a new segment.

        If the cut fails too, a part of the last group may stay; its senders were told that it failed, and what they
        send again has the same ids.
        """
        self._handle = None
        with suppress(OSError):
            os.ftruncate(handle, self._size)
        os.close(handle)
        self._size = 0

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.log") if path.stem.isdigit())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.log"


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
