"""From a column as a source holds it to the column kedge works with, and what is wrong with each value.

Every table has one shape inside, that of the prediction log: ``_time`` timestamp[us, UTC], ``_id`` string, numbers,
integers and booleans as double, categories as string, the target as double (binary: 1.0 if positive; several
classes: the place of the class). Null, NaN and, in
text, an empty value all mean missing. Equal values are equal inside, whatever type, unit or width held them: durations
are seconds, 0.1 in 32 bits is 0.1, the decimal 3.00 and the float 3.0 are the id and the category 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.decimals import A_SECOND, digits_of, nearest, seconds, spelled, widened
from kedge.errors import DataError, some
from kedge.policy import Data, Model

TIME, ID, FILE, ROW, FAULT = "_time", "_id", "_file", "_row", "_fault"
TIMESTAMP = pa.timestamp("us", tz="UTC")
# fmt: off
MISSING_NUMBERS = (
    "", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "NaT", "null", "NULL", "None", "\\N",
    "-", "--", ".", "?", "#NA", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?", "#NULL!", "(null)", "<null>", "N.A.",
    "Null",
)
"""Texts that mean "no value" where a number, a boolean or a time is read: what pandas, R, Excel, SAS, MySQL and Hive
write. For a category only "" does: NA is Namibia; for an outcome of declared classes, what is none of them."""
# fmt: on
SINCE_1970 = {
    "unix_seconds": 10**6,
    "unix_milliseconds": 10**3,
    "unix_microseconds": 1,
    "unix_nanoseconds": 1 / 10**3,
    "excel_days": 86_400 * 10**6,
}  # fmt: skip
"""Formats of a time that is a number -> microseconds in its unit."""
EXCEL_1970 = 25_569
"""The day 1970-01-01 in a sheet, which counts from the end of 1899 on."""
LARGEST = float(np.finfo(np.float32).max)
"""A model's numbers have 32 bits: what is beyond them, and not infinite, is no value of a feature or a target."""
EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
"""Seconds since 1970 of the first and the last moment of the years 1 to 9999, all that Python has dates for."""

MAX_NAMED = 10
"""Classes named in a message."""
Kind = Literal["number", "integer", "boolean", "category", "time", "id", "positive", "class"]
Label = str | int | bool


@dataclass(frozen=True)
class Converted:
    """A column of kedge's own type; unreadable values are null and stand in ``wrong`` with the reason."""

    values: pa.Array
    wrong: NDArray[np.bool_]
    reason: str


def arrow_type(kind: Kind) -> pa.DataType:
    """The type a column of this kind has inside."""
    match kind:
        case "time":
            return TIMESTAMP
        case "category" | "id":
            return pa.string()
        case _:
            return pa.float64()


def convert(
    column: pa.Array,
    kind: Kind,
    positive_label: Label = 1,
    negative_label: Label | None = None,
    *,
    classes: Sequence[str | int] = (),
    format: str | None = None,
) -> Converted:
    """Read one column; never raises for a value, only for a type no value of which could be read.

    Args:
        column: Any Arrow type but nested and binary ones.
        kind: What the policy says it is; ``positive`` is a binary target, ``class`` one of several classes.
        positive_label: The value of a binary target that counts as positive.
        negative_label: The one that counts as negative; None: every other value does.
        classes: What a target of several classes may be; each is read as its place.
        format: How a source writes a number or a time, one of :func:`formats`; None: as 1234.5, as ISO 8601.

    Raises:
        DataError: the type cannot hold such values; without the place, which the caller knows.
    """
    column = _plain(column)
    if format in SINCE_1970 and (is_text(column.type) or _is_number(column.type)):
        return _since_1970(column, format)
    if format is not None and kind == "time" and pa.types.is_integer(column.type):  # 20260131
        column = column.cast(pa.string())
    if format is not None and is_text(column.type):
        return _formatted(column, kind, format)
    match kind:
        case "number":
            return _numbers(column)
        case "integer":
            return _integers(column)
        case "boolean":
            return _booleans(column)
        case "time":
            return _times(column)
        case "positive":
            return _positives(column, positive_label, negative_label)
        case "class":
            return _places(column, classes)
        case "category":
            return Converted(_texts(column), np.zeros(len(column), bool), "")
        case "id":
            return _ids(column)


