"""The values of a tensor of the Open Inference Protocol (v2), in JSON or in its binary extension."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from kedge.body import shown
from kedge.errors import DataError

FORMATS = {
    "BOOL": "?", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I",
    "UINT64": "Q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
"""Of :mod:`struct`, little end first."""


def values_in(tensor: Mapping[str, Any], tail: bytes, count: int) -> tuple[list[Any], int]:
    """The values of an input or output, one after the other, and how many bytes of the tail they took.

    Args:
        tensor: As JSON has it; its values are its ``data``, flat or row by row, or what the tail begins with.
        count: Values that its shape says.

    Raises:
        DataError: there are none, or not so many.

    >>> values_in({"data": [[1, 2], [3, 4]]}, b"", 4)
    ([1, 2, 3, 4], 0)
    """
    size = 0
    if "data" in tensor:
        values = _flat(tensor["data"])
    else:
        parameters = tensor.get("parameters")
        length = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if type(length) is not int or not 0 <= length <= len(tail):
            raise DataError(f"needs data, or binary_data_size within the {len(tail)} bytes left")
        size = length
        values = values_of(tensor.get("datatype"), tail[:size])
    if len(values) != count:
        raise DataError(f"{len(values)} values, its shape says {count}")
    return values, size


def _flat(data: object) -> list[Any]:
    if not isinstance(data, list):
        raise DataError(f"data must be a list, got {shown(data)}")
    while data and isinstance(data[0], list):
        if not all(isinstance(row, list) for row in data):
            raise DataError("its data mix values and lists")
        data = [value for row in data for value in row]
    return data


def values_of(datatype: object, raw: bytes) -> list[Any]:
    """The values of a raw tensor; NaN is None.

    Raises:
        DataError: another type, or bytes that do not fit it.

    >>> values_of("INT16", bytes([1, 0, 2, 0])), values_of("BYTES", bytes([2, 0, 0, 0]) + b"DE")
    ([1, 2], ['DE'])
    """
    if datatype == "BYTES":
        return _texts(raw)
    kind = FORMATS.get(datatype) if isinstance(datatype, str) else None
    if kind is None:
        raise DataError(f"datatype must be BYTES or one of {', '.join(FORMATS)}, got {shown(datatype)}")
    count, rest = divmod(len(raw), struct.calcsize(f"<{kind}"))
    if rest:
        raise DataError(f"{len(raw)} bytes are no whole number of values of {datatype}")
    values = struct.unpack(f"<{count}{kind}", raw)
    return [None if value != value else value for value in values] if kind in "efd" else list(values)


def _texts(raw: bytes) -> list[Any]:
    texts, place = [], 0
    try:
        while place < len(raw):
            (length,) = struct.unpack_from("<I", raw, place)
            place += 4 + length
            if place > len(raw):
                raise ValueError
            texts.append(raw[place - length : place].decode())
    except (struct.error, ValueError):
        raise DataError("BYTES must be UTF-8 texts, each after its length in 4 bytes") from None
    return texts
