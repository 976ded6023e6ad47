"""Rows of a Delta table written as files that nobody reads until one commit names them all.

For tables too large for memory that are appended whole or not at all. Files of a writer that was killed lie there
unnamed, and go with the table's upkeep.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from kedge.clouds import reason
from kedge.errors import DataError, StoreError, UsageError
from kedge.tables.cloud_files import file_system
from kedge.tables.columns import is_text
from kedge.tables.commits import opened

FILE_ROWS = 4_000_000
"""Rows of a file at least, before the next one begins."""
ATTEMPTS = 5
DEMANDS = re.compile(r"delta\.(constraints\..*|columnMapping\.mode|invariants|generationExpression|identity\..*)")
"""Settings of a table, and of its columns, by which its files, or what they hold, would have to be others."""


class Staged:
    """An append to a Delta table that is made by :meth:`commit`, or not at all."""

    def __init__(
        self,
        location: str,
        schema: pa.Schema,
        *,
        options: Mapping[str, str],
        partition: tuple[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        times: Mapping[str, datetime] | None = None,
    ) -> None:
        """Begin an append; the table may not exist yet.

        Args:
            location: A folder, or a prefix in object storage.
            schema: Of the rows, without the partition's column.
            options: Delta Lake's, of the storage.
            partition: The column and its value in all rows.
            settings: Of the table, if this append makes it.
            times: Columns that hold one time in all rows, in whole milliseconds, for the files' statistics.

        Raises:
            DataError: the location is in no storage that files can be written to, or holds something else.
            StoreError: the table cannot be opened.
        """
        self.location, self._schema, self._options = location, schema, dict(options)
        self._partition, self._settings, self._times = partition, dict(settings or {}), dict(times or {})
        self._system, self._root = file_system(location.rstrip("/"))
        table = self._opened()
        self.columns = None if table is None else [field.name for field in table.schema().fields]
        """Of the table that is there; None: it is made by the first append."""
        if table is not None:
            _refuse_other_types(table, schema, location)
            _refuse_demands(table, schema, [partition[0]] if partition else [], location)
        self._actions: list[AddAction | RemoveAction] = []
        self._writer: pq.ParquetWriter | None = None
        self._stream: Any = None
        self._path, self._rows = "", 0

    def write(self, rows: pa.RecordBatch) -> None:
        """Add rows to what will be committed.

        Raises:
            UsageError, StoreError: the storage refused.
        """
        with writing(self.location):
            if self._writer is None:
                self._open_file()
            assert self._writer is not None
            self._writer.write_batch(rows, row_group_size=len(rows) or None)
            self._rows += len(rows)
            if self._rows >= FILE_ROWS:
                self._close_file()

    def commit(self, application: str) -> bool:
        """Append everything at once; False, and nothing is appended, if this application did so before.

        Raises:
            StoreError: the storage refused; nothing is appended.
        """
        with writing(self.location):
            self._close_file()
        try:
            for attempt in range(ATTEMPTS):
                table = self._opened() or self._made()
                if table.transaction_version(application) is not None:
                    self._delete_files()
                    return False
                self._add_columns(table)
                try:
                    table.create_write_transaction(
                        self._actions,
                        "append",
                        table.schema(),
                        [self._partition[0]] if self._partition else [],
                        commit_properties=CommitProperties(app_transactions=[Transaction(application, 1)]),
                    )
                except CommitFailedError:  # another writer, of other rows or of these
                    if attempt == ATTEMPTS - 1:
                        raise
                else:
                    return True
        except (DeltaError, OSError) as exc:
            raise StoreError(f"{self.location}: cannot be appended to: {reason(self.location, exc)}") from exc
        finally:
            self._actions.clear()  # named by the commit, perhaps also by one whose answer was lost: they stay
        return False

    def done(self, application: str) -> bool:
        """Whether this application has appended its rows."""
        table = self._opened()
        return table is not None and table.transaction_version(application) is not None

    def abort(self) -> None:
        """Leave nothing behind, as far as the storage lets us."""
        with suppress(OSError, pa.ArrowException):
            self._close_file()
        self._delete_files()

    def _opened(self) -> DeltaTable | None:
        try:
            return opened(self.location, self._options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as exc:
            raise StoreError(
                f"{self.location}: the Delta table cannot be opened: {reason(self.location, exc)}"
            ) from exc

    def _made(self) -> DeltaTable:
        fields = list(self._schema)
        if self._partition:
            fields.append(pa.field(self._partition[0], pa.string()))
        return DeltaTable.create(
            self.location,
            Schema.from_arrow(pa.schema(fields)),
            mode="ignore",
            partition_by=[self._partition[0]] if self._partition else None,
            configuration=self._settings or None,
            storage_options=self._options or None,
        )

    def _add_columns(self, table: DeltaTable) -> None:
        known = {field.name for field in table.schema().fields}
        new = pa.schema([field for field in self._schema if field.name not in known])
        if len(new):
            table.alter.add_columns(Schema.from_arrow(new).fields)

    def _open_file(self) -> None:
        folder = "{}={}/".format(*self._partition) if self._partition else ""
        self._path, self._rows = f"{folder}part-{uuid4()}.snappy.parquet", 0
        place = f"{self._root}/{self._path}"
        if isinstance(self._system, pafs.LocalFileSystem):
            self._system.create_dir(place.rpartition("/")[0], recursive=True)
        if not self._actions and self._opened() is None:
            self._made()  # files without a table are those of one that lost its log, or of somebody else
        self._stream = self._system.open_output_stream(place)
        repeating = [field.name for field in self._schema if field.type == pa.string() and field.name != "_id"]
        self._writer = pq.ParquetWriter(self._stream, self._schema, compression="snappy", use_dictionary=repeating)

    def _close_file(self) -> None:
        if self._writer is None:
            return
        writer, stream, self._writer, self._stream = self._writer, self._stream, None, None
        writer.close()
        stream.close()
        self._actions.append(
            AddAction(
                path=self._path,
                size=self._system.get_file_info(f"{self._root}/{self._path}").size,
                partition_values=dict([self._partition]) if self._partition else {},
                modification_time=int(time.time() * 1000),
                data_change=True,
                stats=json.dumps(self._stats()),
            )
        )

    def _stats(self) -> dict[str, object]:
        if not self._times:
            return {"numRecords": self._rows}
        bounds = {name: f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z" for name, at in self._times.items()}
        nulls = dict.fromkeys(bounds, 0)
        return {"numRecords": self._rows, "minValues": bounds, "maxValues": bounds, "nullCount": nulls}

    def _delete_files(self) -> None:
        for action in self._actions:
            with suppress(OSError):
                self._system.delete_file(f"{self._root}/{action.path}")
        self._actions.clear()


@contextmanager
def writing(place: str) -> Iterator[None]:
    """Raise what a storage refuses by its place: UsageError where no file can be, StoreError of a full disk."""
    try:
        yield
    except (OSError, pa.ArrowException, DeltaError) as exc:
        mistaken = isinstance(exc, (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError))
        said = getattr(exc, "strerror", None) or reason(place, exc)
        raise (UsageError if mistaken else StoreError)(f"{place}: cannot be written: {said}") from exc


def _refuse_demands(table: DeltaTable, schema: pa.Schema, partition: list[str], location: str) -> None:
    """Refuse a table whose files would have to be others than those written here.

    Raises:
        DataError: it is partitioned otherwise, or demands of rows what nobody checks here.
    """
    about, fields = table.metadata(), table.schema().fields
    partitioned = [f"is partitioned by {', '.join(about.partition_columns)}"]
    demands = partitioned if about.partition_columns != partition else []
    settings = [about.configuration, *(field.metadata for field in fields)]
    demands += [
        f"has {name}"
        for each in settings
        for name, value in each.items()
        if DEMANDS.fullmatch(name) and value != "none"
    ]
    demands += [
        f"needs {each.name!r} in each row" for each in fields if not each.nullable and each.name not in schema.names
    ]
    if demands:
        raise DataError(f"{location}: a Delta table that {demands[0]}, which is not written here: give another place")


def _refuse_other_types(table: DeltaTable, schema: pa.Schema, location: str) -> None:
    there = pa.schema(table.schema().to_arrow())
    for field in schema:
        if field.name in there.names and not _alike(there.field(field.name).type, field.type):
            raise DataError(
                f"{location}: column {field.name!r} is {there.field(field.name).type} there and {field.type} here: "
                "another table; give another place"
            )


def _alike(one: pa.DataType, other: pa.DataType) -> bool:
    return bool(one == other or (is_text(one) and is_text(other)))