def counted(column: pa.Array, kind: Kind, format: str | None = None) -> tuple[pa.Array, int]:
    """The column to be counted, as :func:`convert` reads it, and how many of its values could not be read.

    What needs no reading costs nothing: NaN stays, and text stays dictionary-encoded.
    """
    held = column.type
    if kind == "category" and is_text(held.value_type if pa.types.is_dictionary(held) else held):
        return column, 0
    if kind == "number" and held == pa.float64():
        ends = pc.min_max(column).as_py()
        if ends["min"] is None or (ends["min"] >= -LARGEST and ends["max"] <= LARGEST):
            return column, 0
    if kind in ("number", "integer") and pa.types.is_integer(held):
        return column.cast(pa.float64(), safe=False), 0
    read = convert(column, kind, format=format)
    return read.values, int(read.wrong.sum())


def countable(column: pa.Array) -> pa.Array:
    """The values as Arrow can count them: without an encoding, and 16-bit floats widened.

    Raises:
        DataError: as :func:`convert`.
    """
    plain = _plain(column)
    return _numbers(plain).values if pa.types.is_float16(plain.type) else plain


def kind_of(held: pa.DataType) -> Kind | None:
    """What values of an Arrow type are; None for what no model input is made of, and for nulls.

    >>> kind_of(pa.decimal128(10, 2)), kind_of(pa.date32()), kind_of(pa.uuid()), kind_of(pa.list_(pa.int8()))
    ('number', 'time', 'category', None)
    """
    if pa.types.is_dictionary(held):
        return kind_of(held.value_type)
    if isinstance(held, pa.BaseExtensionType):
        return "category" if held.extension_name == "arrow.uuid" else kind_of(held.storage_type)
    if is_text(held):
        return "category"
    if pa.types.is_timestamp(held) or pa.types.is_date(held):
        return "time"
    return "number" if _is_number(held) or pa.types.is_boolean(held) or pa.types.is_duration(held) else None


def kinds(model: Model, data: Data, *, has_id: bool) -> dict[str, Kind]:
    """The columns of a model's training table inside, in their order, and what each is."""
    found: dict[str, Kind] = {TIME: "time"}
    if has_id:
        found[ID] = "id"
    found |= {name: feature.type for name, feature in model.features.items()}
    found |= dict.fromkeys(data.extra_columns, "category")
    found[model.target] = outcome_kind(model)
    return found


def outcome_kind(model: Model) -> Kind:
    """How a column of outcomes is read."""
    kinds: dict[str, Kind] = {"binary": "positive", "multiclass": "class"}
    return kinds.get(model.task, "number")


def formats(model: Model, data: Data | None = None) -> dict[str, str]:
    """How columns inside are written as text in a source, where the policy says it."""
    found: dict[str, str | None] = {name: feature.format for name, feature in model.features.items()}
    found[model.target] = model.target_format
    found[TIME] = data.time_format if data is not None else None
    return {name: format for name, format in found.items() if format is not None}


def named(model: Model, present: Iterable[str]) -> dict[str, str]:
    """Columns of a table -> the features, and the target, that they hold: as the policy says tables call them, else, in
    tables that kedge wrote itself, by their own names."""
    there = set(present)
    found = ((column if column in there else name, name) for name, column in model.columns.items())
    return {column: name for column, name in found if column in there}


def fields_of(model: Model, data: Data) -> dict[tuple[str, ...], str]:
    """Fields of a policy -> the columns of the training table that they name."""
    found: dict[tuple[str, ...], str] = {}
    for name, feature in model.features.items():
        found["model", "features", name, *(["column"] if feature.column else [])] = feature.column or name
    target = model.target_column
    found["model", "target_column" if target else "target"] = target or model.target
    for field, column in (("time_column", data.time_column), ("id_column", data.id_column)):
        if column is not None:
            found["data", field] = column
    return found | {("data", "extra_columns", name): name for name in data.extra_columns}


