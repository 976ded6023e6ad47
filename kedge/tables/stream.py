"""Tables that another library holds in memory, read by Arrow's PyCapsule interface: pandas, Polars, DuckDB, Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import pyarrow as pa

from kedge.errors import DataError
from kedge.tables.reader import COUNTED_ROWS, Bounds, Piece, TableReader, refuse_twice


@runtime_checkable
class ArrowStream(Protocol):
    """What pandas 2.2, Polars, DuckDB and every Arrow library give: a stream of record batches without a copy."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class StreamReader:
    """Such an object, whose rows can be read once. See :class:`kedge.tables.reader.TableReader`.

    An index of pandas is no column.

    Raises:
        DataError: the object holds no table, a column of mixed types, or a name twice.
    """

    version = None
    typed = True

    def __init__(self, source: ArrowStream) -> None:
        self.place = described(source)
        names = list(getattr(source, "columns", ()))  # pandas gives no stream of such a table
        if all(isinstance(name, str) for name in names):
            refuse_twice(names, self.place)
        try:
            self._reader = pa.RecordBatchReader.from_stream(source)
        except Exception as exc:  # another library's, which may raise anything
            said = f"{self.place}: cannot be read as an Arrow table: {_reason(exc)}"
            raise DataError(
                f"{said}; cast what is of several types, or of none that Arrow has, or leave it out"
            ) from exc
        schema = self._reader.schema
        refuse_twice(schema.names, self.place)
        index = (schema.pandas_metadata or {}).get("index_columns", ())
        self.names: list[str] = [name for name in schema.names if name not in index]

    def schema(self) -> pa.Schema:
        return pa.schema([self._reader.schema.field(name) for name in self.names])

    def parts(self) -> Sequence[TableReader]:
        return [self]

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:  # noqa: ARG002
        first = 1
        for batch in self.batches(columns):
            yield Piece(batch, self.place, first)
            first += batch.num_rows

    def batches(self, columns: Sequence[str], **_: bool) -> Iterator[pa.RecordBatch]:
        wanted = [name for name in columns if name in self.names]
        try:
            for batch in self._reader:
                for start in range(0, batch.num_rows, COUNTED_ROWS):
                    yield batch.select(wanted).slice(start, COUNTED_ROWS)
        except Exception as exc:
            raise DataError(f"{self.place}: its rows cannot be read: {_reason(exc)}") from exc


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
