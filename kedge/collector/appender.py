"""From the journal into the prediction log: segment by segment, each exactly once, in the background."""

from __future__ import annotations

import errno
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from kedge.collector.declared import Columns, Declared, Values
from kedge.collector.entries import Entry, decode
from kedge.collector.metrics import Metrics
from kedge.errors import DataError
from kedge.store import Store, write_file
from kedge.store.journal import Journal, Segment, set_aside
from kedge.tables import appending
from kedge.tables.appending import Table

SPOILT = (errno.EIO, errno.EISDIR, errno.EUCLEAN)
"""Why a file cannot be read that will not be readable later either."""


class Appender:
    """Reads closed segments and appends them under their writer and number. It knows nothing of what it appended."""

    def __init__(
        self,
        store: Store,
        declared: Mapping[str, Declared],
        journal: Journal,
        metrics: Metrics,
        *,
        spool: Path,
        verify: Callable[[], None],
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            spool: Folder in which ``aside`` takes what the log does not take under today's policies, as segments (see
                :meth:`Journal.adopt`), and ``damaged`` the segments that are not what was written.
            verify: Raises StoreError if the store is not the one that was appended to before.
        """
        self._store = store
        self._declared = declared
        self._journal = journal
        self._metrics = metrics
        self._spool = spool
        self._verify = verify
        self._opened: dict[str, DeltaTable] = {}

    def run(self, segments: Sequence[Segment]) -> int:
        """Append closed segments in turn; how many rows were appended.

        Raises:
            StoreError: the store refused; what is left stays in the journal.
        """
        self._verify()
        return sum(self._append(segment) for segment in segments)

    def _append(self, segment: Segment) -> int:
        entries, damage = self._entries(segment)
        rows: dict[tuple[str, Table], list[list[Any]]] = {}
        aside: list[Entry] = []
        for entry in entries:
            model = self._declared.get(entry.model)
            wanted = model.columns[entry.table] if model is not None else None
            current = _current(entry, wanted) if wanted is not None else None
            if current is None:
                aside.append(entry)
                continue
            gathered = rows.setdefault((entry.model, entry.table), [[] for _ in current])
            for column, values in zip(gathered, current, strict=True):
                column += values
        appended = 0
        for (name, table), values in rows.items():
            if self._written(name, table, values, segment):
                appended += len(values[0])
            else:
                aside.append(Entry(name, table, self._declared[name].columns[table], values))
        self._set_aside(aside, segment)
        self._verify()  # a volume that went away meanwhile took the rows for an empty folder
        if damage:
            self._metrics.damaged(segment.file, damage, self._spool / "damaged")
            set_aside(self._journal.path(segment), self._spool / "damaged")
        else:
            self._journal.path(segment).unlink(missing_ok=True)
        return appended

    def _entries(self, segment: Segment) -> tuple[Sequence[Entry], list[int]]:
        """What a segment holds, and the lengths of the stretches of it that cannot be read."""
        damage: list[int] = []
        try:
            return [decode(payload) for payload in self._journal.read(segment, damage.append)], damage
        except OSError as exc:
            if exc.errno not in SPOILT:
                raise
            return [], [0]

    def _set_aside(self, entries: Sequence[Entry], segment: Segment) -> None:
        """Keep what was acknowledged and does not fit: its policy was taken away, or a column changed its type."""
        if not entries:
            return
        write_file(self._spool / "aside" / segment.file, b"".join(entry.frame() for entry in entries))
        for model, count in Tally(entry.model for entry in entries).items():
            self._metrics.aside(model, count)

    def _written(self, name: str, table: Table, values: Values, segment: Segment) -> bool:
        """Whether the rows are in the log; False if it does not take their columns."""
        policy = self._declared[name].policy
        rows = appending.table_of(appending.columns_of(policy, table), values)
        writer, number = segment
        try:
            appending.append(self._store, policy, table, rows, writer=writer, sequence=number, opened=self._opened)
        except DataError as exc:
            self._metrics.faults[f"refused: {name}"] = str(exc)
            return False
        self._metrics.faults.pop(f"refused: {name}", None)
        self._metrics.appended.labels(name, table).inc(len(values[0]))
        return True


def _current(entry: Entry, wanted: Columns) -> Values | None:
    """Rows in today's columns; None if a column changed its type.

    A column of another policy is left out. So are values that were written before the column's privacy changed.
    """
    if entry.columns == wanted:
        return entry.values
    found = {column.name: (column, place) for place, column in enumerate(entry.columns)}
    current: list[Sequence[Any]] = []
    for column in wanted:
        then, place = found.get(column.name, (None, -1))
        if then is not None and then.privacy == column.privacy:
            if then.kind != column.kind:
                return None
            current.append(entry.values[place])
        else:
            current.append([None] * len(entry.values[0]))
    return current