def _plain(column: pa.Array) -> pa.Array:
    """The column without an encoding around its values."""
    kind = column.type
    if pa.types.is_string_view(kind):  # not every function of Arrow takes views
        return column.cast(pa.string())
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(column))
    if isinstance(kind, pa.BaseExtensionType):
        return _uuids(column.storage) if kind.extension_name == "arrow.uuid" else _plain(column.storage)
    if not (is_text(kind) or _is_number(kind) or any(holds(kind) for holds in OTHERS)):
        raise DataError(f"holds {kind}, which no model input is made of; flatten it, cast it to text or leave it out")
    return column


OTHERS = (
    pa.types.is_boolean,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_duration,
    pa.types.is_null,
)


def _uuids(column: pa.Array) -> pa.Array:
    """UUIDs, which are 16 bytes each, as people write them."""
    digits = np.array([f"{byte:02x}" for byte in range(256)], "S2")
    letters = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * 16 :][: len(column) * 16]
    texts = digits[letters].view("S32") if len(letters) else np.empty(0, "S32")
    parts = texts.view("S1").reshape(-1, 32)
    dashed = np.full((len(column), 36), b"-", "S1")
    for start, end, place in ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24)):
        dashed[:, place : place + end - start] = parts[:, start:end]
    written = pa.array(dashed.view("S36").ravel().astype("U36"), pa.string())
    return pc.if_else(column.is_valid(), written, pa.scalar(None, pa.string()))


def is_text(kind: pa.DataType) -> bool:
    """Whether the values of an Arrow type are texts, however they lie in memory."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _numbers(column: pa.Array) -> Converted:
    kind, read = column.type, _doubles(column)
    read = Converted(_without_nan(read.values), read.wrong, read.reason)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_duration(kind):
        return read
    numbers = np.abs(read.values.to_numpy(zero_copy_only=False))
    return _refused(read, (numbers > LARGEST) & (numbers < np.inf), f"is beyond ±{LARGEST:.3g}, the range of a model")


def _doubles(column: pa.Array) -> Converted:
    kind = column.type
    wrong, reason = np.zeros(len(column), bool), ""
    if pa.types.is_floating(kind) and kind != pa.float64():
        values = pa.array(widened(column.to_numpy(zero_copy_only=False)), pa.float64(), mask=_nulls(column))
    elif pa.types.is_decimal(kind):
        values = nearest(column)
    elif _is_number(kind) or pa.types.is_null(kind):
        values = column.cast(pa.float64(), safe=False)
    elif pa.types.is_boolean(kind):
        values = column.cast(pa.int8()).cast(pa.float64())
    elif pa.types.is_duration(kind):
        values = _seconds(column)
    elif is_text(kind):
        values, wrong = _parsed(column, pa.float64(), _float)
        reason = "is not a number"
    else:
        raise DataError(f"holds {kind}; a number is needed")
    return Converted(values, wrong, reason)


def _float(text: str) -> float:
    if "_" in text:  # Python reads 10_1 as 101; to everybody else it is a code
        raise ValueError(text)
    return float(text)


def missing(column: pa.Array) -> pa.Array:
    """Which values mean "no value" where numbers are read, as booleans."""
    if pa.types.is_floating(column.type):
        return pc.is_null(column, nan_is_null=True)
    if not is_text(column.type):
        return pc.is_null(column)
    return pc.or_(pc.is_null(column), pc.is_in(pc.utf8_trim_whitespace(column), pa.array(MISSING_NUMBERS, column.type)))


CURRENCY = r"[\s\x{a0}\x{2009}\x{202f}'\x{2019}%]|\p{Sc}|^[A-Z]{3}|[A-Z]{3}$"
"""What stands around the digits of a number besides its separators: spaces, apostrophes, signs and codes of money."""


def _formatted(column: pa.Array, kind: Kind, format: str) -> Converted:
    """Text that writes numbers or times in a form of its own."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    reason = f"is not written as {format}"
    if kind == "time":
        read = _times(_strptime(text, format))
    else:
        read = (_integers if kind == "integer" else _numbers)(_digits(text, format))
    reason = f"{reason}, or {read.reason}" if read.wrong.any() else reason
    wrong = pc.and_(pc.is_null(read.values), pc.invert(missing(text))).to_numpy(zero_copy_only=False)
    return Converted(read.values, np.asarray(wrong, bool), reason)


