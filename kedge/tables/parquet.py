"""Parquet files: row groups outside the asked time are skipped by their statistics, the rest is read in batches.

A few kilobytes may be gigabytes of rows. Where values repeat, fewer rows are read at once; a row group that repeats and
is too large once it is unpacked is refused. The sizes are those that the file says: one that lies about them takes what
memory the process has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from kedge.body import MAX_RATIO
from kedge.errors import DataError
from kedge.tables.columns import describe_missing, is_text
from kedge.tables.files import PARQUET, File, find
from kedge.tables.reader import BATCH_ROWS, COUNTED_ROWS, Bounds, Piece, TableReader, refuse_twice, spread_over

BATCH_BYTES = 64 << 20
"""Of the rows read at once, about."""
MAX_UNPACKED = 512 << 20
"""Bytes of a row group's columns that may be unpacked whatever the ratio: a page is unpacked whole."""
NUMBER_BYTES = 8
"""Of the widest number."""


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
        rows = min(batch_rows, _rows_at_once(file, opened, group, stored))
        for batch in opened.iter_batches(rows, row_groups=[group], columns=stored, use_threads=threads):
            for column in filter(_is_text, batch.columns):
                column.validate(full=True)  # Arrow trusts that text is UTF-8, and codes those of a dictionary
            yield with_constants(batch, said)
    except (pa.ArrowException, OSError) as exc:
        before = sum(opened.metadata.row_group(k).num_rows for k in range(group))
        place = f"{file.place}, after row {before}"
        raise DataError(f"{place}: row group {group} is damaged: {_line(exc)}; write the file anew") from exc


def refuse_unpacked(metadata: Any, group: int, columns: Sequence[str] | None, place: str) -> list[int]:
    """The chunks of a row group that belong to these columns; None: all.

    Raises:
        DataError: they are small because they repeat, and too large once they are unpacked.
    """
    row_group = metadata.row_group(group)
    every = [row_group.column(k) for k in range(row_group.num_columns)]
    chunks = [k for k, chunk in enumerate(every) if columns is None or _is_of(_path(chunk), columns)]
    packed = sum(every[k].total_compressed_size for k in chunks)
    size = sum(every[k].total_uncompressed_size for k in chunks)
    if size > max(MAX_UNPACKED, MAX_RATIO * packed):
        raise DataError(
            f"{place}: row group {group} has {size:,} bytes when it is unpacked, more than {MAX_RATIO} times its "
            f"{packed:,}, and may have {MAX_UNPACKED:,}; write it with a dictionary, or in smaller row groups"
        )
    return chunks


def _rows_at_once(file: File, opened: Any, group: int, columns: Sequence[str]) -> int:
    """So many rows of a row group that they take about BATCH_BYTES, however often one text repeats."""
    chunks = refuse_unpacked(opened.metadata, group, columns, file.place)
    row_group = opened.metadata.row_group(group)
    width, repeating = 0.0, []
    for k in chunks:
        chunk = row_group.column(k)
        width += chunk.num_values * max(NUMBER_BYTES, opened.schema.column(k).length) / max(1, row_group.num_rows)
        if chunk.physical_type == "BYTE_ARRAY":
            width += chunk.total_uncompressed_size / max(1, row_group.num_rows)
            repeating.append(chunk)
    if row_group.num_rows * sum(chunk.total_uncompressed_size for chunk in repeating) > BATCH_BYTES:
        longest = (_longest(file, opened, group, chunk) for chunk in repeating)
        width += sum(BATCH_BYTES >> 10 if each is None else each for each in longest)
    if width > MAX_UNPACKED:
        raise DataError(f"{file.place}: row group {group} has rows of {width:,.0f} bytes; {MAX_UNPACKED:,} may be")
    return max(1, int(BATCH_BYTES / max(1.0, width)))


def _longest(file: File, opened: Any, group: int, chunk: Any) -> int | None:
    """Bytes of the longest text that many rows may share, which each of them has once it is read; None: unknown."""
    name = _path(chunk)
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        return None
    if not chunk.has_dictionary_page:
        return 0
    encoded = _opened(file, opened.metadata, [name])
    first = next(encoded.iter_batches(1, row_groups=[group], columns=[name], use_threads=False)).column(0)
    while pa.types.is_struct(first.type):
        first = first.field(0)
    return pc.max(pc.binary_length(first.dictionary)).as_py() or 0 if pa.types.is_dictionary(first.type) else None


def rows_read_whole(path: str) -> int:
    """The rows of a local file of which another library reads all at once.

    Raises:
        DataError: it is not whole, or small because it repeats, and too large once it is read.
    """
    file = File(pafs.LocalFileSystem(), path, path)
    opened = _opened(file)
    for group in range(opened.num_row_groups):
        refuse_unpacked(opened.metadata, group, None, path)
        row_group = opened.metadata.row_group(group)
        chunks = [row_group.column(k) for k in range(row_group.num_columns)]
        texts = [chunk for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"]
        size = sum(chunk.num_values * (_longest(file, opened, group, chunk) or 0) for chunk in texts)
        if size > max(MAX_UNPACKED, MAX_RATIO * row_group.total_byte_size):
            raise DataError(f"{path}: row group {group} has {size:,} bytes of text that repeats")
    return int(opened.metadata.num_rows)


def _is_of(path: str, columns: Sequence[str]) -> bool:
    return path in columns or any(path.startswith(f"{name}.") for name in columns)


def _is_text(column: pa.Array) -> bool:
    return pa.types.is_dictionary(column.type) or is_text(column.type)


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
    except pa.ArrowNotImplementedError as exc:
        raise DataError(
            f"{file.place}: holds what Arrow does not read: {_line(exc)}; cast it to a common type"
        ) from exc
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
