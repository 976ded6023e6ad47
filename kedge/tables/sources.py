"""A table somewhere, read in batches of one shape. Each format is a file of its own behind the protocol ``Reader``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.errors import DataError
from kedge.policy import Data, Model, RowTime, Source
from kedge.store import Store
from kedge.tables import columns as column_types
from kedge.tables.columns import FAULT, FILE, ID, ROW, TIME, TIMESTAMP, Kind
from kedge.tables.files import CSV, PARQUET, NothingThere, foreign, listed, refuse_system_file, unread
from kedge.tables.reader import Bounds, Piece, Reader, TableReader

if TYPE_CHECKING:
    from kedge.tables.stream import ArrowStream

MAX_TARGET_VALUES = 1000
MAX_TEXT_BYTES = 1024
"""Of the texts of a column on average: 65,536 rows and more are in memory at once."""
TEXTS_BYTES = 16 << 20
"""Fewer bytes are read whatever their texts have."""


@dataclass
class Table:
    """A training table in kedge's own shape: ``_time``, ``_id`` where rows have ids, the features, the target.

    See :mod:`kedge.tables.columns` for the types. ``rows_read`` and ``target_values`` say what the last pass saw.
    """

    reader: Reader
    kinds: dict[str, Kind]
    sources: dict[str, str]
    """Name inside -> name in the source; without ``_time`` when time goes by row number."""
    model: Model
    row_time: RowTime | None = None
    formats: Mapping[str, str] = field(default_factory=dict)
    """Name inside -> how text writes it."""
    rows_read: int = 0
    target_values: Counter[str] = field(default_factory=Counter)
    _drawn: NDArray[np.int64] | None = None
    """The order in which rows are dealt, where the policy asks for that."""

    @property
    def schema(self) -> pa.Schema:
        """Columns and types of the batches."""
        return pa.schema([(name, column_types.arrow_type(kind)) for name, kind in self.kinds.items()])

    @property
    def place(self) -> str:
        """How a person finds the table."""
        return self.reader.place

    @property
    def version(self) -> str | None:
        """The source's own version, where it has one (Delta)."""
        return self.reader.version

    def batches(
        self,
        columns: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        known_at: datetime | None = None,
        unlabelled: bool = False,
        provenance: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of ``[start, end)`` in the source's order, at most 65,536 at a time.

        Args:
            columns: Names inside; ``_time`` is always there. None: all.
            start, end: Aware times; None: no limit.
            known_at: The prediction log is read as it was known then; None: with all outcomes observed since.
            unlabelled: Read rows of the prediction log that have no outcome, too.
            provenance: Add ``_file``, ``_row`` (from 1) and ``_fault``: what could not be read in this row, or null.
                Without it such a row is an error.

        Raises:
            DataError: names file, row and column.
        """
        names = list(self.kinds) if columns is None else list(dict.fromkeys((TIME, *columns)))
        unknown = [name for name in names if name not in self.kinds]
        if unknown:
            raise DataError(column_types.describe_missing(unknown, list(self.kinds), self.place))
        wanted = list(dict.fromkeys(self.sources[name] for name in names if name in self.sources))
        bounds = None
        readable = TIME in self.sources and TIME not in self.formats  # to the source that holds it: 01.03. is no day
        if readable and (start or end or known_at or unlabelled):
            bounds = Bounds(self.sources[TIME], start, end, known_at, unlabelled)
        self.rows_read = 0
        self.target_values.clear()
        if self.row_time is not None and self.row_time.order == "drawn" and self._drawn is None:
            rows = sum(piece.rows.num_rows for piece in self.reader.pieces(list(self.sources.values())[:1]))
            self._drawn = np.random.default_rng(0).permutation(rows)
        for piece in self.reader.pieces(wanted, bounds):
            batch = self._converted(piece, names, provenance)
            self.rows_read += piece.rows.num_rows
            batch = _within(batch, start, end)
            if batch.num_rows:
                yield batch

    def _converted(self, piece: Piece, names: list[str], provenance: bool) -> pa.RecordBatch:
        arrays: dict[str, pa.Array] = {}
        faults: dict[int, list[str]] = {}
        for name in names:
            if name not in self.sources:
                arrays[name] = self._times_by_row(piece)
                continue
            raw = piece.rows.column(self.sources[name])
            arrays[name] = self._column(piece, name, raw, faults)
            if name == self.model.target and self.kinds[name] in ("positive", "class"):
                self._count_target(raw)
        if faults and not provenance:
            index = min(faults)
            raise DataError(f"{piece.place}, row {piece.first + index}: {'; '.join(faults[index])}")
        if provenance:
            count = piece.rows.num_rows
            said = ["; ".join(faults.get(index, ())) or None for index in range(count)] if faults else [None] * count
            arrays[FILE] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([piece.place]))
            arrays[ROW] = pa.array(np.arange(piece.first, piece.first + count, dtype=np.int64))
            arrays[FAULT] = pa.array(said, pa.string())
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _column(self, piece: Piece, name: str, raw: pa.Array, faults: dict[int, list[str]]) -> pa.Array:
        source = self.sources[name]
        try:
            labels = (self.model.positive_label, self.model.negative_label)
            read = column_types.convert(
                raw, self.kinds[name], *labels, classes=self.model.classes, format=self.formats.get(name)
            )
        except (DataError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
            raise DataError(f"{piece.place}: column {source!r} {exc}") from exc
        if pa.types.is_string(read.values.type) and read.values.nbytes > max(TEXTS_BYTES, MAX_TEXT_BYTES * len(raw)):
            long = f"texts of {read.values.nbytes // len(raw):,} bytes, of which {MAX_TEXT_BYTES:,} may be on average"
            place = f"{piece.place}, from row {piece.first} on: column {source!r}"
            raise DataError(f"{place} has {long}; shorten them, or leave the column out of the policy")
        private = name in self.model.features and self.model.features[name].privacy != "keep"
        for index in np.flatnonzero(read.wrong):
            value = "a private value" if private else _shown(raw[int(index)])
            faults.setdefault(int(index), []).append(f"column {source!r}: {value} {read.reason}")
        if name == TIME and read.values.null_count > read.wrong.sum():
            for index in np.flatnonzero(read.values.is_null().to_numpy(zero_copy_only=False) & ~read.wrong):
                faults.setdefault(int(index), []).append(f"column {source!r}: the time is missing")
        return read.values

    def _times_by_row(self, piece: Piece) -> pa.Array:
        assert self.row_time is not None
        start = self.row_time.start
        start = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
        first = np.datetime64(start.replace(tzinfo=None), "us")
        numbers = np.arange(self.rows_read, self.rows_read + piece.rows.num_rows, dtype=np.int64)
        if self._drawn is not None:
            numbers = self._drawn[numbers]
        step = round(self.row_time.step_seconds * 1e6)
        if start.timestamp() + (int(numbers.max(initial=0)) + 1) * self.row_time.step_seconds > column_types.LATEST:
            raise DataError(
                f"{piece.place}: data.row_time: row {int(numbers.max(initial=0)) + 1:,} would be after the year 9999; "
                "lower step_seconds"
            )
        return pa.array(first + numbers * np.timedelta64(step, "us")).cast(TIMESTAMP)

    def _count_target(self, raw: pa.Array) -> None:
        for item in pc.value_counts(column_types.countable(raw)):
            text = _text(item["values"])
            known = text in self.target_values or len(self.target_values) < MAX_TARGET_VALUES
            if item["values"].is_valid and known:
                self.target_values[text] += item["counts"].as_py()


def open_source(source: Source, data: Data, *, store: Store, model: Model) -> Table:
    """Open the training table a policy names; reads its columns' names, no rows.

    Raises:
        DataError: nothing there, not readable as this format, empty, or without a column the policy names.
    """
    if source.format == "log":
        from kedge.tables import served

        reader: Reader = served.LogReader(store, model, data)
        has_id, columns = True, {TIME: TIME, ID: ID, model.target: "_label"}
    else:
        reader = open_reader(source, "data.source.location")
        has_id = data.id_column is not None
        columns = model.columns
        if data.time_column is not None:
            columns[TIME] = data.time_column
        if data.id_column is not None:
            columns[ID] = data.id_column
    kinds = column_types.kinds(model, data, has_id=has_id)
    if source.format == "log":
        kinds[model.target] = "number"
    sources = {name: columns.get(name, name) for name in kinds if name != TIME or TIME in columns}
    missing = [column for column in sources.values() if column not in reader.names]
    if missing:
        said = column_types.describe_missing(list(sources.values()), reader.names, reader.place)
        fields = {field: column for field, column in column_types.fields_of(model, data).items() if column in missing}
        apart = [".".join(field) for field in fields if field[-1] in ("column", "target_column")]
        raise DataError(said + (f"; see {', '.join(apart)} in the policy" if apart else ""))
    formats = column_types.formats(model, data)
    return Table(reader=reader, kinds=kinds, sources=sources, model=model, row_time=data.row_time, formats=formats)


def open_reader(source: Source, field: str = "the location") -> TableReader:
    """Open any table by its format, whatever its columns mean: for labels, for profiles and for a first look.

    Args:
        field: What to check where nothing is there: the field of the policy that says where.

    Raises:
        DataError: nothing there, not readable as this format, or empty.
    """
    if source.format not in ("sql", "log"):
        refuse_system_file(source.location)
    try:
        return _opened(source)
    except NothingThere as exc:
        raise DataError(f"{exc}; check {field}") from exc


def _opened(source: Source) -> TableReader:
    match source.format:
        case "parquet":
            from kedge.tables import parquet

            return parquet.ParquetReader(source.location)
        case "csv":
            from kedge.tables import csv

            return csv.CsvReader(source.location)
        case "delta":
            from kedge.tables import delta

            return delta.DeltaReader(source.location)
        case "sql":
            from kedge.tables import sql

            return sql.SqlReader(source.location, source.query or "")
        case "log":
            raise DataError("the prediction log is a training table only; it has no other columns to read")


def open_table(table: str | Path | ArrowStream) -> TableReader:
    """Open a table by what lies at its address, or one that a library holds in memory.

    Raises:
        DataError: no table, of no format kedge reads, or not readable.
    """
    if isinstance(table, str | Path):
        return open_reader(source_at(str(table)))
    from kedge.tables.stream import ArrowStream, StreamReader, described

    if not isinstance(table, ArrowStream):
        way = next((f"; {call}() makes one of it" for call in ("collect", "to_frame") if hasattr(table, call)), "")
        raise DataError(f"a table is a path, or of pandas, Polars, DuckDB or Arrow; not {described(table)}{way}")
    return StreamReader(table)


def source_at(location: str) -> Source:
    """The format of a table by what lies at its address.

    Raises:
        DataError: nothing there, of no format kedge reads, or of several.
    """
    names = listed(location)
    endings = {"parquet": PARQUET, "csv": CSV}
    found = [kind for kind, ends in endings.items() if any(name.lower().endswith(ends) for name in names)]
    if any(name.startswith("_delta_log/") for name in names):
        return Source(format="delta", location=location)
    if len(found) > 1:
        raise DataError(
            f"{location}: holds Parquet and CSV files together; give a pattern such as '{location}/*.parquet'"
        )
    if found:
        return Source.model_validate({"format": found[0], "location": location})
    table = foreign(names)
    if table is not None or unread(names):
        raise DataError(
            f"{location}: {'is' if table or len(names) == 1 else 'holds'} {table[1] if table else unread(names)}"
        )
    raise DataError(
        f"{location}: no table there: neither Parquet ({', '.join(PARQUET)}), nor CSV ({', '.join(CSV)}), "
        "nor a Delta table (a folder with _delta_log)"
    )


def _within(batch: pa.RecordBatch, start: datetime | None, end: datetime | None) -> pa.RecordBatch:
    """Rows of ``[start, end)``; a row whose time could not be read stays, marked by its fault."""
    if start is None and end is None:
        return batch
    time = batch.column(TIME)
    keep: Any = None
    if start is not None:
        keep = pc.greater_equal(time, pa.scalar(start, TIMESTAMP))
    if end is not None:
        before = pc.less(time, pa.scalar(end, TIMESTAMP))
        keep = before if keep is None else pc.and_(keep, before)
    return batch if keep is None else batch.filter(pc.fill_null(keep, True))


def plain_value(value: pa.Scalar) -> object:
    """A value as Python has it, or what it is where Python has none, as of times in the year 100,000."""
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return f"a {value.type}"


def _text(value: pa.Scalar) -> str:
    return str(plain_value(value))


def _shown(value: pa.Scalar) -> str:
    text = _text(value)
    text = repr(text) if pa.types.is_string(value.type) else text
    return text if len(text) <= 60 else text[:57] + "..."