FRACTION = (
    r"^(?P<before>.*[0-9])[.,](?P<fraction>[0-9]{1,9})"
    r"(?P<after>\s*(?:[AaPp][Mm]|Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?\]?)$"
)
"""A time with a fraction of a second, and what may stand behind it."""


def _strptime(text: pa.Array, format: str) -> pa.Array:
    """Times by C's format; ``%f`` behind the seconds is a fraction of one, which may be absent."""
    plain = re.sub(r"(%S|%T|%X)[.,]%f", r"\1", format)
    if plain == format:
        return pc.strptime(text, format=format, unit="us", error_is_null=True)
    parts = pc.extract_regex(text, FRACTION)
    before, fraction, after = (pc.struct_field(parts, name) for name in ("before", "fraction", "after"))
    whole = pc.if_else(pc.is_valid(parts), pc.binary_join_element_wise(before, after, ""), text)
    digits = pc.fill_null(pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 6, "0"), 0, 6), "0")
    seconds = pc.strptime(whole, format=plain, unit="us", error_is_null=True)
    return pc.add(seconds, digits.cast(pa.int64()).cast(pa.duration("us")))


def _digits(text: pa.Array, format: str) -> pa.Array:
    """Numbers as 1234.5; null where the text is not written in the format."""
    thousands, decimal = (re.escape(sign) for sign in (format[1], format[-2]))
    digits = pc.replace_substring_regex(text, CURRENCY, "")
    digits = pc.replace_substring_regex(digits, r"^\((.*)\)$|^\x{2212}(.*)$|^(.+)-$", r"-\1\2\3")  # as accountants do
    shape = rf"^[+-]?([1-9][0-9]{{0,2}}({thousands}[0-9]{{3}})+|[0-9]+)?({decimal}[0-9]*)?$"
    digits = pc.if_else(pc.match_substring_regex(digits, shape), digits, pa.scalar(None, pa.string()))
    return pc.replace_substring_regex(pc.replace_substring_regex(digits, thousands, ""), decimal, ".")


def _since_1970(column: pa.Array, format: str) -> Converted:
    """Times that are numbers, of integers to the last digit."""
    column = _whole(column) if is_text(column.type) else column
    whole = pa.types.is_integer(column.type)
    read = Converted(column, np.zeros(len(column), bool), "") if whole else _numbers(column)
    numbers = pc.fill_null(read.values, 0).to_numpy(zero_copy_only=False)
    factor = SINCE_1970[format]
    numbers = numbers - EXCEL_1970 if format == "excel_days" else numbers
    seconds = numbers * (factor / 10**6)
    beyond = (seconds < EARLIEST) | (seconds >= LATEST + 1)
    numbers = np.where(beyond, 0, numbers)
    numbers = numbers.astype(np.int64) if whole else numbers
    scaled = numbers // round(1 / factor) if factor < 1 else numbers * factor
    ticks = scaled if whole else np.rint(scaled)
    values = pa.array(ticks.astype(np.int64), pa.int64(), mask=_nulls(read.values)).cast(TIMESTAMP)
    reason = read.reason if read.wrong.any() else ""
    return _refused(Converted(values, read.wrong, reason), beyond, "is not of the years 1 to 9999")


def _whole(text: pa.Array) -> pa.Array:
    """Text as 64-bit integers if all of it is that; else as it is."""
    try:
        return _without_missing(pc.utf8_trim_whitespace(text.cast(pa.string()))).cast(pa.int64())
    except pa.ArrowInvalid:
        return text


