"""From an Arrow column to what is counted: numbers as one NumPy array, text as dictionary codes.

Arrays are read and made through their buffers: ``pa.array`` and ``to_numpy`` import pandas where it is installed, and
that takes longer than reading a million rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.decimals import nearest, seconds, spelled

Kind = Literal["number", "time", "category"]


def kind_of(kind: pa.DataType) -> Kind | None:
    """How a column of this Arrow type is counted; None if no model input is made of it.

    >>> kind_of(pa.decimal128(10, 2)), kind_of(pa.date32()), kind_of(pa.list_(pa.int8()))
    ('number', 'time', None)
    """
    types = pa.types
    if types.is_dictionary(kind):
        return kind_of(kind.value_type)
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "category"
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    return "number" if number or types.is_duration(kind) or types.is_null(kind) else None


def readable(kind: Kind, built_from: str, found: pa.DataType) -> bool:
    """Whether a column can be counted on a reference column that was read as ``kind`` from type ``built_from``."""
    if pa.types.is_null(found) or kind_of(found) == kind:
        return True
    return kind == "category" and kind_of(found) == "number" and built_from != "string"


def numbers(array: pa.Array) -> tuple[NDArray[Any], int]:
    """The values that are not null, in their own width where NumPy has it, and the number of nulls."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    nulls = array.null_count
    if nulls == len(array):
        return np.empty(0), nulls
    if nulls:
        array = array.drop_null()
    return _numpy(array), nulls


def aligned_numbers(array: pa.Array) -> NDArray[np.float64]:
    """One number a row, NaN where there is none."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    values = _numpy(array).astype(np.float64)
    if array.null_count:
        values[~flags(array.is_valid())] = np.nan
    return values


def _numpy(array: pa.Array) -> NDArray[Any]:
    """Numbers; times as microseconds since 1970, durations as seconds, in whatever unit they are stored."""
    kind = array.type
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    if pa.types.is_decimal(kind):
        array = nearest(array)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = array.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False).view(pa.int64())
    if pa.types.is_duration(kind):
        return seconds(view(array.view(pa.int64())), kind.unit)
    return view(array)


def type_of(kind: pa.DataType) -> str:
    """The type's name: of encoded values that of the values, all text alike, of durations that of what is counted.

    >>> type_of(pa.dictionary(pa.int8(), pa.large_string())), type_of(pa.duration("ns"))
    ('string', 'duration[s]')
    """
    if pa.types.is_dictionary(kind):
        return type_of(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    return "duration[s]" if pa.types.is_duration(kind) else str(kind)


def codes(array: pa.Array) -> tuple[NDArray[Any], pa.Array, int]:
    """Dictionary codes of the values that are not null, the dictionary, and the number of nulls."""
    if not pa.types.is_dictionary(array.type):
        array = _text(array).dictionary_encode()
    dictionary = array.dictionary
    if not pa.types.is_string(dictionary.type):
        dictionary = _text(dictionary)
    if dictionary.null_count:
        return codes(array.dictionary_decode())
    nulls = array.null_count
    indices = array.indices.drop_null() if nulls else array.indices
    return view(indices), dictionary, nulls


def _text(array: pa.Array) -> pa.Array:
    """Text; whole floating numbers lose their fraction, because gaps turn a column of integers into one of floats."""
    if pa.types.is_floating(array.type):
        return _written(array)
    if pa.types.is_string(array.type):
        return array
    return array.cast(pa.string())


def _written(array: pa.Array) -> pa.Array:
    """Numbers as text: 3.0 is "3"; null and NaN are null."""
    values = aligned_numbers(array)
    valid = ~np.isnan(values)
    written = texts([spelled(value) if known else "" for value, known in zip(values.tolist(), valid, strict=True)])
    bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), len(array), [bits, *written.buffers()[1:]])


def view(array: pa.Array) -> NDArray[Any]:
    """The values of a primitive array, without a copy; what stands in place of a null is arbitrary."""
    kind = {"float": "f4", "double": "f8", "halffloat": "f2"}.get(str(array.type), str(array.type))
    width = np.dtype(kind).itemsize
    return np.frombuffer(array.buffers()[1], kind)[array.offset :][: len(array)] if width else np.empty(0)


def flags(array: pa.Array) -> NDArray[np.bool_]:
    """The values of a boolean array without nulls."""
    bits = np.unpackbits(np.frombuffer(array.buffers()[1], np.uint8), bitorder="little")
    return bits[array.offset :][: len(array)].astype(np.bool_)


def lengths(array: pa.Array) -> NDArray[np.int32]:
    """Bytes of each value of a text array; of a null some number."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), np.int32)
    return np.diff(np.frombuffer(buffer, np.int32)[array.offset :][: len(array) + 1])


def texts(values: Sequence[str]) -> pa.Array:
    """A text array."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def places(values: NDArray[Any]) -> pa.Array:
    """Positions to take, as an Arrow array."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values.astype(np.int64))])
