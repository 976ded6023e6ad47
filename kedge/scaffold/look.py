"""What the columns of a table hold, before anyone says what they mean."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge.errors import DataError, UsageError
from kedge.policy import Source
from kedge.tables import columns as column_types
from kedge.tables import sources

Kind = Literal["number", "integer", "boolean", "time", "text", "nothing", "other"]

MAX_ROWS = 200_000
MAX_VALUES = 1000
RESEMBLES = {
    "a date": re.compile(r"\d{1,2}([./-])\d{1,2}\1(\d{4}|\d{2})([ T].*)?"),
    "a number with a decimal comma": re.compile(r"-?\d{1,3}(\.?\d{3})*,\d+"),
}
"""What a text may be to a person; kedge reads dates as 2026-05-01 and numbers as 0.25."""
READABLE = 0.99
"""Share of a text column's values that must read as a number, a time, true or false, for the column to be one."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """What one column holds in the rows looked at."""

    name: str
    kind: Kind
    """``nothing``: not one value; ``other``: lists, bytes and the like."""
    rows: int
    missing: int
    distinct: int
    least: float = math.nan
    """Smallest number."""
    most: float = math.nan
    values: Mapping[str, int]
    """The values as the source spells them -> rows, most frequent first; only if at most 1,000 differ."""
    stored_as: str
    """The source's own type."""
    resembles: str = ""
    """What texts look like to a person, a key of ``RESEMBLES``; empty: nothing known."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A table as seen."""

    source: Source
    rows: int
    whole: bool
    """Whether all rows were looked at."""
    columns: Sequence[Column]

    def column(self, name: str) -> Column | None:
        """The column of this name, or None."""
        return next((column for column in self.columns if column.name == name), None)


def source_of(table: str) -> Source:
    """The format of a table by what lies at its address.

    Raises:
        UsageError: nothing there, or of no format kedge reads.
    """
    path = Path(table)
    if "://" not in table and not path.exists() and not any(sign in table for sign in "*?["):
        raise UsageError(f"{table}: no such file or folder")
    if "://" not in table and path.is_dir():
        if (path / "_delta_log").is_dir():
            return Source(format="delta", location=table)
        names = [file.name for file in path.rglob("*") if file.is_file()]
    else:
        names = [table]
    for name in names:
        if name.endswith((".parquet", ".pq")):
            return Source(format="parquet", location=table)
        if name.endswith((".csv", ".tsv", ".csv.gz", ".csv.bz2", ".csv.zst")):
            return Source(format="csv", location=table)
    if table.startswith("s3://"):
        return Source(format="delta", location=table)
    raise UsageError(
        f"{table}: neither Parquet (.parquet), nor CSV (.csv, .tsv), nor a Delta table (a folder with _delta_log)"
    )


def look(source: Source) -> Look:
    """Look at the first 200,000 rows.

    Raises:
        DataError: unreadable, empty, or two files that disagree about a column.
    """
    reader = sources.open_reader(source)
    batches, count, whole = [], 0, True
    for piece in reader.pieces(reader.names):
        if count >= MAX_ROWS:
            whole = False
            break
        batches.append(pa.Table.from_batches([piece.rows]))
        count += piece.rows.num_rows
    if not count:
        raise DataError(f"{source.location}: empty: not one row")
    try:
        table = pa.concat_tables(batches, promote_options="permissive").slice(0, MAX_ROWS).combine_chunks()
    except pa.ArrowException as exc:
        raise DataError(f"{source.location}: its parts disagree about the columns' types: {exc}") from exc
    whole = whole and count <= MAX_ROWS
    columns = [_column(name, _one_array(table[name])) for name in reader.names]
    return Look(source=source, rows=table.num_rows, whole=whole, columns=columns)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)


def _column(name: str, raw: pa.Array) -> Column:
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
        raw = pc.if_else(pc.equal(raw, ""), None, raw)  # a missing value, as it is where rows are read
    kind, read = _kind(raw)
    missing = len(raw) if kind == "nothing" else read.null_count
    counted = {} if kind in ("nothing", "other") else _counted(raw, kind)
    least = most = math.nan
    if kind in ("number", "integer"):
        limits = pc.min_max(read).as_py()
        least, most = limits["min"], limits["max"]
    return Column(
        name=name,
        kind=kind,
        rows=len(raw),
        missing=missing,
        distinct=len(counted),
        least=least,
        most=most,
        values=dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
        if len(counted) <= MAX_VALUES
        else {},
        stored_as=str(raw.type),
        resembles=_resembles(counted) if kind == "text" else "",
    )


def _resembles(texts: Iterable[str]) -> str:
    some = list(islice(texts, MAX_VALUES))
    for what, pattern in RESEMBLES.items():
        if sum(bool(pattern.fullmatch(text.strip())) for text in some) >= READABLE * len(some):
            return what
    return ""


def _kind(raw: pa.Array) -> tuple[Kind, pa.Array]:
    """What a column is, and its values as that."""
    kind = raw.type.value_type if pa.types.is_dictionary(raw.type) else raw.type
    if raw.null_count == len(raw):
        return "nothing", raw
    if pa.types.is_boolean(kind):
        return "boolean", raw
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time", column_types.convert(raw, "time").values
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _number(column_types.convert(raw, "number").values)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _text(raw.dictionary_decode() if pa.types.is_dictionary(raw.type) else raw)
    return "other", raw


def _number(values: pa.Array) -> tuple[Kind, pa.Array]:
    numbers = values.drop_null().to_numpy(zero_copy_only=False)
    if not len(numbers):
        return "nothing", values
    whole = bool(np.all(np.isfinite(numbers)) and np.all(numbers == np.trunc(numbers)))
    return ("integer" if whole else "number"), values


def _text(raw: pa.Array) -> tuple[Kind, pa.Array]:
    if not pc.any(pc.match_substring_regex(raw, "^-?0[0-9]")).as_py():  # 01099 is a code, not a number
        numbers = _read_as(raw, "number")
        if numbers is not None:
            return _number(numbers)
    for kind in ("boolean", "time"):
        values = _read_as(raw, kind)
        if values is not None:
            return kind, values
    return "text", raw


def _read_as(raw: pa.Array, kind: Literal["number", "boolean", "time"]) -> pa.Array | None:
    """The values, if nearly all that are there read as this kind; a few are tried before all."""
    for sample in (raw.slice(0, 500), raw):
        read = column_types.convert(sample, kind)
        there = len(sample) - sample.null_count
        if int(read.wrong.sum()) > (1 - READABLE) * there or (there and read.values.null_count == len(sample)):
            return None
    return read.values


def _counted(raw: pa.Array, kind: Kind) -> dict[str, int]:
    missing = (None, *(() if kind == "text" else column_types.MISSING_NUMBERS))
    plain = raw.dictionary_decode() if pa.types.is_dictionary(raw.type) else raw
    counts = pc.value_counts(plain)
    values, rows = counts.field("values").to_pylist(), counts.field("counts").to_pylist()
    return {
        str(value): count for value, count in zip(values, rows, strict=True) if value not in missing and value == value
    }
