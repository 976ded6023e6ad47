"""One order of rows, one hash of values: equal rows give an equal fingerprint, however they were laid out in files."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge.tables.columns import TIME

SLICE_ROWS = 65_536


def canonical_order(table: pa.Table) -> pa.Table:
    """The rows in time order; rows of one time by their other columns, in the order of the schema; missing last.

    >>> canonical_order(pa.table({"_time": [2, 1, 1], "a": [0.0, 5.0, 4.0]}))["a"].to_pylist()
    [4.0, 5.0, 0.0]
    """
    time = table[TIME].cast(pa.int64())
    if time.null_count == 0 and bool(np.all(np.diff(time.to_numpy()) > 0)):
        return table
    keys = [(TIME, "ascending"), *((name, "ascending") for name in table.column_names if name != TIME)]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def fingerprint(table: pa.Table) -> str:
    """First 40 hex digits of the SHA-256 over schema and values of an ordered table, column by column, missing marked.

    Args:
        table: Doubles without NaN, strings, integers, timestamps.
    """
    digest = Digest(table.schema, table.num_rows)
    for start in range(0, table.num_rows, SLICE_ROWS):
        digest.add(table.slice(start, SLICE_ROWS))
    return digest.name


class Digest:
    """The fingerprint of a table that comes in slices."""

    def __init__(self, schema: pa.Schema, rows: int) -> None:
        self._sha = hashlib.sha256()
        for field in schema:
            self._sha.update(f"{field.name}\0{field.type}\0".encode())
        self._sha.update(rows.to_bytes(8, "little"))

    def add(self, rows: pa.Table) -> None:
        """Take the next 65,536 rows, or the last ones."""
        for column in rows.combine_chunks().columns:
            for buffer in _buffers(column):
                self._sha.update(buffer)

    @property
    def name(self) -> str:
        """40 hex digits."""
        return self._sha.hexdigest()[:40]


def _buffers(column: Any) -> list[bytes]:
    """The values' bytes, the same for equal values whatever the array's offset, chunks and garbage beneath nulls."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    valid = np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes()
    if pa.types.is_string(array.type):
        filled = pc.fill_null(array, "")
        lengths = pc.binary_length(filled).to_numpy(zero_copy_only=False).astype("<i8")
        return [valid, lengths.tobytes(), "".join(filled.to_pylist()).encode()]
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())
    values = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    return [valid, values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()]