def _seconds(column: pa.Array) -> pa.Array:
    ticks = pc.fill_null(column.view(pa.int64()), 0).to_numpy()
    return pa.array(seconds(ticks, column.type.unit), pa.float64(), mask=_nulls(column))


def _integers(column: pa.Array) -> Converted:
    read = _numbers(column)
    values = read.values.to_numpy(zero_copy_only=False)
    return _refused(read, np.isfinite(values) & (values != np.trunc(values)), "is not a whole number")


def _booleans(column: pa.Array) -> Converted:
    kind = column.type
    if is_text(kind):
        values, wrong = _parsed(column, pa.bool_(), _boolean)
        reason = "is not true or false (nor 1 or 0); a category takes any two texts"
        return Converted(values.cast(pa.int8()).cast(pa.float64()), wrong, reason)
    read = _numbers(column)
    values = read.values.to_numpy(zero_copy_only=False)
    return _refused(read, ~np.isnan(values) & (values != 0) & (values != 1), "is not true or false")


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "1.0", "0.0"):
        raise ValueError(text)
    return text.lower() in ("true", "1", "1.0")


def _texts(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_floating(kind):  # 3.0 is category "3": pandas turns integers with gaps into floats
        numbers = widened(column.to_numpy(zero_copy_only=False)).tolist()
        return pa.array([None if number != number else spelled(number) for number in numbers], pa.string())
    if pa.types.is_duration(kind):
        return _texts(_seconds(column))
    if pa.types.is_timestamp(kind):
        column = _times(column).values
    if pa.types.is_time(kind):
        column = column.cast(pa.time64("us"), safe=False)
    if pa.types.is_decimal(kind) and not 0 <= kind.scale <= 6:  # of which Arrow writes 0E-7, 1.2E+3
        return pa.array([digits_of(value) for value in column.to_pylist()], pa.string())
    text = column.cast(pa.string())
    if pa.types.is_decimal(kind) and kind.scale:
        text = pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), ".")
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _ids(column: pa.Array) -> Converted:
    """Ids as text. A float holds whole numbers exactly up to a limit; beyond it different ids are one number."""
    read = Converted(_texts(column), np.zeros(len(column), bool), "")
    if not pa.types.is_floating(column.type):
        return read
    numbers = column.to_numpy(zero_copy_only=False)
    limit = 2 ** (np.finfo(numbers.dtype).nmant + 1)
    exact = np.isnan(numbers) | ((numbers == np.trunc(numbers)) & (np.abs(numbers) < limit))
    reason = (
        f"is no id: a {column.type} holds whole numbers exactly below {limit:,} only; store ids as integers or text"
    )
    return _refused(read, ~exact, reason)


def _times(column: pa.Array) -> Converted:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind):
        if not pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("s" if kind == pa.date32() else "ms"))
        read = _within_calendar(Converted(column, np.zeros(len(column), bool), ""))
        plain = read.values.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
        return Converted(plain.cast(TIMESTAMP), read.wrong, read.reason)
    if not is_text(kind):
        raise DataError(
            f"holds {kind}; a time is a timestamp, a date or ISO 8601 text such as 2026-03-02T08:00:00Z; "
            "a bare number does not say its unit, which data.time_format does, such as unix_seconds or excel_days"
        )
    offset = pc.replace_substring_regex(column, r"(UTC|GMT)([+-][0-9]{2}:?[0-9]{2})$|([Z0-9])\[[\w/+-]+\]$", r"\2\3")
    zoned = pc.replace_substring_regex(offset, r" ?(UTC|GMT)\s*$", "Z")
    values, wrong = _parsed(zoned, TIMESTAMP, _time)
    return _within_calendar(Converted(values, wrong, "is not a time such as 2026-03-02T08:00:00Z"))


