"""The write-ahead log: what was acknowledged is in it, synced, until it is in the store.

A segment is a file of frames: a mark and a letter, the payload's length, a CRC-32 of letter, length and payload, the
payload. The last frame of a segment that was closed says how long it is. A frame torn by a crash was never
acknowledged. Whatever else is not what was written is counted and skipped, reading goes on at the next whole frame, and
the file is set aside.

Its name says who appends it to the store, and under which number: each process is a writer of its own and counts from
zero, so that nothing has to be remembered of a segment that is gone.
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
from typing import NamedTuple
from uuid import uuid4

from kedge.store.files import sync_folder, write_file

HEAD = struct.Struct("<3s1sII")
COVERED = struct.Struct("<1sI")
MARK = b"KJ5"
ROWS, END = b"e", b"z"
"""Kinds of frames: rows of one table; the last one, whose payload is the segment's length before it."""
SEGMENTS = "*-" + "[0-9]" * 12 + ".log"
KEPT_BYTES = 16 << 20
"""Disk that the journal leaves alone: a full one lets nothing out of the spool."""


class Form(NamedTuple):
    """How frames are marked and checked."""

    mark: bytes
    check: Callable[[bytes, bytes | memoryview], int]
    """Of a frame's kind and payload."""


def _check(kind: bytes, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(COVERED.pack(kind, len(payload))))


FORM = Form(MARK, _check)


class Segment(NamedTuple):
    """A file of the journal: who appends it to the store, under which number."""

    writer: str
    number: int

    @property
    def file(self) -> str:
        """Its name."""
        return f"{self.writer}-{self.number:012d}.log"

    @classmethod
    def of(cls, path: Path) -> Segment:
        """The segment in a file."""
        writer, _, number = path.stem.rpartition("-")
        return cls(writer, int(number))


def frame(payload: bytes, kind: bytes = ROWS) -> bytes:
    """A payload as it lies in a segment."""
    return HEAD.pack(MARK, kind, len(payload), _check(kind, payload)) + payload


