"""Reading any table for profiles: Parquet, CSV, Delta or in memory, columns as they are, as fast as they decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from kedge.errors import DataError

if TYPE_CHECKING:
    from kedge.tables.stream import ArrowStream

BATCH_ROWS = 32_768
"""Large enough that a batch costs its rows and not its calls; small enough for several threads to hold one each."""
PARQUET, CSV = (".parquet", ".pq"), (".csv", ".csv.gz", ".tsv")


class Table(Protocol):
    """A table that can be read once from its start, in batches."""

    def schema(self) -> pa.Schema:
        """Names and types; of several files, those of the first."""

    def batches(
        self, columns: Sequence[str] | None = None, *, spread: bool = False, threads: bool = True
    ) -> Iterator[pa.RecordBatch]:
        """The rows, of these columns where a file has them (default: all).

        With ``spread`` the order is free, so that early batches come from all over the table where that costs nothing;
        with ``threads`` columns are decoded on several, where the format allows it.
        """


def open_table(source: str | Path | ArrowStream) -> Table:
    """Open a Parquet or CSV file, a folder or a pattern of them, a Delta table, or one that a library holds in memory.

    Raises:
        DataError: nothing is there, or it is none of these.
    """
    if not isinstance(source, str | Path):
        from kedge.tables.stream import ArrowStream, StreamTable, described

        if not isinstance(source, ArrowStream):
            raise DataError(f"a table is a path, or of pandas, Polars, DuckDB or Arrow; not {described(source)}")
        return StreamTable(source)
    location, path = str(source), Path(source)
    if "://" in location or (path / "_delta_log").is_dir():
        return _Delta(location)
    files = _files(path)
    if files[0].name.endswith(PARQUET):
        return _Parquet(files)
    return _Csv(files)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if not path.name.endswith(PARQUET + CSV):
            raise DataError(f"{path}: a table is a {', '.join(PARQUET + CSV)} file, a folder of them, or a Delta table")
        return [path]
    if path.is_dir():
        inside = (file for file in path.rglob("*") if not any(p.startswith((".", "_")) for p in file.parts[-2:]))
        found = sorted(file for file in inside if file.name.endswith(PARQUET + CSV))
    else:
        found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))) if "*" in str(path) else []
    if not found:
        raise DataError(
            f"{path}: no such table; give a {', '.join(PARQUET + CSV)} file, a folder of them, or a Delta table"
        )
    if len({file.name.endswith(PARQUET) for file in found}) > 1:
        raise DataError(f"{path}: holds Parquet and CSV files together; give a pattern such as '{path}/*.parquet'")
    return found


@dataclass(frozen=True)
class _Parquet:
    files: list[Path]

    def schema(self) -> pa.Schema:
        return _opened(self.files[0], []).schema_arrow

    def batches(
        self, columns: Sequence[str] | None = None, *, spread: bool = False, threads: bool = True
    ) -> Iterator[pa.RecordBatch]:
        for path, groups in self._parts(spread):
            file = _encoded(path)
            wanted = None if columns is None else [n for n in columns if n in file.schema_arrow.names]
            for group in range(file.num_row_groups) if groups is None else groups:
                yield from _group(path, file, group, wanted, threads)

    def _parts(self, spread: bool) -> Iterator[tuple[Path, list[int] | None]]:
        """Files with the row groups to read at one go, None for all of them in order."""
        if not spread:
            yield from ((path, None) for path in self.files)
            return
        parts = [(file, group) for file in self.files for group in range(_opened(file, []).num_row_groups)]
        for path, chosen in groupby((parts[place] for place in _spread(len(parts))), key=itemgetter(0)):
            yield path, [group for _, group in chosen]


def _group(path: Path, file: Any, group: int, columns: list[str] | None, threads: bool) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=threads)
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{path}: row group {group} is damaged: {_line(exc)}; write the file anew") from exc


def _encoded(path: Path) -> Any:
    """The file opened so that text stays dictionary-encoded: its values are counted by code."""
    plain = _opened(path, [])
    text = [column.name for column in plain.schema_arrow if column.type in (pa.string(), pa.large_string())]
    return _opened(path, text, plain.metadata)


def _opened(path: Path, dictionary: list[str], metadata: Any = None) -> Any:
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(
            path,
            metadata=metadata,
            read_dictionary=dictionary,
            buffer_size=1 << 16,
            page_checksum_verification=True,
        )
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{path}: not a whole Parquet file: {_line(exc)}; write it anew") from exc


def _spread(count: int) -> list[int]:
    """0 to ``count - 1`` so that every beginning is spread over the whole: by the digits of the number, reversed.

    >>> _spread(5)
    [0, 4, 2, 1, 3]
    """
    bits = max(1, (count - 1).bit_length())
    reversed_ = (int(f"{k:0{bits}b}"[::-1], 2) for k in range(1 << bits))
    return [k for k in reversed_ if k < count]


@dataclass(frozen=True)
class _Csv:
    files: list[Path]

    def schema(self) -> pa.Schema:
        first = self.files[0]
        batch = next(self._read(first, None), None)
        if batch is None:
            raise DataError(f"{first}: empty: not one row")
        return batch.schema

    def batches(self, columns: Sequence[str] | None = None, **_: bool) -> Iterator[pa.RecordBatch]:
        for path in self.files:
            yield from self._read(path, columns)

    def _read(self, path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        import pyarrow.csv as pa_csv

        options = pa_csv.ParseOptions(delimiter=_delimiter(path))
        try:
            reader = pa_csv.open_csv(path, parse_options=options)
            if any(pa.types.is_binary(column.type) for column in reader.schema):  # what Arrow makes of other encodings
                _refuse_bad_bytes(path)
            known = None if columns is None else [name for name in columns if name in reader.schema.names]
            for batch in reader:
                yield batch if known is None else batch.select(known)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
            _refuse_bad_bytes(path)
            raise DataError(f"{path}: not readable as CSV: {_line(exc)}") from exc


def _delimiter(path: Path) -> str:
    from kedge.tables.csv import header
    from kedge.tables.files import find

    return header(find(str(path), CSV)[0])[1]


def _refuse_bad_bytes(path: Path) -> None:
    from kedge.tables.csv import refuse_bad_bytes
    from kedge.tables.files import find

    for file in find(str(path), CSV):
        refuse_bad_bytes(file)


@dataclass(frozen=True)
class _Delta:
    location: str

    def schema(self) -> pa.Schema:
        return pa.RecordBatchReader.from_stream(self._opened().scan(columns=None)).schema

    def batches(self, columns: Sequence[str] | None = None, **_: bool) -> Iterator[pa.RecordBatch]:
        table = self._opened()
        names = [field.name for field in table.schema().fields]
        known = None if columns is None else [name for name in columns if name in names]
        try:
            yield from pa.RecordBatchReader.from_stream(table.scan(columns=known))
        except Exception as exc:  # deltalake raises its engine's errors under several names
            raise DataError(f"{self.location}: the Delta table cannot be read: {_line(exc)}") from exc

    def _opened(self) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        from kedge.store.objects import storage_options

        try:
            return DeltaTable(self.location, storage_options=storage_options() if "://" in self.location else None)
        except (DeltaError, OSError) as exc:
            raise DataError(f"{self.location}: not a Delta table that can be opened: {_line(exc)}") from exc


def _line(exc: BaseException) -> str:
    return str(exc).strip().split("\n", 1)[0].rstrip(".")
