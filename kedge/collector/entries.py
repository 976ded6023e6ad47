"""What is sent, on its way to the log: rows of one table of one model, by column in the journal.

A frame of the journal names its model, its table and its columns, so that it can be read without anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from kedge.collector.declared import Column, Columns, Declared, Row, Values
from kedge.store.journal import frame
from kedge.tables.appending import Table


@dataclass(slots=True)
class Taken:
    """Rows that were sent together, to be made durable: ``rows``, or a ``frame``."""

    model: str
    table: Table
    rows: Sequence[Row] = ()
    frame: bytes = b""
    """Of a batch, made at once: later its values would have left the processor's cache."""
    patient: bool = True
    """Whether the sender repeats what is refused; KServe's logger does not."""
    other: bool = False
    """Whether it is no prediction at all: an error, an explanation, a look at the metadata. Nothing is kept of it."""
    count: int = 1
    """Events."""
    left_out: int = 0
    """Of them, by sampling."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a frame holds."""

    model: str
    table: Table
    columns: Columns
    values: Values

    def frame(self) -> bytes:
        """The entry as it lies in the journal."""
        return frame(_head(self.model, self.table, self.columns) + b"\n" + orjson.dumps(self.values))


def frames(taken: Iterable[Taken], declared: Mapping[str, Declared]) -> bytes:
    """A group as it lies in the journal: a frame for each model and table of its rows, and those of its batches."""
    rows: dict[tuple[str, Table], list[Row]] = {}
    found = []
    for one in taken:
        if one.rows:
            rows.setdefault((one.model, one.table), []).extend(one.rows)
        found.append(one.frame)
    for (name, table), group in rows.items():
        found.append(frame_of(declared[name], table, list(zip(*group, strict=True))))
    return b"".join(found)


def frame_of(model: Declared, table: Table, values: Values) -> bytes:
    """Rows in a table's columns of today as they lie in the journal."""
    return Entry(model.name, table, model.columns[table], values).frame()


def decode(payload: memoryview) -> Entry:
    """The entry in a frame."""
    head, _, body = bytes(payload).partition(b"\n")
    model, table, columns = _described(head)
    return Entry(model, table, columns, orjson.loads(body))


@lru_cache(256)
def _head(model: str, table: Table, columns: Columns) -> bytes:
    return orjson.dumps([model, table, [list(column) for column in columns]])


@lru_cache(256)
def _described(head: bytes) -> tuple[str, Table, Columns]:
    model, table, columns = orjson.loads(head)
    return model, table, tuple(Column(*column) for column in columns)
