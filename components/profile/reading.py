"""From an Arrow column to what is counted: numbers as one NumPy array, text as dictionary codes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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
    return _plain(array).to_numpy(zero_copy_only=True), nulls


def aligned_numbers(array: pa.Array) -> NDArray[np.float64]:
    """One number a row, NaN where there is none."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    return np.asarray(_plain(array).to_numpy(zero_copy_only=False), np.float64)


def _plain(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.cast(pa.uint8())
    if pa.types.is_decimal(kind):
        return array.cast(pa.float64())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return array.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False).view(pa.int64())
    if pa.types.is_duration(kind):
        return array.view(pa.int64())
    return array


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
    return indices.to_numpy(zero_copy_only=True), dictionary, nulls


def _text(array: pa.Array) -> pa.Array:
    """Text; whole floating numbers lose their fraction, because gaps turn a column of integers into one of floats."""
    if pa.types.is_floating(array.type):
        return pa.array([None if value is None else f"{value:.15g}" for value in array.to_pylist()], pa.string())
    if pa.types.is_string(array.type):
        return array
    return pc.cast(array, pa.string())
