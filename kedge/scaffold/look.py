"""What the columns of a table hold, before anyone says what they mean."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge.decimals import spelled
from kedge.errors import DataError, UsageError
from kedge.policy import Source
from kedge.tables import columns as column_types
from kedge.tables import sources
from kedge.tables.columns import is_text, kind_of
from kedge.tables.reader import sample, sampled
from kedge.tables.scan import widened
from kedge.tables.untyped import LONG, READABLE, TextGuess

Kind = Literal["number", "integer", "boolean", "time", "text", "nothing", "other"]

MAX_ROWS = 200_000
MAX_TIMES = 1_000_000
MAX_VALUES = 1000
MIN_NUMBERED = 20
"""Fewer rows may be numbered by chance."""
DENSE = 1.25
"""So many numbers a row at most are those of a numbering with gaps."""
MONEY = (
    "AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KES|KRW|MXN|MYR|NGN|NOK|NZD|PEN|"
    "PHP|PKR|PLN|RON|RSD|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
"""Codes of currencies: PAL0708 holds none."""
NUMBERS = ("1,234.5", "1.234,5")
"""How text may write numbers: the policy's formats."""
DATES = (
    "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%b %d, %Y", "%b %d %Y", "%b-%d-%Y", "%a, %d %b %Y", "%a, %b %d, %Y",
    "%Y %b %d", "%a %b %d %H:%M:%S %Y", "[%d/%b/%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%d-%b-%y",
    "%d %b %y",
)  # fmt: skip
CLOCKS = (
    "", " %H:%M", " %H:%M:%S", "T%H:%M:%S", ", %H:%M", ", %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S GMT",
    " %H:%M:%S %z", ":%H:%M:%S %z", ":%H:%M:%S %z]", " %H:%M:%S.%f", " %I.%M.%S.%f %p", " %H:%M:%S.%f %z",
)  # fmt: skip
"""How text may write times that ISO 8601 does not know."""
DATED = (
    r"^\W*([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.]? ?([0-9]{1,2}|\pL{3,9})\.?[-/., ] ?[0-9]{4}"
    r"|\pL{3,9},? \pL{3,9} [0-9]{1,2} |Date\([0-9]+)"
)
CLOCKED = r"^[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?( ?[AaPp][Mm])?$"
"""What a person takes for a date, or for a time of day."""
EPOCHS = ("unix_seconds", "unix_milliseconds", "unix_microseconds", "unix_nanoseconds", "excel_days")
YEARS = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
RECENT = (datetime(1990, 1, 1, tzinfo=UTC), YEARS[1])
"""What a date is of, if texts are to be taken for dates; numbers for times."""
TIMELY = re.compile(
    r"(^|_)(at|ts|time|timestamp|date|datetime|day|dt|epoch|when|created|updated)(_|$)|[a-z](At|Time|Date|Ts|Timestamp)$",
    re.IGNORECASE,
)
"""Names of columns that hold times."""
DAY_NAMES = re.compile(r"da(y|te)|dt|when|created", re.IGNORECASE)
"""Such names of which a sheet may hold the days, as numbers of 46082's kind."""


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
    format: str = ""
    """How the source writes these numbers or times, where that is not as any program does."""
    resembles: Sequence[str] = ()
    """Of texts that look like numbers or times to a person: the formats that read them alike, several."""
    example: str = ""
    """One of the texts that look so, or are read by ``format``, or like times that no format reads."""
    timely: Literal["", "dates", "times of day"] = ""
    """What texts look like to a person that no format reads."""
    lacking: str = ""
    """A file that has no such column; what it holds is then not looked at."""
    running: bool = False
    """Whether it numbers the rows: whole numbers, each once, in steps of one."""
    ascending: bool = False
    """Whether the numbers only grow from row to row."""
    daily: bool = False
    """Whether its times are days, all at midnight."""
    fractional: bool = False
    """Whether whole numbers are stored, or written, in a way that has fractions too."""
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
    """The columns' values, as the source stores them; those with a format as what it reads."""

    def column(self, name: str) -> Column | None:
        """The column of this name, or None."""
        return next((column for column in self.columns if column.name == name), None)


def look(source: Source, formats: Mapping[str, str] | None = None) -> Look:
    """Look at 200,000 rows, from files all over the table.

    Args:
        formats: How columns write their numbers or times, where the user said it.

    Raises:
        DataError: unreadable, empty, or two files that disagree about a column.
        UsageError: a format is of no column, none, or does not read its column.
    """
    told = dict(formats or {})
    reader = sources.open_reader(source)
    files = sampled(reader)
    names = list(dict.fromkeys(name for file in files for name in file.names))
    pieces, whole = sample(reader, names, MAX_ROWS)
    rows = sum(piece.rows.num_rows for piece in pieces)
    if not rows:
        raise DataError(f"{source.location}: empty: not one row")
    if unknown := told.keys() - set(names):
        raise UsageError(f"--format {unknown.pop()!r}: no such column in {source.location}")
    columns, held = [], {}
    for name in names:
        lacking = next((file.place for file in files if name not in file.names), "")
        if lacking:
            columns.append(
                Column(
                    name=name, kind="other", rows=rows, missing=0, distinct=0, values={}, stored_as="", lacking=lacking
                )
            )
            continue
        values = _one(source, name, [piece.rows.column(name) for piece in pieces if piece.rows.num_rows])
        column, held[name] = _column(name, values, told.get(name))
        columns.append(column)
    return Look(source=source, rows=rows, whole=whole, columns=columns, held=held)


