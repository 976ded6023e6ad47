"""The rows of a table's file one by one, without pyarrow: JSON lines, CSV, Parquet.

Each row comes with where it stands. Nothing larger than a line, or a batch of Parquet, is in memory.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from arro3.core import DataType
from deltalake import DeltaTable, QueryBuilder, convert_to_deltalake

from kedge.body import UnreadableBody, shown
from kedge.tables import footer

MAX_ROWS = 5_000_000
MAX_LINE_BYTES = MAX_TEXT_BYTES = 64 << 10

Rows = Iterator[tuple[str, Any]]
"""Where a row stands, and the row: cells by their columns' names, or whatever the line holds."""


def from_lines(path: Path) -> Rows:
    """A file of JSON lines.

    Raises:
        UnreadableBody: a line is not JSON or too long.
    """
    for number, line in _lines(path):
        if line.strip():
            try:
                yield f"line {number}", orjson.loads(line)
            except orjson.JSONDecodeError as exc:
                raise UnreadableBody("malformed", f"line {number} is not JSON: {exc}") from None


def from_csv(path: Path, columns: Sequence[str], required: int) -> Rows:
    """These columns of a CSV file with a header, of which the first so many are required; cells are text.

    Raises:
        UnreadableBody: a required column is missing, or it is no such file.
    """
    reader = csv.reader((_decoded(number, line) for number, line in _lines(path)), strict=True)
    try:
        names = next(reader, [])
        _require(columns[:required], names)
        for values in reader:
            if values:
                if len(values) != len(names):
                    raise ValueError(f"{len(values)} cells, the header has {len(names)}")
                cells = dict(zip(names, values, strict=True))
                yield f"line {reader.line_num}", {name: cells[name] for name in columns if name in cells}
    except (csv.Error, ValueError) as exc:
        fault = f"not a CSV file with the columns {', '.join(columns)}: line {reader.line_num}: {exc}"
        raise UnreadableBody("malformed", fault) from None


def from_parquet(path: Path, columns: Sequence[str], required: int, max_bytes: int) -> Rows:
    """The same of a Parquet file of at most so many bytes unpacked, in no given order; the first column is an id.

    The file has to lie in a folder of its own, ending in ``.parquet``: Delta Lake, which reads it, writes down there
    what it found.

    Raises:
        UnreadableBody: a required column is missing, it is too large when it is read, or no such file.
    """
    try:
        if not DeltaTable.is_deltatable(str(path.parent)):
            footer.refuse_large(path, max_bytes)
            convert_to_deltalake(path.parent)
        table = DeltaTable(path.parent)
        kinds = {field.name: field.type.type for field in table.schema().fields}
        _require(columns[:required], list(kinds))
        present = [name for name in columns if name in kinds]
        _refuse_long(table, [name for name in present if kinds[name] in ("string", "binary")])
        for batch in table.scan(columns=present):
            cells = {name: batch[name] for name in present}
            if not DataType.is_string_view(cells[columns[0]].type):
                cells[columns[0]] = cells[columns[0]].cast(DataType.string())
            for values in zip(*(column.to_pylist() for column in cells.values()), strict=True):
                yield f"{columns[0]} {shown(values[0])}", dict(zip(present, values, strict=True))
    except UnreadableBody:
        raise
    except Exception as exc:  # noqa: BLE001  (Delta Lake and the Arrow below it have no exception in common)
        first = str(exc).strip().partition("\n")[0]
        fault = f"not a Parquet file with the columns {', '.join(columns)}: {first}"
        raise UnreadableBody("malformed", fault) from None


def _refuse_long(table: DeltaTable, texts: Sequence[str]) -> None:
    """A text that repeats is in a file once; each row that is read would have its own."""
    if (rows := table.count()) > MAX_ROWS:
        raise UnreadableBody("too-large", f"{rows:,} rows; send at most {MAX_ROWS:,} at once")
    for name in texts:
        query = QueryBuilder({"datafusion.execution.target_partitions": "1"}).register("rows", table)
        found = query.execute(f"SELECT max(octet_length({name})) AS length FROM rows").read_all()  # noqa: S608
        longest = found["length"].to_pylist()[0] or 0
        if longest > MAX_TEXT_BYTES:
            raise UnreadableBody("too-large", f"column {name!r} has a text of {longest:,} bytes")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file, each of bounded length."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise UnreadableBody("too-large", f"line {number} has more than {MAX_LINE_BYTES:,} bytes")
            yield number, line


def _decoded(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as exc:
        raise UnreadableBody("malformed", f"line {number} is not UTF-8: {exc.reason}") from None


def _require(required: Sequence[str], names: Sequence[str]) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise UnreadableBody("malformed", f"columns {missing} are missing; the file has {shown(', '.join(names))}")