def _within_calendar(read: Converted) -> Converted:
    """Timestamps without those that no calendar writes."""
    ticks = read.values.view(pa.int64()).to_numpy(zero_copy_only=False)
    second = A_SECOND[read.values.type.unit]
    beyond = (ticks < EARLIEST * second) | (ticks >= (LATEST + 1) * second)
    return _refused(read, beyond, "is not of the years 1 to 9999")


def _time(text: str) -> datetime:
    if re.fullmatch(r"[0-9]+", text):
        raise ValueError(text)
    midnight = re.sub(r"[T ]24(:?00){1,2}([.,]0+)?(?![0-9:])", "T00:00", text, count=1)  # of the day that begins then
    value = datetime.fromisoformat(midnight) + timedelta(days=midnight != text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def negatives(spelled: Iterable[str], positive_label: Label) -> list[str]:
    """Values of a binary target that count as negative where no negative label is given, each once however written.

    Args:
        spelled: The values as a source spells them.
        positive_label: The one that counts as positive.

    >>> negatives(["1", "0", "0.0", "2", "True", "nan"], 1), negatives(["yes", "no", "Yes", ""], "yes")
    (['0', '2'], ['no', 'Yes'])
    """
    missing = ("",) if isinstance(positive_label, str) else MISSING_NUMBERS
    positive = {*_spellings(positive_label), _as_number(positive_label)}
    found: dict[str | float, str] = {}
    for text in spelled:
        number = _as_number(text)
        if text in missing or text in positive or number in positive - {None} or number != number:
            continue
        found.setdefault(text if number is None else number, text)
    return list(found.values())


def _label_texts(column: pa.Array, positive_label: Label) -> pa.Array:
    read = _texts(column)
    return read if isinstance(positive_label, str) else _without_missing(pc.utf8_trim_whitespace(read))


def _positives(column: pa.Array, positive_label: Label, negative_label: Label | None) -> Converted:
    number = _is_number(column.type) or pa.types.is_boolean(column.type)
    read = _numbers(column).values if number else _label_texts(column, positive_label)
    if not number and negative_label is not None:
        read = _without_missing(read, [*_spellings(positive_label), *_spellings(negative_label)])

    def holds(label: Label, field: str) -> pa.Array:
        if not number:
            return pc.and_(pc.is_valid(read), pc.is_in(read, pa.array(_spellings(label))))
        wanted = _as_number(label)
        if wanted is None:
            raise DataError(f"holds {column.type}, and model.{field} is {label!r}")
        return pc.fill_null(pc.equal(read, wanted), False)

    positive = holds(positive_label, "positive_label")
    values = pc.if_else(pc.is_valid(read), positive, pa.scalar(None, pa.bool_())).cast(pa.int8()).cast(pa.float64())
    if negative_label is None:
        return Converted(values, np.zeros(len(column), bool), "")
    known = pc.or_(positive, holds(negative_label, "negative_label"))
    neither = pc.and_(pc.is_valid(read), pc.invert(known)).to_numpy(zero_copy_only=False)
    reason = f"is neither model.positive_label {positive_label!r} nor model.negative_label {negative_label!r}"
    return _refused(Converted(values, np.zeros(len(column), bool), reason), neither, reason)


def _places(column: pa.Array, classes: Sequence[str | int]) -> Converted:
    """The place of each value among the classes."""
    if _is_number(column.type) or pa.types.is_boolean(column.type):
        read = _numbers(column).values
        known: list[tuple[float | str | None, int]] = [(_as_number(each), place) for place, each in enumerate(classes)]
        if any(value is None for value, _ in known):
            raise DataError(f"holds {column.type}, and model.classes are texts: {some(classes, MAX_NAMED)}")
    else:
        known = [(text, place) for place, each in enumerate(classes) for text in _spellings(each)]
        read = _without_missing(_texts(column), [str(text) for text, _ in known])
    spelled, places = zip(*known, strict=True)
    found = pa.array(places, pa.float64()).take(pc.index_in(read, pa.array(spelled, read.type)))
    found = pc.if_else(pc.is_valid(read), found, pa.scalar(None, pa.float64()))
    wrong = pc.and_(pc.is_valid(read), pc.is_null(found)).to_numpy(zero_copy_only=False)
    reason = f"is none of model.classes {some(classes, MAX_NAMED)}; a new class goes to their end"
    return Converted(found, np.asarray(wrong, bool), reason)


def _spellings(label: Label) -> list[str]:
    """The texts that say a label in a table that knows only text."""
    if isinstance(label, bool):
        return ["true", "True", "TRUE", "1", "1.0"] if label else ["false", "False", "FALSE", "0", "0.0"]
    return [label] if isinstance(label, str) else [str(label), f"{label}.0"]


def _as_number(label: Label) -> float | None:
    if not isinstance(label, str):
        return float(label)
    if label.lower() in ("true", "false"):
        return float(label.lower() == "true")
    try:
        return float(label)
    except ValueError:
        return None


def _parsed(column: pa.Array, kind: pa.DataType, parse: Callable[[str], object]) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Text as another type: all at once where every value can be read, else one by one to know which cannot."""
    try:
        return column.cast(kind), np.zeros(len(column), bool)
    except pa.ArrowInvalid:
        pass
    text = _without_missing(pc.utf8_trim_whitespace(column.cast(pa.string())))
    try:
        return text.cast(kind), np.zeros(len(column), bool)
    except pa.ArrowInvalid:
        return _parsed_singly(text, kind, parse)


def _without_missing(text: pa.Array, labels: Sequence[str] = ()) -> pa.Array:
    """Text without what means "no value", unless it is one of the labels: a class may be called None."""
    missing = [each for each in MISSING_NUMBERS if each not in labels]
    return pc.if_else(pc.is_in(text, pa.array(missing)), pa.scalar(None, pa.string()), text)


def _parsed_singly(
    text: pa.Array, kind: pa.DataType, parse: Callable[[str], object]
) -> tuple[pa.Array, NDArray[np.bool_]]:
    values, wrong = [], np.zeros(len(text), bool)
    for index, value in enumerate(text.to_pylist()):
        try:
            values.append(None if value is None else parse(value))
        except (ValueError, OverflowError):
            values.append(None)
            wrong[index] = True
    return pa.array(values, kind), wrong


def _without_nan(values: pa.Array) -> pa.Array:
    """NaN means missing; -0.0 is 0.0, so that equal values have equal bytes."""
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    return pc.add(values, 0.0)


def _nulls(column: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), bool)


def _refused(read: Converted, mask: NDArray[np.bool_], reason: str) -> Converted:
    """The same with more values that are wrong."""
    if not mask.any():
        return read
    reason = f"{read.reason}, or {reason}" if read.wrong.any() else reason
    return Converted(_blank(read.values, mask), read.wrong | mask, reason)


def _blank(values: pa.Array, mask: NDArray[np.bool_]) -> pa.Array:
    return pc.if_else(pa.array(mask), pa.scalar(None, values.type), values)


def describe_missing(wanted: Sequence[str], present: Sequence[str], place: str) -> str:
    """The message for those of the wanted columns that a table lacks: names them, those it has, the likely spelling.

    >>> describe_missing(["country", "amount"], ["country", "Amount"], "t.csv")
    "t.csv: column 'amount' (did you mean 'Amount'?) is missing; the table has: country, Amount"
    >>> describe_missing(["amount"], ["", "x"], "t.csv")
    "t.csv: column 'amount' is missing; the table has: '', x"
    """
    import difflib

    parts = []
    free = [name for name in present if name not in wanted]
    for name in dict.fromkeys(name for name in wanted if name not in present):
        alike = [each for each in free if each.casefold().strip() == name.casefold().strip()]
        close = alike or difflib.get_close_matches(name, free, n=1)
        parts.append(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    lacking = f"column {parts[0]} is" if len(parts) == 1 else f"columns {', '.join(parts)} are"
    there = some(name or repr(name) for name in present)
    return f"{place}: {lacking} missing; the table has: {there}"
