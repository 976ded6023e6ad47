"""Delta Lake tables, read at the version they had when opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from arro3.core import RecordBatchReader, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from kedge.clouds import place_of, reason
from kedge.errors import DataError
from kedge.tables.commits import opened
from kedge.tables.files import refuse_system_file
from kedge.tables.reader import BATCH_ROWS, Bounds, Piece, TableReader


class DeltaReader:
    """A Delta table in a folder or in object storage. See :class:`kedge.tables.reader.Reader`."""

    typed = True

    def __init__(self, location: str) -> None:
        self.place = location
        options = place_of(location).options if "://" in location else {}
        try:
            self._table = opened(location, options)
        except TableNotFoundError as exc:
            raise DataError(f"{location}: no Delta table there (no _delta_log); check data.source.location") from exc
        except (DeltaError, OSError) as exc:
            raise DataError(f"{location}: the Delta table cannot be opened: {reason(location, exc)}") from exc
        if "://" not in location:
            for name in self._table.get_add_actions(flatten=True)["path"].to_pylist():
                refuse_system_file(str(Path(location, unquote(name).removeprefix("file://"))))
        self.names: list[str] = [field.name for field in self._table.schema().fields]
        self.version: str | None = str(self._table.version())

    def schema(self) -> pa.Schema:
        return _readable(self._table.scan(columns=None))[1]

    def parts(self) -> Sequence[TableReader]:
        return [self]

    def batches(self, columns: Sequence[str], **_: bool) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches([name for name in columns if name in self.names], None)
        except Exception as exc:  # its engine raises under several names
            raise DataError(f"{self.place} version {self.version}: cannot be read: {reason(self.place, exc)}") from exc

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
            raise DataError(f"{place}, after row {first - 1}: cannot be read: {reason(self.place, exc)}") from exc

    def _batches(self, columns: Sequence[str], condition: str | None) -> Iterator[Any]:
        """The engine's scan knows deletion vectors and column mapping; plain Arrow readers of the files do not.

        It opens no file whose statistics or partition rule the condition out.

        Pulled through pyarrow, which lets other threads run while it waits for the disk or the network.
        """
        stream, plain = _readable(self._table.scan(columns=list(columns), predicate=condition))
        for batch in stream:
            yield batch.cast(plain)


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
