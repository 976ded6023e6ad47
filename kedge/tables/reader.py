"""What a table format offers to those who read it. A new format is a new file that offers the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import pyarrow as pa

from kedge.errors import DataError

BATCH_ROWS = 65_536
COUNTED_ROWS = 32_768
"""Of a batch to be counted: so many that it costs its rows and not its calls, and several threads can hold one each."""
MAX_SAMPLED = 20
"""Files of a table that are looked at to learn what its columns are."""
SAMPLE_BYTES = 128 << 20
"""Of the texts and lists of a sample, about: what looks at them makes copies."""
WIDEST_OFFSET = timedelta(days=2)
"""More than two clocks of one moment can be apart."""


@dataclass(frozen=True)
class Piece:
    """Rows as the source holds them, and where they stand: ``place`` is a file or a table, ``first`` counts from 1."""

    rows: pa.RecordBatch
    place: str
    first: int


@dataclass(frozen=True)
class Bounds:
    """A time range ``[start, end)`` by the source's own time column: what a reader may skip without looking."""

    column: str
    start: datetime | None
    end: datetime | None
    known_at: datetime | None = None
    """Outcomes observed later are not known yet, where the source knows when each was; None: all are known."""
    unlabelled: bool = False
    """Whether rows without an outcome are wanted too, where the source could leave them out."""

    @property
    def earliest(self) -> str | None:
        """A day that no row within the bounds is before, as ISO 8601 text, in whatever offset its time is written.

        So short that text, dates and times compare with it alike, in any database.
        """
        return None if self.start is None else (self.start - WIDEST_OFFSET).date().isoformat()


class Reader(Protocol):
    """What a format offers. Rows come in the source's own types and order."""

    @property
    def place(self) -> str:
        """How a person finds it: a path, an address."""

    @property
    def names(self) -> list[str]:
        """The source's columns, each once; of several files those of the first."""

    @property
    def version(self) -> str | None:
        """What to ask for to read these very rows again, where the format knows versions."""

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:
        """The rows, at most 65,536 at a time; may leave out rows outside the bounds, and only those.

        Raises:
            DataError: a file lacks a column.
        """


class TableReader(Reader, Protocol):
    """What a format offers besides, of any table, whatever its columns mean."""

    @property
    def typed(self) -> bool:
        """Whether the source knows types; else all it holds is text."""

    def schema(self) -> pa.Schema:
        """Names and types; of several files those of the first."""

    def parts(self) -> Sequence[TableReader]:
        """The files, each a reader of its own; itself where it is one."""

    def batches(
        self, columns: Sequence[str], *, spread: bool = False, threads: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The rows to be counted, of these columns where a file has them; text may be dictionary-encoded.

        With ``spread`` the order is free, so that early batches come from all over the table where that costs nothing;
        with ``threads`` columns are decoded on several, where the format allows it.
        """


def refuse_twice(names: Sequence[str], place: str) -> None:
    """Raise DataError if two columns have one name: which of them is meant cannot be said."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        fix = "rename one of them" if twice else "give each a name; the first line must be that of the column names"
        raise DataError(f"{place}: has the column {twice!r} twice; {fix}")


def spread_over(count: int) -> list[int]:
    """0 to ``count - 1`` so that every beginning is spread over the whole: by the digits of the number, reversed.

    >>> spread_over(5)
    [0, 4, 2, 1, 3]
    """
    bits = max(1, (count - 1).bit_length())
    reversed_ = (int(f"{k:0{bits}b}"[::-1], 2) for k in range(1 << bits))
    return [k for k in reversed_ if k < count]


def sample(reader: TableReader, columns: Sequence[str], rows: int) -> tuple[list[Piece], bool]:
    """About so many rows from files all over the table, of these columns where a file has them; whether they are all.

    Of up to 20 files each gives its first rows, all alike; if that is all of some, the others give more. One file is
    open at a time, for what it decodes may be large. Where rows are large, there are fewer.
    """
    chosen = sampled(reader)
    found: dict[int, list[Piece]] = {}
    share, more = max(1, rows // len(chosen)), set(range(len(chosen)))
    ended: set[int] = set()
    room = SAMPLE_BYTES // len(chosen)
    while True:
        for place in sorted(more):
            part = chosen[place]
            pieces = part.pieces([name for name in columns if name in part.names])
            found[place], last = _first(pieces, share, room)
            ended |= {place} if last else set()
            if last or sum(_varying(piece.rows) for piece in found[place]) >= room:
                more.remove(place)
        spare = rows - sum(piece.rows.num_rows for pieces in found.values() for piece in pieces)
        if not more or spare < len(more):
            break
        share += spare // len(more)
    whole = len(ended) == len(reader.parts())
    return [piece for place in sorted(found) for piece in found[place]], whole


def _first(pieces: Iterator[Piece], rows: int, room: int) -> tuple[list[Piece], bool]:
    """So many rows, or bytes, without the memory of the others, and whether there are no others."""
    taken: list[Piece] = []
    left = rows
    for piece in pieces:
        if left == 0 or room <= 0:
            return taken, False
        some = piece.rows.slice(0, left)
        whole = some.num_rows == piece.rows.num_rows
        arrays = some.columns if whole else [pa.concat_arrays([column]) for column in some.columns]
        taken.append(Piece(pa.RecordBatch.from_arrays(arrays, schema=some.schema), piece.place, piece.first))
        if not whole:
            return taken, False
        left -= some.num_rows
        room -= _varying(some)
    return taken, True


def _varying(rows: pa.RecordBatch) -> int:
    """Bytes of the columns whose values may have any length."""
    return sum(column.nbytes for column in rows.columns if not pa.types.is_primitive(column.type))


def sampled(reader: TableReader) -> list[TableReader]:
    """At most 20 files from all over the table, the first and the last among them."""
    parts = reader.parts()
    return [parts[place] for place in evenly(len(parts))]


def evenly(count: int, most: int = MAX_SAMPLED) -> list[int]:
    """At most so many of the numbers from 0 to ``count - 1``, the first and the last among them.

    >>> evenly(7, 3), evenly(2, 3)
    ([0, 3, 6], [0, 1])
    """
    return list(range(count)) if count <= most else [k * (count - 1) // (most - 1) for k in range(most)]
