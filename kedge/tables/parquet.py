"""Parquet files: row groups outside the asked time are skipped by their statistics, the rest is read in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kedge.errors import DataError
from kedge.tables.columns import describe_missing
from kedge.tables.files import File, find
from kedge.tables.reader import BATCH_ROWS, Bounds, Piece


class ParquetReader:
    """One Parquet file, or all below a folder, or a pattern of them. See :class:`kedge.tables.reader.Reader`."""

    version = None

    def __init__(self, location: str) -> None:
        self.place = location
        self._files = find(location, (".parquet", ".pq"))
        self.names: list[str] = _opened(self._files[0]).schema_arrow.names

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:
        for file in self._files:
            yield from _pieces(file, columns, bounds)


def _pieces(file: File, columns: Sequence[str], bounds: Bounds | None) -> Iterator[Piece]:
    opened = _opened(file)
    names = opened.schema_arrow.names
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(describe_missing(missing, names, file.place))
    first = 1
    for group in range(opened.num_row_groups):
        if bounds is None or _may_hold(opened.metadata, group, bounds):
            yield from _group(file, opened, group, columns, first)
        first += opened.metadata.row_group(group).num_rows


def _group(file: File, opened: Any, group: int, columns: Sequence[str], first: int) -> Iterator[Piece]:
    try:
        for batch in opened.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=False):
            yield Piece(batch, file.place, first)
            first += batch.num_rows
    except (pa.ArrowException, OSError) as exc:
        place = f"{file.place}, after row {first - 1}"
        raise DataError(f"{place}: row group {group} is damaged: {_line(exc)}; write the file anew") from exc


def _opened(file: File) -> Any:
    try:
        return pq.ParquetFile(file.open())
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{file.place}: not a whole Parquet file: {_line(exc)}; write it anew") from exc


def _may_hold(metadata: Any, group: int, bounds: Bounds) -> bool:
    """Whether the row group's own statistics allow rows within the bounds; without statistics it may."""
    row_group = metadata.row_group(group)
    for index in range(row_group.num_columns):
        column = row_group.column(index)
        if column.path_in_schema == bounds.column:
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max or not isinstance(statistics.min, datetime):
                return True
            if statistics.null_count is None or statistics.null_count:
                return True
            oldest, newest = _aware(statistics.min), _aware(statistics.max)
            return (bounds.start is None or newest >= bounds.start) and (bounds.end is None or oldest < bounds.end)
    return True


def _aware(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _line(exc: BaseException) -> str:
    return str(exc).strip().split("\n", 1)[0].rstrip(".")
