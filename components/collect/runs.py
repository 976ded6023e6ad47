"""Which keys are in the log, for any number of them: sorted runs in the index's file, four bytes of each key in memory.

A segment's keys are written as one run, in order; runs next to each other are merged while they are of like size. So
the file grows at its end instead of at random places, and a new key is known to be new without a look at the disk, but
for the few whose first four bytes are another's. (A log-structured merge tree: O'Neil et al., Acta Informatica 33,
1996.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
PIECE = 4096
"""Keys in one row of the file: what is read to look at one of them."""
MOST_KEYS = 500_000
"""Runs do not become longer: bounds the memory of a merge, and old runs can be forgotten."""

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
    heads: NDArray[np.uint32]
    """First four bytes of each key, ascending."""

    def places(self, heads: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Places of all keys that begin with one of ``heads`` (ascending, each once)."""
        first = np.searchsorted(self.heads, heads)
        found = heads[self.heads.take(first, mode="clip") == heads]
        ends = zip(*(np.searchsorted(self.heads, found, side) for side in ("left", "right")), strict=True)
        return np.concatenate([np.empty(0, np.int64), *(np.arange(*end) for end in ends)])


class Runs:
    """The runs of one file. Changes belong in a transaction of the caller's; :meth:`load` after one that failed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.executescript(TABLES)
        self.load()

    def load(self) -> None:
        """Read what the file holds."""
        rows = self._db.execute("SELECT number, day FROM runs ORDER BY number").fetchall()
        self._runs = [Run(number, day, _heads(self._keys(number))) for number, day in rows]

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those keys that were added before."""
        asked = set(keys)
        heads = np.unique(_heads(_keys(asked)))
        found: set[bytes] = set()
        for run in self._runs:
            for keys_there in self._at(run, run.places(heads)):
                found |= asked.intersection(keys_there)
        return found

    def add(self, number: int, day: int, keys: Sequence[bytes]) -> None:
        """Add new keys under a number above those of earlier calls."""
        if not keys:
            return
        merged = _keys(sorted(keys))
        while self._runs and _merges(len(self._runs[-1].heads), len(merged)):
            last = self._runs.pop()
            both = np.concatenate([self._keys(last.number), merged])
            merged = both[np.argsort(_heads(both), kind="stable")]
            self._delete([last])
        self._runs.append(Run(number, day, _heads(merged)))
        self._db.execute("INSERT INTO runs VALUES (?, ?)", (number, day))
        self._db.executemany(
            "INSERT INTO pieces VALUES (?, ?, ?)",
            (
                (number, start // PIECE, merged[start : start + PIECE].tobytes())
                for start in range(0, len(merged), PIECE)
            ),
        )

    def forget(self, before_day: int) -> int:
        """Drop the runs whose youngest key is of an earlier day; how many keys went."""
        old = [run for run in self._runs if run.day < before_day]
        self._delete(old)
        self._runs = [run for run in self._runs if run.day >= before_day]
        return sum(len(run.heads) for run in old)

    def _delete(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._db.execute("DELETE FROM pieces WHERE number = ?", (run.number,))
            self._db.execute("DELETE FROM runs WHERE number = ?", (run.number,))

    def _keys(self, number: int) -> NDArray[np.void]:
        rows = self._db.execute("SELECT keys FROM pieces WHERE number = ? ORDER BY piece", (number,))
        return np.frombuffer(b"".join(keys for (keys,) in rows), f"V{KEY_BYTES}")

    def _at(self, run: Run, places: NDArray[np.int64]) -> Iterator[list[bytes]]:
        """Keys at some places of a run, piece by piece."""
        pieces = places // PIECE
        for piece in np.unique(pieces).tolist():
            chosen = "SELECT keys FROM pieces WHERE number = ? AND piece = ?"
            (keys,) = self._db.execute(chosen, (run.number, piece)).fetchone()
            yield np.frombuffer(keys, f"V{KEY_BYTES}")[places[pieces == piece] - piece * PIECE].tolist()


def _merges(older: int, younger: int) -> bool:
    """Whether two neighbours become one run: no run is left with a younger one of half its length or more beside it.

    >>> _merges(20, 10), _merges(30, 10), _merges(MOST_KEYS, 10)
    (True, False, False)
    """
    return older <= 2 * younger and older + younger <= MOST_KEYS


def _keys(keys: Iterable[bytes]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(keys), f"V{KEY_BYTES}")


def _heads(keys: NDArray[np.void]) -> NDArray[np.uint32]:
    return keys.view(">u4")[:: KEY_BYTES // 4].astype(np.uint32)
