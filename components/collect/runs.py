"""Which keys are in the log, for any number of them: sorted runs in the index's file, a few bits of each in memory.

A segment's keys are written as one run, in order; runs of like size are merged. So the file grows at its end instead of
at random places, and a new key is known to be new without a look at the disk, but for a few. (A log-structured merge
tree: O'Neil et al., Acta Informatica 33, 1996.)
"""

from __future__ import annotations

import sqlite3
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from components.collect.seen import Seen

KEY_BYTES = 16
"""Of a hash: any eight of them are evenly spread."""
PIECE = 1024
"""Keys in one row of the file: what is read to look at one of them."""
MOST_KEYS = 500_000
"""Runs do not become longer: bounds the memory of a merge, and old runs can be forgotten."""
LIKE = 3
"""So many runs that are not much longer than the youngest are merged with it."""
SMALLEST = 1 << 16
"""Room for so many keys at first, then for twice as many as there are."""

TABLES = """
CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, day INTEGER);
CREATE TABLE IF NOT EXISTS pieces (
  number INTEGER, piece INTEGER, keys BLOB, PRIMARY KEY (number, piece)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Run:
    """A sorted run of keys in the file."""

    number: int
    day: int
    """Of its youngest key, in days since 1970."""
    count: int
    firsts: list[bytes]
    """The first key of each piece."""


class Runs:
    """The runs of one file. Changes belong in a transaction of the caller's; :meth:`load` after one that failed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.executescript(TABLES)
        self.load()

    def load(self) -> None:
        """Read what the file holds."""
        rows = self._db.execute("SELECT number, day FROM runs ORDER BY number").fetchall()
        self._runs = [self._run(number, day) for number, day in rows]
        self._look_over()

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those keys that were added before."""
        asked = list(keys)
        numbers = _numbers(asked)
        found = set(self._seen.among(numbers))
        if not found:
            return set()
        likely = {key for key, number in zip(asked, numbers, strict=True) if number in found}
        return {key for run in self._runs for key in self._within(run, likely)}

    def add(self, number: int, day: int, keys: Sequence[bytes]) -> None:
        """Add new keys under a number above those of earlier calls."""
        if not keys:
            return
        self._seen.add(_numbers(keys))
        merged = sorted(keys)
        while like := self._like(len(merged)):
            merged = sorted([key for run in like for key in _split(self._keys(run))] + merged)
            self._delete(like)
            del self._runs[-len(like) :]
        self._write(number, day, merged)
        if sum(run.count for run in self._runs) > self._seen.capacity:
            self._look_over()

    def forget(self, before_day: int) -> int:
        """Drop the runs whose youngest key is of an earlier day; how many keys went."""
        old = [run for run in self._runs if run.day < before_day]
        if old:
            self._delete(old)
            self._runs = [run for run in self._runs if run.day >= before_day]
            self._look_over()
        return sum(run.count for run in old)

    def _look_over(self) -> None:
        """Learn anew which keys there are, with room for as many again."""
        self._seen = Seen(max(SMALLEST, 2 * sum(run.count for run in self._runs)))
        for run in self._runs:
            self._seen.add(_numbers([self._keys(run)]))

    def _like(self, count: int) -> list[Run]:
        """The youngest runs, if they are to be merged with a younger one of ``count`` keys."""
        like = list(takewhile(lambda run: run.count <= 2 * count, reversed(self._runs)))
        while like and sum(run.count for run in like) + count > MOST_KEYS:
            like.pop()
        return like[::-1] if len(like) >= LIKE else []

    def _write(self, number: int, day: int, keys: list[bytes]) -> None:
        places = range(0, len(keys), PIECE)
        self._runs.append(Run(number, day, len(keys), [keys[place] for place in places]))
        self._db.execute("INSERT INTO runs VALUES (?, ?)", (number, day))
        rows = ((number, place // PIECE, b"".join(keys[place : place + PIECE])) for place in places)
        self._db.executemany("INSERT INTO pieces VALUES (?, ?, ?)", rows)

    def _delete(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._db.execute("DELETE FROM pieces WHERE number = ?", (run.number,))
            self._db.execute("DELETE FROM runs WHERE number = ?", (run.number,))

    def _run(self, number: int, day: int) -> Run:
        chosen = "SELECT substr(keys, 1, ?), length(keys) FROM pieces WHERE number = ? ORDER BY piece"
        pieces = self._db.execute(chosen, (KEY_BYTES, number)).fetchall()
        return Run(number, day, sum(size for _, size in pieces) // KEY_BYTES, [first for first, _ in pieces])

    def _keys(self, run: Run) -> bytes:
        rows = self._db.execute("SELECT keys FROM pieces WHERE number = ? ORDER BY piece", (run.number,))
        return b"".join(keys for (keys,) in rows)

    def _within(self, run: Run, keys: Iterable[bytes]) -> Iterator[bytes]:
        """Those keys that a run holds."""
        by_piece = defaultdict(list)
        for key in keys:
            by_piece[bisect_right(run.firsts, key) - 1].append(key)
        for piece, asked in by_piece.items():
            if piece >= 0:
                chosen = "SELECT keys FROM pieces WHERE number = ? AND piece = ?"
                (there,) = self._db.execute(chosen, (run.number, piece)).fetchone()
                yield from set(_split(there)).intersection(asked)


def _split(keys: bytes) -> list[bytes]:
    return [keys[place : place + KEY_BYTES] for place in range(0, len(keys), KEY_BYTES)]


def _numbers(keys: Sequence[bytes]) -> array[int]:
    """Half of each key as a number."""
    return array("Q", b"".join(keys))[::2]
