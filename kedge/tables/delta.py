"""Delta Lake tables, read at the version they had when opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from arro3.core import RecordBatchReader, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from kedge.clouds import place_of, reason
from kedge.errors import DataError
from kedge.tables.commits import bad_checkpoint, checkpoint_files, last_checkpoint, opened
from kedge.tables.files import NothingThere, refuse_system_file
from kedge.tables.parquet import BATCH_BYTES, refuse_unpacked, rows_read_whole
from kedge.tables.reader import BATCH_ROWS, Bounds, Piece, TableReader


class DeltaReader:
    """A Delta table in a folder or in object storage. See :class:`kedge.tables.reader.Reader`."""

    typed = True

    def __init__(self, location: str) -> None:
        self.place = location
        options = place_of(location).options if "://" in location else {}
        if "://" not in location:
            _refuse_checkpoint(Path(location, "_delta_log"))
        try:
            self._table = opened(location, options)
            names = [] if "://" in location else list(self._table.get_add_actions(flatten=True)["path"].to_pylist())
        except TableNotFoundError as exc:
            raise NothingThere(f"{location}: no Delta table there (no _delta_log)") from exc
        except (DeltaError, OSError) as exc:
            raise DataError(f"{location}: the Delta table cannot be opened: {_said(location, exc)}") from exc
        self._files = [Path(location, unquote(name).removeprefix("file://")) for name in names]
        for path in self._files:
            refuse_system_file(str(path))
        self.names: list[str] = [field.name for field in self._table.schema().fields]
        self.version: str | None = str(self._table.version())

    def schema(self) -> pa.Schema:
        try:
            return _readable(self._table.scan(columns=None))[1]
        except DeltaError as exc:
            raise DataError(f"{self.place}: cannot be read: {_said(self.place, exc)}") from exc

    def parts(self) -> Sequence[TableReader]:
        return [self]

    def batches(self, columns: Sequence[str], **_: bool) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches([name for name in columns if name in self.names], None)
        except Exception as exc:  # its engine raises under several names
            raise DataError(f"{self.place} version {self.version}: cannot be read: {_said(self.place, exc)}") from exc

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:
        place, first, condition = f"{self.place} version {self.version}", 1, None
        if bounds is not None and bounds.earliest is not None:
            name = '"{}"'.format(bounds.column.replace('"', '""'))
            condition = f"{name} >= '{bounds.earliest}' OR {name} IS NULL"
            place += f" from {bounds.earliest}"
        try:
            for batch in self._batches(columns, condition):
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    rows = batch.slice(start, BATCH_ROWS)
                    yield Piece(rows, place, first)
                    first += rows.num_rows
        except (DeltaError, pa.ArrowException, OSError) as exc:
            raise DataError(f"{place}, after row {first - 1}: cannot be read: {_said(self.place, exc)}") from exc

    def _batches(self, columns: Sequence[str], condition: str | None) -> Iterator[Any]:
        """The engine's scan knows deletion vectors and column mapping; plain Arrow readers of the files do not.

        It opens no file whose statistics or partition rule the condition out.

        Pulled through pyarrow, which lets other threads run while it waits for the disk or the network.
        """
        for path in self._files:
            _refuse_unpacked(path, columns)
        stream, plain = _readable(self._table.scan(columns=list(columns), predicate=condition))
        for batch in stream:
            rows = max(1, BATCH_BYTES // max(1, sum(map(_longest, batch.columns))))
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows).cast(plain)


def _said(location: str, exc: Exception) -> str:
    """The engine's words; of a table that needs what it does not know, what that is and the way from there."""
    lacking = re.search(r"Unsupported table features required: \[(.+?)\]", str(exc))
    if lacking is None:
        return reason(location, exc)
    return (
        f"the table needs {lacking[1]}, which is not read here; drop it (ALTER TABLE ... DROP FEATURE), or export the "
        "table to Parquet"
    )


def _refuse_checkpoint(log: Path) -> None:
    """Raise DataError if the checkpoint, which the engine reads whole, has other rows than was written, or too much."""
    said = last_checkpoint(log)
    files = checkpoint_files(log, said.get("version"))
    try:
        rows = sum(rows_read_whole(str(path)) for path in files)
    except DataError as exc:
        raise DataError(f"{log.parent}: {bad_checkpoint(str(exc))}") from exc
    if files and said.get("size") not in (None, rows, sum(path.stat().st_size for path in files)):
        what = f"{files[0].name} has {rows:,} rows, _last_checkpoint says {said['size']}"
        raise DataError(f"{log.parent}: {bad_checkpoint(what)}")


def _refuse_unpacked(path: Path, columns: Sequence[str] | None) -> None:
    """Raise DataError if a file is small because it repeats, and too large once it is unpacked."""
    with suppress(OSError, pa.ArrowException):  # the engine says it better
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            refuse_unpacked(metadata, group, columns, str(path))


def _longest(column: pa.Array) -> int:
    """Bytes of the longest text: rows that repeat one share it in the engine's views, and each has its own as text."""
    if not pa.types.is_string_view(column.type):
        return 0
    lengths = np.frombuffer(column.buffers()[1], "<i4")[::4]  # a view is 16 bytes, the first 4 are the length
    return int(lengths[column.offset : column.offset + len(column)].max(initial=0))


def _readable(scanned: Any) -> tuple[pa.RecordBatchReader, pa.Schema]:
    """The engine's rows, and the types to have them in: its views of text are strings, its UUIDs are those of Arrow."""
    marked = {each.name: each.metadata.get(b"ARROW:extension:name") for each in scanned.schema}
    if b"arrow.uuid" in marked.values():  # in views of bytes, which Arrow takes for no UUIDs
        bare = Schema([each.remove_metadata() for each in scanned.schema])
        scanned = RecordBatchReader.from_batches(bare, (batch.with_schema(bare) for batch in scanned))
    stream = pa.RecordBatchReader.from_stream(scanned)
    kinds = [pa.uuid() if marked[each.name] == b"arrow.uuid" else _plain(each.type) for each in stream.schema]
    return stream, pa.schema([each.with_type(kind) for each, kind in zip(stream.schema, kinds, strict=True)])


def _plain(kind: pa.DataType) -> pa.DataType:
    """The engine's string views as strings: not every Arrow function takes views."""
    return pa.string() if pa.types.is_string_view(kind) else kind
