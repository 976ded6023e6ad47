"""Which keys are in the log, for any number of them: runs in the index's file, a few bits of each key in memory.

A segment's keys are written as one run, in pieces by their first byte; runs of like size are put together, piece by
piece. So the file grows at its end instead of at random places. Two million keys make a generation, which knows a
new key to be new without a look at the disk, but for a few. (A log-structured merge tree whose levels are hashed
instead of sorted: O'Neil et al., Acta Informatica 33, 1996.)
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from kedge.collector.seen import Seen

KEY_BYTES = 16
"""Of a hash: any bytes of it are evenly spread."""
GENERATION = 2_000_000
"""Keys that are forgotten together."""
LIKE = 3
"""So many runs that are not much longer than the youngest are put together with it."""
PIECES = 256
AT_ONCE = 250_000
"""Keys that are put together at a time: a generation's would take a hundred megabytes."""

TABLES = """
CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, day INTEGER, seen BLOB);
CREATE TABLE IF NOT EXISTS pieces (
  number INTEGER, piece INTEGER, keys BLOB, PRIMARY KEY (number, piece)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Run:
    """Some keys in the file."""

    number: int
    day: int
    """Of its youngest key, in days since 1970."""
    count: int


@dataclass
class Generation:
    """Runs that are asked together. All but the last are whole: one run, with what it has seen in the file."""

    seen: Seen = field(default_factory=lambda: Seen(GENERATION))
    runs: list[Run] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Its keys."""
        return sum(run.count for run in self.runs)


class Runs:
    """The runs of one file. Changes belong in a transaction of the caller's; :meth:`load` after one that failed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.executescript(TABLES)
        self.load()

    def load(self) -> None:
        """Read what the file holds."""
        chosen = "SELECT number, day, seen, SUM(LENGTH(keys)) FROM runs JOIN pieces USING (number) GROUP BY number"
        self._generations, last = [], Generation()
        for number, day, seen, size in self._db.execute(chosen):
            run = Run(number, day, size // KEY_BYTES)
            if seen is not None:
                self._generations.append(Generation(Seen(GENERATION, seen), [run]))
            else:
                last.runs.append(run)
                for _, keys in self._pieces(run, range(PIECES)):
                    last.seen.add(_numbers(keys))
        self._generations.append(last)

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those keys that were added before."""
        asked = list(keys)
        numbers = _numbers(b"".join(asked))
        known: set[bytes] = set()
        for generation in self._generations:
            found = set(generation.seen.among(numbers))
            if found:
                likely = _by_piece(key for key, number in zip(asked, numbers, strict=True) if number in found)
                known.update(key for run in generation.runs for key in self._within(run, likely))
        return known

    def add(self, number: int, day: int, keys: Sequence[bytes]) -> None:
        """Add new keys under a number above those of earlier calls."""
        if not keys:
            return
        generation = self._generations[-1]
        if generation.runs and generation.count + len(keys) > GENERATION:
            self._close(generation)
            generation = Generation()
            self._generations.append(generation)
        generation.seen.add(_numbers(b"".join(keys)))
        merged, count = list[Run](), len(keys)
        while like := _like(generation.runs, count):
            merged += like
            count += sum(run.count for run in like)
            del generation.runs[-len(like) :]
        self._write(generation, Run(number, day, count), merged, _by_piece(keys))

    def forget(self, before_day: int, most: int) -> int:
        """Drop the generations whose youngest key is of an earlier day, or which ``most`` newer keys follow; how many
        keys went."""
        old, newer = [], 0
        for generation in reversed(self._generations):
            if generation.runs and (generation.runs[-1].day < before_day or newer >= most):
                old.append(generation)
            newer += generation.count
        for generation in old:
            self._delete(generation.runs)
        if old:
            self.load()
        return sum(generation.count for generation in old)

    def _close(self, generation: Generation) -> None:
        """Make one run of a generation, and write down what it has seen."""
        whole = Run(generation.runs[-1].number, generation.runs[-1].day, generation.count)
        merged = generation.runs.copy()
        generation.runs.clear()
        self._write(generation, whole, merged, {})
        self._db.execute("UPDATE runs SET seen = ? WHERE number = ?", (generation.seen.bits, whole.number))

    def _write(self, generation: Generation, run: Run, merged: Sequence[Run], keys: Mapping[int, list[bytes]]) -> None:
        """Make one run of others, which are deleted, and of new keys."""
        generation.runs.append(run)
        width = max(1, PIECES * AT_ONCE // max(run.count, AT_ONCE))
        for first in range(0, PIECES, width):
            some = range(first, min(first + width, PIECES))
            found = {piece: list(keys.get(piece, ())) for piece in some}
            for each in merged:
                for piece, there in self._pieces(each, some):
                    found[piece].append(there)
                gone = "DELETE FROM pieces WHERE number = ? AND piece BETWEEN ? AND ?"
                self._db.execute(gone, (each.number, some[0], some[-1]))
            rows = ((run.number, piece, b"".join(parts)) for piece, parts in found.items() if parts)
            self._db.executemany("INSERT INTO pieces VALUES (?, ?, ?)", rows)
        self._db.executemany("DELETE FROM runs WHERE number = ?", ((each.number,) for each in merged))
        self._db.execute("INSERT INTO runs VALUES (?, ?, NULL)", (run.number, run.day))

    def _delete(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._db.execute("DELETE FROM pieces WHERE number = ?", (run.number,))
            self._db.execute("DELETE FROM runs WHERE number = ?", (run.number,))

    def _pieces(self, run: Run, some: range) -> Iterator[tuple[int, bytes]]:
        chosen = "SELECT piece, keys FROM pieces WHERE number = ? AND piece BETWEEN ? AND ? ORDER BY piece"
        yield from self._db.execute(chosen, (run.number, some[0], some[-1]))

    def _within(self, run: Run, asked: Mapping[int, list[bytes]]) -> Iterator[bytes]:
        """Those keys that a run holds."""
        for piece, keys in asked.items():
            chosen = "SELECT keys FROM pieces WHERE number = ? AND piece = ?"
            (there,) = self._db.execute(chosen, (run.number, piece)).fetchone() or (b"",)
            yield from (key for key in keys if _holds(there, key))


def _like(runs: Sequence[Run], count: int) -> list[Run]:
    """The youngest runs, if they are enough to be put together with a younger one of ``count`` keys."""
    like = list(takewhile(lambda run: run.count <= 2 * count, reversed(runs)))
    return like if len(like) >= LIKE else []


def _by_piece(keys: Iterable[bytes]) -> dict[int, list[bytes]]:
    found = defaultdict(list)
    for key in keys:
        found[key[0]].append(key)
    return found


def _holds(keys: bytes, key: bytes) -> bool:
    place = keys.find(key)
    while place % KEY_BYTES and place >= 0:  # across two keys
        place = keys.find(key, place + 1)
    return place >= 0


def _numbers(keys: bytes) -> array[int]:
    """Half of each key as a number."""
    return array("Q", keys)[1::2]
