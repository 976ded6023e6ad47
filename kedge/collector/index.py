"""What this collector remembers beside the journal: ids it has appended, halves that wait, labels that wait.

One SQLite file, changed only together with the number of the segment that was appended: after a crash the same segment
is read again against the same memory and gives the same batch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from kedge.collector.runs import Runs
from kedge.errors import StoreError, UsageError

TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS halves ( -- unmatched requests and responses: the table keeps its earlier name
  key BLOB, kind TEXT, model TEXT, received INTEGER, body BLOB, PRIMARY KEY (key, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (key BLOB PRIMARY KEY, model TEXT, day INTEGER) WITHOUT ROWID;
"""
VARIABLES = 500
"""Keys asked for in one statement."""
VERSION = 4
"""Of the spool: of this file and of the journal's frames."""


@dataclass
class Change:
    """What one segment changes in the index."""

    segment: int
    day: int
    """Days since 1970 on which it is appended, for forgetting."""
    appended: list[bytes] = field(default_factory=list)
    """Keys of predictions and labels that are now in the store."""
    unmatched: list[tuple[bytes, str, str, int, bytes]] = field(default_factory=list)
    """Key, kind, model, received (microseconds) and body of requests or answers whose other half is not here yet."""
    paired: list[bytes] = field(default_factory=list)
    """Keys of halves that found each other."""
    predicted: list[bytes] = field(default_factory=list)
    """Keys of predictions: labels need not wait for them any more."""
    waiting: list[tuple[bytes, str]] = field(default_factory=list)
    """Key and model of labels without a prediction."""


class Index:
    """The file. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            StoreError: the file cannot be used.
            UsageError: another version of the collector wrote it.
        """
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA cache_size=-4000")
            _refuse_other_version(self._db, path)
            self._db.execute(f"PRAGMA user_version={VERSION}")
            self._db.executescript(TABLES)
            self._db.execute("INSERT OR IGNORE INTO facts VALUES ('writer', ?)", (f"collect-{uuid4().hex}",))
            self._runs = Runs(self._db)
        except sqlite3.Error as exc:
            raise StoreError(f"{path}: cannot be used: {exc}; a collector needs a spool folder of its own") from exc

    @property
    def writer(self) -> str:
        """Name under which this spool appends: a spool that lost its index is another writer."""
        return self._fact("writer")

    @property
    def applied(self) -> int:
        """Number of the last segment that is in the store, -1 if none."""
        return int(self._fact("applied", "-1"))

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those keys that were appended before."""
        return self._runs.known(keys)

    def unmatched(self, keys: Iterable[bytes]) -> dict[tuple[bytes, str], bytes]:
        """Waiting halves of these keys: body by key and kind."""
        rows: Iterable[Any] = self._chosen("SELECT key, kind, body FROM halves WHERE key IN", list(keys))
        return {(key, kind): body for key, kind, body in rows}

    def old_unmatched(self, before: int) -> list[tuple[bytes, str, str, bytes]]:
        """Key, kind, model and body of halves that were received before a time (microseconds since 1970)."""
        chosen = "SELECT key, kind, model, body FROM halves WHERE received < ? ORDER BY received"
        return self._db.execute(chosen, (before,)).fetchall()

    def drop_requests(self, keys: Iterable[bytes]) -> None:
        """Forget requests that another collector joined with their answers."""
        self._db.executemany("DELETE FROM halves WHERE key = ? AND kind = 'q'", ((key,) for key in keys))

    def waiting_labels(self) -> dict[str, int]:
        """Number of labels without a prediction, by model."""
        return dict(self._db.execute("SELECT model, COUNT(*) FROM waiting GROUP BY model").fetchall())

    def unmatched_count(self) -> int:
        """Number of requests and answers that wait for each other."""
        return int(self._db.execute("SELECT COUNT(*) FROM halves").fetchone()[0])

    def apply(self, change: Change) -> None:
        """Remember a segment that is in the store; all of it or nothing."""
        with self._transaction() as db:
            self._runs.add(change.segment, change.day, change.appended)
            db.executemany("DELETE FROM halves WHERE key = ?", ((key,) for key in change.paired))
            db.executemany(
                "INSERT OR IGNORE INTO halves VALUES (?, ?, ?, ?, ?)",
                change.unmatched,
            )
            db.executemany(
                "INSERT OR IGNORE INTO waiting VALUES (?, ?, ?)",
                ((key, model, change.day) for key, model in change.waiting),
            )
            if change.predicted and db.execute("SELECT 1 FROM waiting LIMIT 1").fetchone():
                db.executemany("DELETE FROM waiting WHERE key = ?", ((key,) for key in change.predicted))
            db.execute("INSERT OR REPLACE INTO facts VALUES ('applied', ?)", (str(change.segment),))

    def forget(self, *, before_day: int, max_ids: int, unmatched_before: int) -> Mapping[str, int]:
        """Drop halves received before a time, ids appended before a day, and the oldest beyond so many; how many of
        each.

        Ids lie in generations, which go when their youngest id is so old, or when those after it have as many.
        """
        with self._transaction() as db:
            unmatched = db.execute("DELETE FROM halves WHERE received < ?", (unmatched_before,)).rowcount
            appended = self._runs.forget(before_day, max_ids)
            db.execute("DELETE FROM waiting WHERE day < ?", (before_day,))
        return {"unmatched": unmatched, "appended": appended}

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite may have rolled back by itself
                self._db.execute("ROLLBACK")
            self._runs.load()
            raise

    def _fact(self, name: str, default: str = "") -> str:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else default

    def _chosen(self, statement: str, keys: Sequence[bytes]) -> Iterable[tuple[bytes, ...]]:
        for start in range(0, len(keys), VARIABLES):
            part = keys[start : start + VARIABLES]
            marks = ",".join("?" * len(part))
            yield from self._db.execute(f"{statement} ({marks})", part)


def _refuse_other_version(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if tables and version != VERSION:
        raise UsageError(
            f"{path}: the spool is of version {version or 1}, this collector reads version {VERSION}; let the one that "
            "wrote it append what it holds (POST /v1/flush), stop it, and start this one with an empty --spool folder"
        )
