"""Tables that another library holds in memory, read by Arrow's PyCapsule interface: pandas, Polars, DuckDB, Arrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import pyarrow as pa

from kedge.errors import DataError
from kedge.tables.scan import BATCH_ROWS


@runtime_checkable
class ArrowStream(Protocol):
    """What pandas 2.2, Polars, DuckDB and every Arrow library give: a stream of record batches without a copy."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class StreamTable:
    """A :class:`~kedge.tables.scan.Table` over such an object. An index of pandas is no column.

    Raises:
        DataError: the object holds no table, a column of mixed types, or a name twice.
    """

    def __init__(self, source: ArrowStream) -> None:
        try:
            self._reader = pa.RecordBatchReader.from_stream(source)
        except (pa.ArrowException, ValueError) as exc:
            raise DataError(f"{described(source)}: cannot be read as an Arrow table: {_reason(exc)}") from exc
        self._what = described(source)
        schema = self._reader.schema
        twice = [name for name, count in Counter(schema.names).items() if count > 1]
        if twice:
            raise DataError(f"{self._what}: has the column {twice[0]!r} twice; rename one")
        index = (schema.pandas_metadata or {}).get("index_columns", ())
        self._names = [name for name in schema.names if name not in index]

    def schema(self) -> pa.Schema:
        """Names and types."""
        return pa.schema([self._reader.schema.field(name) for name in self._names])

    def batches(self, columns: Sequence[str] | None = None, **_: bool) -> Iterator[pa.RecordBatch]:
        """The rows, once, of these columns where the table has them (default: all)."""
        wanted = self._names if columns is None else [name for name in columns if name in self._names]
        try:
            for batch in self._reader:
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.select(wanted).slice(start, BATCH_ROWS)
        except (pa.ArrowException, OSError) as exc:
            raise DataError(f"{self._what}: its rows cannot be read: {_reason(exc)}") from exc


def described(source: object) -> str:
    """What a table is, for messages: of which library, never what is in it.

    >>> described(pa.table({"amount": [1.0]})), described([1.0])
    ('the pyarrow Table', 'a list')
    """
    library, name = type(source).__module__.split(".")[0], type(source).__name__
    return f"a {name}" if library == "builtins" else f"the {library} {name}"


def _reason(exc: Exception) -> str:
    """The last of pyarrow's reasons: it names the column, where others hold a value."""
    return str(exc.args[-1]).strip().split("\n", 1)[0].rstrip(".") if exc.args else type(exc).__name__
