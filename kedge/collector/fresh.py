"""What was made durable a moment ago, so that appending it need not read it back from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Generic, TypeVar

from kedge.collector.journal import Segment

Entry = TypeVar("Entry")
MAX_BYTES = 8 << 20
"""Of the journal, that is held as Python's objects: a full segment and the next one. A longer backlog is read back."""


class Fresh(Generic[Entry]):
    """Entries by segment, all of a segment's or none. One thread notes, another takes."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._most = max_bytes
        self._lock = Lock()
        self._entries: dict[Segment, list[Entry] | None] = {}
        self._sizes: dict[Segment, int] = {}

    def note(self, segment: Segment, entries: Sequence[Entry], size: int) -> None:
        """Hold what was written to a segment, in so many bytes; beyond the most, nothing of this segment."""
        with self._lock:
            held = self._entries.setdefault(segment, [])
            if held is None or sum(self._sizes.values()) + size > self._most:
                self._entries[segment] = None
                self._sizes.pop(segment, None)
            else:
                held.extend(entries)
                self._sizes[segment] = self._sizes.get(segment, 0) + size

    def take(self, segment: Segment) -> list[Entry] | None:
        """All entries of a closed segment, which are forgotten here; None if it has to be read."""
        with self._lock:
            self._sizes.pop(segment, None)
            return self._entries.pop(segment, None)