def rows_a_day(source: Source, column: str, format: str | None) -> float | None:
    """Rows over the time that they span, of at most the first million; None where that is less than a day."""
    rows, ends = 0, []
    for piece in sources.open_reader(source).pieces([column]):
        times = column_types.convert(piece.rows.column(column), "time", format=format).values
        ends += [time for time in pc.min_max(times).as_py().values() if time is not None]
        rows += len(times)
        if rows >= MAX_TIMES:
            break
    days = (max(ends) - min(ends)).total_seconds() / 86_400 if ends else 0
    return rows / days if days >= 1 else None


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


def _column(name: str, raw: pa.Array, told: str | None) -> tuple[Column, pa.Array]:
    """What a column holds, and its values: those that a format reads as that, all others as they are."""
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_string_view(raw.type):
        raw = raw.cast(pa.string())
    if pa.types.is_decimal32(raw.type) or pa.types.is_decimal64(raw.type):  # which not every function of Arrow takes
        raw = raw.cast(pa.decimal128(raw.type.precision, raw.type.scale))
    stored_as = str(raw.type)
    if is_text(raw.type):
        raw = pc.if_else(pc.equal(raw, ""), None, raw)  # a missing value, as it is where rows are read
    kind, read = _kind(raw)
    formats, example = _formats(name, raw, kind) if told is None else _told(name, raw, told)
    format, invalid = "", 0 if kind in ("nothing", "other", "text") else _unreadable(raw, read)
    fractional = _fractional(raw, formats[0][-2] if formats and formats[0] in NUMBERS else ".")
    if len(formats) == 1:
        format, formats = formats[0], []
        converted = column_types.convert(raw, "number" if format in NUMBERS else "time", format=format)
        invalid = int(converted.wrong.sum())
        kind, raw = _number(converted.values) if format in NUMBERS else ("time", converted.values)
        read = raw
    missing = len(raw) if kind == "nothing" else read.null_count
    counted = (
        {}
        if kind in ("nothing", "other")
        else _counted(read if kind == "time" or pa.types.is_duration(raw.type) else raw, kind)
    )
    least = most = math.nan
    running = ascending = False
    timely: Literal["", "dates", "times of day"] = ""
    if kind == "text" and not formats:
        timely, example = _timely(raw)
    if kind in ("number", "integer"):
        limits = pc.min_max(read).as_py()
        least, most = limits["min"], limits["max"]
    if kind == "integer":
        running, ascending = _numbering(read)
    daily = kind == "time" and pc.all(pc.equal(pc.floor_temporal(read, unit="day"), read)).as_py()
    column = Column(
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
        stored_as=stored_as,
        format=format,
        resembles=formats,
        example=example,
        timely=timely,
        running=running,
        ascending=ascending,
        daily=daily,
        fractional=kind == "integer" and fractional,
        invalid=invalid,
    )
    return column, raw


def _formats(name: str, raw: pa.Array, kind: Kind) -> tuple[list[str], str]:
    """The formats that read values which no program takes for a number or a time; none if there is no need to."""
    if kind == "text":
        texts = pc.drop_null(raw.unique().slice(0, MAX_VALUES))
        formats = _number_formats(texts) or _time_formats(texts) or _epochs(name, texts)
        punctuated = pc.index(texts, max(texts.to_pylist(), key=lambda text: len(re.sub(r"[\w\s]", "", text)))).as_py()
        return formats, texts[punctuated].as_py() if formats else ""
    if kind not in ("integer", "number") or pa.types.is_duration(raw.type):
        return [], ""
    numbers = pc.drop_null(column_types.countable(raw).unique().slice(0, MAX_VALUES))
    formats = (kind == "integer" and _numbers_dates(numbers)) or _epochs(name, numbers)
    return formats[:1], str(numbers[0]) if formats else ""


def _told(name: str, raw: pa.Array, format: str) -> tuple[list[str], str]:
    """The format that the user said, if it reads the values."""
    if format not in (*NUMBERS, *EPOCHS) and "%" not in format:
        said = f"a format is {NUMBERS[0]}, {NUMBERS[1]}, one of times such as %d/%m/%Y, or {', '.join(EPOCHS)}"
        raise UsageError(f"--format {name}={format}: {said}")
    values = pc.drop_null(column_types.countable(raw))
    read = column_types.convert(values, "number" if format in NUMBERS else "time", format=format)
    wrong = int(read.wrong.sum())
    if not len(values) or wrong > (1 - READABLE) * len(values):
        raise UsageError(f"--format {name}={format}: {wrong:,} of {len(values):,} values are not written so")
    return [format], str(values[0])


