"""What a table format offers to those who read it. A new format is a new file that offers the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import pyarrow as pa

BATCH_ROWS = 65_536
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
        """The source's columns."""

    @property
    def version(self) -> str | None:
        """What to ask for to read these very rows again, where the format knows versions."""

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:
        """The rows, at most 65,536 at a time; may leave out rows outside the bounds, and only those."""
