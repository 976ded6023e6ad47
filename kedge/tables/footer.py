"""How large a Parquet file is when it is unpacked, by its footer: nothing else of it is read.

A footer is a struct of Thrift's compact protocol; of all that it tells, two numbers of each group of rows are needed.
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedge.body import MAX_RATIO, SLACK, UnreadableBody

MARK = b"PAR1"
MAX_FOOTER = 8 << 20
MAX_DEPTH = 16
MAX_VARINT = 10
"""Bytes of a number of 64 bits."""
ROW_GROUPS, UNPACKED_BYTES = 4, 2
"""Fields of ``FileMetaData`` and of ``RowGroup``."""
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


def refuse_large(path: Path, most: int) -> None:
    """Raise UnreadableBody for a file that unpacks to more than ``most`` bytes, or to far more than it has."""
    size = path.stat().st_size
    try:
        groups = _Footer(_bytes(path, size)).struct()[ROW_GROUPS]
        unpacked = sum(group[UNPACKED_BYTES] for group in groups)
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        raise UnreadableBody("malformed", "not a Parquet file: its footer cannot be read") from None
    if unpacked > most or unpacked > MAX_RATIO * size + SLACK:
        raise UnreadableBody(
            "too-large", f"the file's {size:,} bytes are {unpacked:,} when they are unpacked; send fewer rows at once"
        )


def _bytes(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MARK or not 0 < length <= min(MAX_FOOTER, size - 8):
            raise ValueError(path)
        file.seek(size - 8 - length)
        return file.read(length)


class _Footer:
    """Reads structs as dictionaries by the numbers of their fields."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0
        self._depth = 0

    def struct(self) -> dict[int, Any]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._zigzag()
            found[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind)
        self._depth -= 1
        return found

    def _value(self, kind: int) -> Any:
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15) for _ in range(count)]
        if kind == MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(count)]
        if kind == BINARY:
            return self._skip(self._varint())
        if kind == DOUBLE:
            return self._skip(8)
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        return self._zigzag()

    def _skip(self, size: int) -> None:
        self._place += size
        if self._place > len(self._data):
            raise ValueError("cut off")

    def _byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 7 * MAX_VARINT, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise ValueError("a number without end")

    def _zigzag(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)
