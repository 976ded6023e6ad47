"""What the columns of a table hold, before anyone says what they mean."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge.decimals import spelled
from kedge.errors import DataError
from kedge.policy import Source
from kedge.tables import columns as column_types
from kedge.tables import sources
from kedge.tables.columns import kind_of
from kedge.tables.reader import sample
from kedge.tables.scan import widened
from kedge.tables.untyped import READABLE, TextGuess

Kind = Literal["number", "integer", "boolean", "time", "text", "nothing", "other"]

MAX_ROWS = 200_000
MAX_VALUES = 1000
MIN_NUMBERED = 20
"""Fewer rows may be numbered by chance."""
DENSE = 1.25
"""So many numbers a row at most are those of a numbering with gaps."""
SIGN = r"[$€£¥%\s]*"
RESEMBLES = {
    "date": re.compile(r"\d{1,2}([./-])\d{1,2}\1(\d{4}|\d{2})([ T].*)?"),
    "1,234.5": re.compile(rf"{SIGN}[+-]?{SIGN}(\d{{1,3}}(,\d{{3}})+|\d+)(\.\d+)?{SIGN}"),
    "1.234,5": re.compile(rf"{SIGN}[+-]?{SIGN}(\d{{1,3}}(\.\d{{3}})+|\d+)(,\d+)?{SIGN}"),
}
"""What a text may be to a person: a date, or a number in one of the policy's formats."""


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
    """What texts look like to a person, keys of ``RESEMBLES`` with " or " between them; empty: nothing known."""
    example: str = ""
    """One of the texts that look so."""
    running: bool = False
    """Whether it numbers the rows: whole numbers, each once, in steps of one."""
    ascending: bool = False
    """Whether the numbers only grow from row to row."""
    invalid: int = 0
    """Values that are there and cannot be read as its kind."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A table as seen."""

    source: Source
    rows: int
    whole: bool
    """Whether all rows were looked at."""
    columns: Sequence[Column]
    held: Mapping[str, pa.Array] = field(repr=False)
    """The columns' values, as the source stores them."""

    def column(self, name: str) -> Column | None:
        """The column of this name, or None."""
        return next((column for column in self.columns if column.name == name), None)


def look(source: Source) -> Look:
    """Look at 200,000 rows, from files all over the table.

    Raises:
        DataError: unreadable, empty, or two files that disagree about a column.
    """
    reader = sources.open_reader(source)
    pieces, whole = sample(reader, reader.names, MAX_ROWS)
    for piece in pieces:
        missing = [name for name in reader.names if name not in piece.rows.schema.names]
        if missing:
            raise DataError(column_types.describe_missing(missing, piece.rows.schema.names, piece.place))
    rows = sum(piece.rows.num_rows for piece in pieces)
    if not rows:
        raise DataError(f"{source.location}: empty: not one row")
    held = {name: _one(source, name, [piece.rows.column(name) for piece in pieces]) for name in reader.names}
    columns = [_column(name, values) for name, values in held.items()]
    return Look(source=source, rows=rows, whole=whole, columns=columns, held=held)


def _one(source: Source, name: str, arrays: Sequence[pa.Array]) -> pa.Array:
    """A column's values as one array, whatever type each file stores them as."""
    arrays = [array.dictionary_decode() if pa.types.is_dictionary(array.type) else array for array in arrays]
    kind = widened([array.type for array in arrays])
    if kind is not None:
        return pa.concat_arrays([column_types.convert(array, kind).values for array in arrays])
    held = [array.type for array in arrays if not pa.types.is_null(array.type)]
    try:
        return pa.concat_arrays([array.cast(held[0]) if held else array for array in arrays])
    except pa.ArrowException as exc:
        names = " and ".join(sorted({str(each) for each in held}))
        raise DataError(f"{source.location}: column {name!r} holds {names} in different files") from exc