def _numbers_dates(numbers: pa.Array) -> list[str]:
    """The formats of dates such as 20260131, if these are some: of other numbers one of thirty would be."""
    if len(numbers) < MIN_NUMBERED or not (is_text(numbers.type) or pa.types.is_integer(numbers.type)):
        return []
    return [each for each in ("%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S") if _reads(numbers, each, YEARS)]


def _epochs(name: str, numbers: pa.Array) -> list[str]:
    """The unit in which numbers count from 1970 or as a sheet does, where the column's name says that they do."""
    likely = EPOCHS if DAY_NAMES.search(name) else EPOCHS[:-1]
    return [each for each in likely if TIMELY.search(name) and _reads(numbers, each, RECENT)][:1]


def _timely(raw: pa.Array) -> tuple[Literal["", "dates", "times of day"], str]:
    """What texts look like to a person that no format reads, and one of them."""
    texts = pc.drop_null(raw.unique().slice(0, MAX_VALUES))
    likely: tuple[tuple[Literal["dates", "times of day"], str], ...] = (("dates", DATED), ("times of day", CLOCKED))
    for kind, pattern in likely:
        if pc.sum(pc.match_substring_regex(texts, pattern)).as_py() >= READABLE * len(texts):
            return kind, texts[0].as_py()
    return "", ""


def _number_formats(texts: pa.Array) -> list[str]:
    zeros = pc.any(pc.match_substring_regex(texts, r"^[^0-9]*0[0-9]+\s*$")).as_py()  # 0110, A07
    if zeros or pc.all(pc.match_substring_regex(texts, LONG)).as_py() or _lettered(texts) > 1 - READABLE:
        return []
    read = {format: column_types.convert(texts, "number", format=format) for format in NUMBERS}
    shares = {format: each.wrong.mean() for format, each in read.items() if each.values.null_count < len(texts)}
    fits = [format for format in shares if shares[format] <= 1 - READABLE]
    fits = [format for format in fits if shares[format] == 0] or fits
    separated = pc.any(pc.match_substring_regex(texts, "[,.]")).as_py()
    return fits if separated else fits[:1]  # without separators both formats say the same


def _lettered(texts: pa.Array) -> float:
    """The share of texts that hold letters which are no money's."""
    texts = texts.filter(pc.invert(column_types.missing(texts)))
    other = pc.replace_substring_regex(texts, rf"(\b|[0-9])({MONEY})(\b|[0-9])", "")
    return float(pc.mean(pc.match_substring_regex(other, r"\p{L}")).as_py() or 0)


def _time_formats(texts: pa.Array) -> list[str]:
    some = texts.slice(0, 5)
    short = len(texts) < MIN_NUMBERED or not pc.all(pc.match_substring_regex(texts, r"\w\D[0-9]{2}\b")).as_py()
    dates = [date for date in DATES if "%y" not in date or not short]  # 1.2.3 is a version
    formats = (date + clock for date in dates for clock in CLOCKS)
    fits = [each for each in formats if _reads(some, each, YEARS) and _reads(texts, each, YEARS)]
    fits = [each for each in fits if ".%f" not in each or each.replace(".%f", "") not in fits]
    return [each for each in fits if not any(other in each and other != each for other in fits)]


def _reads(values: pa.Array, format: str, years: tuple[datetime, datetime]) -> bool:
    """Whether a format reads the values as times of such years."""
    read = column_types.convert(values, "time", format=format).values
    within = pc.and_(pc.greater_equal(read, years[0]), pc.less(read, years[1]))
    return bool(pc.sum(within).as_py() or 0) and pc.sum(within).as_py() >= READABLE * len(values)


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
    if is_text(kind):
        return _text(raw.dictionary_decode() if pa.types.is_dictionary(raw.type) else raw)
    return "other", raw


def _number(values: pa.Array) -> tuple[Kind, pa.Array]:
    """Integers or numbers; an infinity is none to a run either."""
    values = pc.if_else(pc.is_finite(values), values, None)
    numbers = values.drop_null().to_numpy(zero_copy_only=False)
    if not len(numbers):
        return "nothing", values
    whole = bool(np.all(numbers == np.trunc(numbers)))
    return ("integer" if whole else "number"), values


def _fractional(raw: pa.Array, sign: str) -> bool:
    """Whether whole numbers may have fractions next month: prices as 12.00, what pandas makes of integers with gaps."""
    if pa.types.is_decimal(raw.type):
        return bool(raw.type.scale > 0)
    if is_text(raw.type):
        return bool(pc.any(pc.match_substring(raw, sign)).as_py())
    return bool(pa.types.is_floating(raw.type))


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
        if not math.isinf(sort_key(text)[0]):  # nor words among numbers
            merged[number_text(text)] += count
    return dict(merged)


def sort_key(text: str) -> tuple[float, str]:
    """Numbers by size, then what is none by its letters."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def number_text(text: str) -> str:
    """A number as it is spelt here: 1.0 is 1; what is none, or has more digits than a float, stays as it is."""
    try:
        number = float(text)
    except ValueError:
        return text
    return spelled(number) if abs(number) < 2**53 else text
