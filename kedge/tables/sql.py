"""One SELECT on a database, streamed. The connection address stays in the environment; no message repeats it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from kedge.errors import DataError
from kedge.tables.reader import BATCH_ROWS, Bounds, Piece, TableReader, refuse_twice

FILTERED = ("postgresql", "mysql", "mariadb", "sqlite")
"""Databases that are asked for rows from a day on; of others the whole query is read, and filtered here."""


QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
"""Texts, names and comments of a query."""


class SqlReader:
    """Rows of a query. See :class:`kedge.tables.reader.Reader`.

    Args:
        variable: Name of the environment variable with the connection address, such as
            ``postgresql+psycopg://reader@db/bank``.
        query: One SELECT.
    """

    version = None
    typed = True

    def __init__(self, variable: str, query: str) -> None:
        self.place = f"query on ${variable}"
        self._query = query
        self._engine = engine(variable, query)
        with self._rows(query) as rows:
            self.names: list[str] = list(rows.keys())
        refuse_twice(self.names, self.place)

    def schema(self) -> pa.Schema:
        first = next(self.pieces(self.names), None)
        return first.rows.schema if first else pa.schema([(name, pa.null()) for name in self.names])

    def parts(self) -> Sequence[TableReader]:
        return [self]

    def batches(self, columns: Sequence[str], **_: bool) -> Iterator[pa.RecordBatch]:
        for piece in self.pieces([name for name in columns if name in self.names]):
            yield piece.rows

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:
        indices = {name: self.names.index(name) for name in columns}
        query, place, first = self._query, self.place, 1
        if bounds is not None and bounds.earliest is not None and self._engine.dialect.name in FILTERED:
            query, place = self._since(bounds.column, bounds.earliest), f"{place} from {bounds.earliest}"
        with self._rows(query) as rows:
            for chunk in rows.partitions(BATCH_ROWS):
                arrays = [self._array(name, [row[index] for row in chunk]) for name, index in indices.items()]
                yield Piece(pa.RecordBatch.from_arrays(arrays, names=list(indices)), place, first)
                first += len(chunk)

    def _since(self, column: str, day: str) -> str:
        """The query's rows from a day on, and those without a time; the database may use an index of that column."""
        name = self._engine.dialect.identifier_preparer.quote_identifier(column)
        return (
            f"SELECT * FROM (\n{_without_end(self._query)}\n) AS kedge_rows WHERE {name} >= '{day}' OR {name} IS NULL"  # noqa: S608
        )

    @contextmanager
    def _rows(self, query: str) -> Iterator[Any]:
        try:
            with self._engine.connect() as connection:
                options = {"stream_results": True, "max_row_buffer": BATCH_ROWS, "no_parameters": True}
                yield connection.execution_options(**options).exec_driver_sql(query)
        except SQLAlchemyError as exc:
            raise DataError(f"{self.place}: the database refused: {first_line(exc)}") from None

    def _array(self, name: str, values: list[Any]) -> pa.Array:
        try:
            array = pa.array(values)
            if pa.types.is_binary(array.type) and any(isinstance(value, str) for value in values):
                raise TypeError(name)  # bytes among texts are one odd value each, not another column
            return array
        except (pa.ArrowException, ValueError, TypeError, OverflowError):  # mixed types, UUIDs: as text, for the policy
            try:
                return pa.array([None if value is None else str(value) for value in values], pa.string())
            except UnicodeEncodeError as exc:
                raise DataError(f"{self.place}: column {name!r} holds text that is not Unicode: {exc.reason}") from exc


def engine(variable: str, query: str) -> Any:
    """What connects to the database, which is not asked yet.

    Raises:
        DataError: the variable is not set or holds no address, its driver is not installed, or the query is no SELECT.
    """
    address = os.environ.get(variable)
    if not address:
        raise DataError(f"${variable} is not set: put the connection address of the database there")
    bare = QUOTED.sub(" ", query).strip().rstrip("; \n")
    if not re.match(r"[\s(]*(select|with)\b", bare, re.IGNORECASE) or ";" in bare:
        raise DataError(f"query on ${variable}: must be one SELECT, got {query.strip()[:60]!r}")
    refused = f"${variable}: no connection can be made from it"
    try:
        url = sa.make_url(address)
        if "@" in (url.host or ""):
            raise DataError(f"{refused}: it has a second @: write %40 for one in the password")
        made = sa.create_engine(url, poolclass=sa.NullPool)  # what was read once is closed then
    except (NoSuchModuleError, ImportError) as exc:
        driver = url.drivername if isinstance(exc, NoSuchModuleError) else exc.name
        known = "`postgresql+psycopg` and `mysql+pymysql` are in kedge[step]"
        raise DataError(f"{refused}: the driver {driver} is not installed; {known}") from None
    except (SQLAlchemyError, ValueError):
        raise DataError(f"{refused}: it is not a URL") from None
    if made.driver == "psycopg":
        sa.event.listen(made, "connect", lambda connection, _: keep_unreadable_times(connection.adapters))
    return made


def keep_unreadable_times(adapters: Any) -> None:
    """Have psycopg read dates and times that Python has none for, such as ``infinity``, as their text: one such value
    is one invalid row, not the end of the query."""
    from psycopg import DataError as UnreadableError
    from psycopg.pq import Format

    class Kept:
        format = Format.TEXT
        reads: Any

        def __init__(self, oid: int, context: Any = None) -> None:
            self._loader = self.reads(oid, context)

        def load(self, data: Any) -> Any:
            try:
                return self._loader.load(data)
            except UnreadableError:
                return bytes(data).decode()

    for name in ("date", "timestamp", "timestamptz"):
        oid = adapters.types[name].oid
        reads = adapters.get_loader(oid, Format.TEXT)
        adapters.register_loader(oid, type(f"Kept{name}", (Kept,), {"reads": reads}))


def _without_end(query: str) -> str:
    """The query without the semicolon, and the comments, at its end.

    >>> _without_end("SELECT ';' -- all\\n; /* days */ ")
    "SELECT ';'"
    """
    marked = QUOTED.sub(lambda found: (" " if found[0][0] in "-/" else "x") * len(found[0]), query)
    return query[: len(marked.rstrip("; \t\r\n"))]


def first_line(exc: SQLAlchemyError) -> str:
    """What the database said."""
    return str(getattr(exc, "orig", None) or exc).strip().split("\n", 1)[0]