def frames(
    data: bytes, on_damage: Callable[[int], None], *, ended: bool = False, form: Form = FORM
) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and payload of each whole frame; ``on_damage`` gets the length of each stretch that is not one.

    Args:
        ended: Whether the last frame has to say that it is the last: 0 is told if it does not.

    >>> whole = frame(b"one") + frame(b"two")
    >>> [bytes(payload) for _, payload in frames(whole, print)]
    [b'one', b'two']
    >>> [bytes(payload) for _, payload in frames(whole[:3] + b"?" + whole[4:], print)]
    15
    [b'two']
    """
    view, place, last = memoryview(data), 0, False
    while place < len(data):
        found = _whole(view, place, form)
        if found is None:
            after = data.find(form.mark, place + 1)
            after = len(data) if after < 0 else after
            on_damage(after - place)
            place = after
            continue
        kind, payload = found
        last = kind == END
        if not last:
            yield kind, payload
        elif bytes(payload) != b"%d" % place:
            on_damage(0)
        place += HEAD.size + len(payload)
    if ended and not last:
        on_damage(0)


def _whole(view: memoryview, place: int, form: Form) -> tuple[bytes, memoryview] | None:
    head = view[place : place + HEAD.size]
    if len(head) < HEAD.size:
        return None
    mark, kind, length, check = HEAD.unpack(head)
    payload = view[place + HEAD.size : place + HEAD.size + length]
    if mark != form.mark or len(payload) < length or form.check(kind, payload) != check:
        return None
    return kind, payload


class Journal:
    """Segments in a folder. One thread at a time may call ``append`` and ``rotate``."""

    def __init__(self, folder: Path, *, segment_bytes: int) -> None:
        """Open the folder; segments left by an earlier process are closed ones.

        Args:
            folder: Where the segments lie.
            segment_bytes: A segment of this size is closed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._place = _place_of(folder)
        self._writer = f"collect-{uuid4().hex}"
        self._next = 0
        self._handle: int | None = None
        self._size = 0
        self._segment_bytes = segment_bytes
        self.full = False
        """Whether a segment was closed for its size and nobody asked for closed ones since."""
        self._refused = 0
        """Bytes of the last write that found no room."""

    def append(self, data: bytes) -> Segment:
        """Write frames and return when they are on the disk: their segment. After an OSError none counts."""
        self._leave_room(len(data))
        handle = self._open() if self._handle is None else self._handle
        try:
            _write_all(handle, data)
            os.fdatasync(handle)
        except OSError:
            self._abandon(handle)
            raise
        segment = Segment(self._writer, self._next - 1)
        self._size += len(data)
        if self._size >= self._segment_bytes:
            self.rotate()
            self.full = True
        return segment

    def rotate(self) -> list[Segment]:
        """Close the segment that is being written, if there is one; all closed ones, each writer's in its order.

        Raises:
            OSError: the folder is not there, or another one is.
        """
        self._require_place()
        if self._handle is not None:
            self._close(self._handle)
        self.full = False
        return sorted(Segment.of(path) for path in self._folder.glob(SEGMENTS))

    def probe(self) -> None:
        """Try whether the disk takes what it refused last, or any write. Raises OSError if it does not."""
        self._leave_room(self._refused)
        write_file(self._folder / "probe", b"probe")
        self._refused = 0

    def read(self, segment: Segment, on_damage: Callable[[int], None]) -> Iterator[memoryview]:
        """Frames of a closed segment, see :func:`frames`. Only the last one of a writer may have been left open."""
        ended = self.path(segment._replace(number=segment.number + 1)).exists()
        for _, payload in frames(self.path(segment).read_bytes(), on_damage, ended=ended):
            yield payload

    def adopt(self, folder: Path) -> None:
        """Take over the files of frames in a folder as closed segments of this writer."""
        for path in sorted(folder.glob(SEGMENTS)):
            write_file(self.path(Segment(self._writer, self._next)), closed(path.read_bytes()))
            path.unlink()
            self._next += 1

    def path(self, segment: Segment) -> Path:
        """The file of a segment."""
        return self._folder / segment.file

    def backlog(self) -> tuple[int, float]:
        """Bytes of all segments, and seconds since the oldest was last written to; OSError as :meth:`rotate`."""
        self._require_place()
        found = []
        for path in self._folder.glob("*.log"):
            with suppress(FileNotFoundError):  # appended in this moment
                found.append(path.stat())
        oldest = min((status.st_mtime for status in found), default=None)
        return sum(status.st_size for status in found), 0.0 if oldest is None else max(0.0, time.time() - oldest)

    def _leave_room(self, length: int) -> None:
        """Of a small disk a quarter."""
        self._require_place()
        disk = os.statvfs(self._folder)
        kept = min(KEPT_BYTES, disk.f_blocks * disk.f_frsize // 4)
        if disk.f_bavail * disk.f_frsize - length < kept:
            self._refused = length
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _require_place(self) -> None:
        """What lies below a volume that is not mounted is not this journal."""
        if not self._folder.exists() or _place_of(self._folder) != self._place:
            raise OSError(errno.ESTALE, "the journal's folder is not there, or another one is; is its volume mounted?")

    def _open(self) -> int:
        path = self.path(Segment(self._writer, self._next))
        handle = self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._next += 1
        self._size = 0
        try:
            sync_folder(self._folder)
        except OSError:  # a crash of the machine might forget the file
            self._abandon(handle)
            raise
        return handle

    def _close(self, handle: int) -> None:
        """Say how long the segment is; if the disk does not take even that, it looks as if it had been cut."""
        self._handle = None
        with suppress(OSError):
            _write_all(handle, frame(b"%d" % self._size, END))
            os.fdatasync(handle)
        os.close(handle)
        self._size = 0

    def _abandon(self, handle: int) -> None:
        """After a failed write nobody knows what is on the disk: cut back to what is known, go on in a new segment.

        If the cut fails too, a part of the last group may stay; its senders were told that it failed, and what they
        send again has the same ids.
        """
        with suppress(OSError):
            os.ftruncate(handle, self._size)
        self._close(handle)


def closed(data: bytes) -> bytes:
    """Frames as a whole segment: the last one says how long they are."""
    return data + frame(b"%d" % len(data), END)


def set_aside(path: Path, folder: Path) -> None:
    """Move a file that is not what was written to another folder, for somebody to look at."""
    folder.mkdir(exist_ok=True)
    path.rename(folder / path.name)


def _place_of(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