def _column(name: str, raw: pa.Array) -> Column:
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_string_view(raw.type):
        raw = raw.cast(pa.string())
    if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
        raw = pc.if_else(pc.equal(raw, ""), None, raw)  # a missing value, as it is where rows are read
    kind, read = _kind(raw)
    missing = len(raw) if kind == "nothing" else read.null_count
    counted = (
        {}
        if kind in ("nothing", "other")
        else _counted(read if kind == "time" or pa.types.is_duration(raw.type) else raw, kind)
    )
    least = most = math.nan
    running = ascending = False
    if kind in ("number", "integer"):
        limits = pc.min_max(read).as_py()
        least, most = limits["min"], limits["max"]
    if kind == "integer":
        running, ascending = _numbering(read)
    resembles, example = _resembles(counted) if kind == "text" else ("", "")
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
        resembles=resembles,
        example=example,
        running=running,
        ascending=ascending,
        invalid=0 if kind in ("nothing", "other", "text") else _unreadable(raw, read),
    )


def _resembles(texts: Iterable[str]) -> tuple[str, str]:
    """What texts look like to a person, and one of them that shows it."""
    some = [text.strip() for text in islice(texts, MAX_VALUES)]
    example = max(some, key=lambda text: len(re.sub(r"[\w\s]", "", text)), default="")
    fits = [
        what
        for what, pattern in RESEMBLES.items()
        if sum(bool(pattern.fullmatch(text)) for text in some) >= READABLE * len(some)
    ]
    if not re.search(r"[.,/$€£¥%-]", example):  # 0110 is a code
        return "", ""
    separated = any(sign in text for text in some for sign in ",.")
    kept = fits if separated and "date" not in fits else fits[:1]  # without separators both formats say the same
    return " or ".join(kept), example if kept else ""


def _numbering(numbers: pa.Array) -> tuple[bool, bool]:
    """Whether whole numbers number the rows, and whether they only grow."""
    values = numbers.drop_null().to_numpy()
    if len(values) < len(numbers) or len(values) < MIN_NUMBERED:
        return False, False
    steps = np.diff(values)
    ascending = bool((steps > 0).all())
    dense = values.max() - values.min() < DENSE * len(values) and len(np.unique(values)) == len(values)
    return bool(dense or (ascending and (steps == 1).mean() >= 1 / DENSE)), ascending


def _unreadable(raw: pa.Array, read: pa.Array) -> int:
    """Values that are there and were not read, but for the texts that mean none."""
    if raw.null_count == read.null_count:
        return 0
    missing = column_types.missing(raw)
    return int(pc.sum(pc.and_(pc.is_null(read), pc.invert(missing))).as_py() or 0)


def _kind(raw: pa.Array) -> tuple[Kind, pa.Array]:
    """What a column is, and its values as that."""
    kind = raw.type.value_type if pa.types.is_dictionary(raw.type) else raw.type
    if raw.null_count == len(raw):
        return "nothing", raw
    if pa.types.is_boolean(kind):
        return "boolean", raw
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time", column_types.convert(raw, "time").values
    if kind_of(kind) == "number":
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
    guess = TextGuess()
    guess.add(raw)
    match guess.kind:
        case None:
            return "nothing", raw
        case "number":
            return _number(column_types.convert(raw, "number").values)
        case "boolean" | "time" as kind:
            return kind, column_types.convert(raw, kind).values
        case _:
            return "text", raw


def _counted(raw: pa.Array, kind: Kind) -> dict[str, int]:
    """The values as the source spells them, numbers each once however spelt -> rows."""
    missing = (None, *(() if kind == "text" else column_types.MISSING_NUMBERS))
    plain = column_types.countable(raw)
    counts = pc.value_counts(plain)
    values, rows = counts.field("values").to_pylist(), counts.field("counts").to_pylist()
    found = {
        str(value): count for value, count in zip(values, rows, strict=True) if value not in missing and value == value
    }
    if kind not in ("number", "integer") or pa.types.is_integer(plain.type) or len(found) > MAX_VALUES:
        return found
    merged: Counter[str] = Counter()
    for text, count in found.items():
        merged[number_text(text)] += count
    return dict(merged)


def sort_key(text: str) -> tuple[float, str]:
    """Numbers by size, then what is none by its letters."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def number_text(text: str) -> str:
    """A number as it is spelt here: 1.0 is 1; what is none stays as it is."""
    try:
        return spelled(float(text))
    except ValueError:
        return text
