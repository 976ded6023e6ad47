"""Parquet files: row groups outside the asked time are skipped by their statistics, the rest is read in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from kedge.errors import DataError
from kedge.tables.columns import describe_missing
from kedge.tables.files import PARQUET, File, find
from kedge.tables.reader import BATCH_ROWS, COUNTED_ROWS, Bounds, Piece, TableReader, refuse_twice, spread_over


class ParquetReader:
    """One Parquet file, or all below a folder, or a pattern of them. See :class:`kedge.tables.reader.Reader`."""

    version = None
    typed = True

    def __init__(self, location: str, files: Sequence[File] | None = None) -> None:
        self.place = location
        self._files = find(location, PARQUET) if files is None else files

    @cached_property
    def names(self) -> list[str]:
        return list(self.schema().names)

    def schema(self) -> pa.Schema:
        file = self._files[0]
        return _with_partition(_opened(file).schema_arrow, file.partition)

    def parts(self) -> Sequence[TableReader]:
        return [ParquetReader(file.place, [file]) for file in self._files]

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:
        for file in self._files:
            yield from _pieces(file, columns, bounds)

    def batches(
        self, columns: Sequence[str], *, spread: bool = False, threads: bool = False
    ) -> Iterator[pa.RecordBatch]:
        for file, groups in self._groups(spread):
            opened = _encoded(file)
            for group in range(opened.num_row_groups) if groups is None else groups:
                yield from _read(file, opened, group, columns, COUNTED_ROWS, threads)

    def _groups(self, spread: bool) -> Iterator[tuple[File, list[int] | None]]:
        """Files with the row groups to read at one go, None for all of them in order."""
        if not spread:
            yield from ((file, None) for file in self._files)
            return
        groups = [(file, group) for file in self._files for group in range(_opened(file).num_row_groups)]
        chosen = (groups[place] for place in spread_over(len(groups)))
        for _, together in groupby(chosen, key=lambda each: each[0].path):
            pairs = list(together)
            yield pairs[0][0], [group for _, group in pairs]


def _pieces(file: File, columns: Sequence[str], bounds: Bounds | None) -> Iterator[Piece]:
    opened = _opened(file)
    names = _with_partition(opened.schema_arrow, file.partition).names
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(describe_missing(missing, names, file.place))
    first = 1
    for group in range(opened.num_row_groups):
        if bounds is None or _may_hold(opened.metadata, group, bounds):
            start = first
            for batch in _read(file, opened, group, columns, BATCH_ROWS):
                yield Piece(batch, file.place, start)
                start += batch.num_rows
        first += opened.metadata.row_group(group).num_rows


def _read(
    file: File, opened: Any, group: int, columns: Sequence[str], batch_rows: int, threads: bool = False
) -> Iterator[pa.RecordBatch]:
    """The rows of a row group, of these columns where the file or its folders have them."""
    stored = [name for name in columns if name in opened.schema_arrow.names]
    said = {name: file.partition[name] for name in columns if name not in stored and name in file.partition}
    try:
        for batch in opened.iter_batches(batch_rows, row_groups=[group], columns=stored, use_threads=threads):
            for column in filter(_is_text, batch.columns):
                column.validate(full=True)  # Arrow trusts that text is UTF-8, and codes those of a dictionary
            yield with_constants(batch, said)
    except (pa.ArrowException, OSError) as exc:
        before = sum(opened.metadata.row_group(k).num_rows for k in range(group))
        place = f"{file.place}, after row {before}"
        raise DataError(f"{place}: row group {group} is damaged: {_line(exc)}; write the file anew") from exc


def _is_text(column: pa.Array) -> bool:
    return pa.types.is_dictionary(column.type) or column.type in (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
    )


def with_constants(batch: pa.RecordBatch, values: Mapping[str, str | None]) -> pa.RecordBatch:
    """The batch with columns of one text each."""
    for name, value in values.items():
        batch = batch.append_column(name, pa.repeat(pa.scalar(value, pa.string()), batch.num_rows))
    return batch


def _with_partition(stored: pa.Schema, partition: Mapping[str, str | None]) -> pa.Schema:
    said = [pa.field(name, pa.string()) for name in partition if name not in stored.names]
    return pa.schema([*said, *stored])


def _opened(file: File, metadata: Any = None, dictionary: Sequence[str] = ()) -> Any:
    """The file; with ``dictionary`` the text of these columns stays encoded."""
    try:
        opened = pq.ParquetFile(
            file.open(),
            metadata=metadata,
            read_dictionary=list(dictionary),
            coerce_int96_timestamp_unit="us",  # of nanoseconds, the years before 1677 and after 2262 would be others
            buffer_size=1 << 16 if isinstance(file.system, pafs.LocalFileSystem) else 1 << 20,
            page_checksum_verification=True,
        )
    except (pa.ArrowException, UnicodeDecodeError, OSError) as exc:
        raise DataError(f"{file.place}: not a whole Parquet file: {_line(exc)}; write it anew") from exc
    refuse_twice(opened.schema_arrow.names, file.place)
    return opened


def _encoded(file: File) -> Any:
    """The file opened so that text stays dictionary-encoded: its values are counted by code."""
    plain = _opened(file)
    text = [column.name for column in plain.schema_arrow if column.type in (pa.string(), pa.large_string())]
    return _opened(file, plain.metadata, text)


def _may_hold(metadata: Any, group: int, bounds: Bounds) -> bool:
    """Whether the row group's own statistics allow rows within the bounds; without statistics it may."""
    row_group = metadata.row_group(group)
    for index in range(row_group.num_columns):
        column = row_group.column(index)
        if _path(column) == bounds.column:
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max or statistics.null_count != 0:
                return True
            try:
                oldest, newest = statistics.min, statistics.max
            except (OverflowError, ValueError):  # beyond the years of Python
                return True
            if not isinstance(oldest, datetime) or not isinstance(newest, datetime):
                return True
            oldest, newest = _aware(oldest), _aware(newest)
            return (bounds.start is None or newest >= bounds.start) and (bounds.end is None or oldest < bounds.end)
    return True


def _path(column: Any) -> str:
    try:
        return str(column.path_in_schema)
    except UnicodeDecodeError:  # a damaged name, which is none of those asked for
        return ""


def _aware(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _line(exc: BaseException) -> str:
    return str(exc).strip().split("\n", 1)[0].rstrip(".")
