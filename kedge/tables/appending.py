"""The prediction log of a model as it is written: Delta tables in the store, to which rows are only appended.

``logs/<model>/predictions`` and ``logs/<model>/labels``, and ``requests`` and ``responses`` of what KServe's logger
passes on, are partitioned by ``_day`` (UTC). A batch carries the transaction id ``(writer, sequence)``, so that a batch
sent twice by a restarted writer is in the table once. An event that was sent twice may be in it twice: the log is a set
keyed by id, and :mod:`kedge.tables.log`, which reads, gives one row an id, the one received first. Only the reader
knows what a prediction is; it joins requests with responses and predictions with labels.

Needs Delta Lake and the small Arrow that it brings; the collector's image has no other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote

import orjson
from arro3.core import Array, DataType, Field, Schema, list_array
from arro3.core import Table as Rows
from deltalake import ColumnProperties, CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError

from kedge.clouds import reason
from kedge.errors import DataError, StoreError, UsageError
from kedge.policy import Policy
from kedge.store import Store
from kedge.store.files import sync_folder
from kedge.tables import commits

Table = Literal["predictions", "labels", "requests", "responses"]
TABLES: tuple[Table, ...] = get_args(Table)

Kind = Literal["text", "double", "time", "count", "doubles"]
TYPES: dict[Kind, DataType] = {
    "text": DataType.string(),
    "double": DataType.float64(),
    "time": DataType.timestamp("us", tz="UTC"),
    "count": DataType.int64(),
    "doubles": DataType.list(Field("element", DataType.float64())),
}
LABEL_COLUMNS: dict[str, Kind] = {"_id": "text", "_label": "double", "_observed": "time", "_received": "time"}
REQUEST_COLUMNS: dict[str, Kind] = {
    "_id": "text",
    "_time": "time",
    "_received": "time",
    "_version": "text",
    "_slot": "text",
    "_rows": "count",
}
"""Of a row of a request; the features follow. ``_rows`` is how many rows the request had."""
RESPONSE_COLUMNS: dict[str, Kind] = {**REQUEST_COLUMNS, "_score": "double", "_prediction": "double"}
"""Of a row of a response, under the id of its request's row."""
DATED_BY: dict[Table, str] = {"predictions": "_time", "labels": "_observed", "requests": "_time", "responses": "_time"}
"""The column that says to which day a row belongs."""
SETTINGS = {"delta.dataSkippingStatsColumns": "_time,_observed,_received"}
"""Minimum and maximum of these columns are kept for each file; of 2,000 features they would swell every commit."""
ATTEMPTS = 5


def columns_of(policy: Policy, table: Table) -> dict[str, Kind]:
    """Columns of a table without ``_day``."""
    match table:
        case "predictions":
            return prediction_columns(policy)
        case "labels":
            return LABEL_COLUMNS
        case "requests":
            return REQUEST_COLUMNS | feature_columns(policy)
        case "responses":
            return RESPONSE_COLUMNS | {"_score": score_kind(policy)}


def prediction_columns(policy: Policy) -> dict[str, Kind]:
    """Columns of ``logs/<model>/predictions`` without ``_day``."""
    own: dict[str, Kind] = {
        "_id": "text",
        "_time": "time",
        "_received": "time",
        "_version": "text",
        "_slot": "text",
        "_score": score_kind(policy),
        "_prediction": "double",
        "_latency_ms": "double",
    }
    return own | feature_columns(policy)


def score_kind(policy: Policy) -> Kind:
    """Of a score: a number or, of several classes, the probability of each, in the order of the policy's classes."""
    return "doubles" if policy.model.classes else "double"


def feature_columns(policy: Policy) -> dict[str, Kind]:
    """Features as they are logged: number, integer and boolean are double; categories, and whatever the policy's
    privacy changed, are text."""
    return {
        name: "text" if feature.type == "category" or feature.privacy != "keep" else "double"
        for name, feature in policy.model.features.items()
    }


def schema(columns: Mapping[str, Kind]) -> Schema:
    """The table's columns: these and ``_day``."""
    return Schema([Field(name, TYPES[kind]) for name, kind in {**columns, "_day": "text"}.items()])


def table_of(columns: Mapping[str, Kind], values: Iterable[Sequence[Any]]) -> Rows:
    """Rows from the values of each column; times are microseconds since 1970.

    >>> table_of({"_id": "text", "_label": "double"}, [["a", "b"], [True, None]])["_label"].to_pylist()
    [1.0, None]
    """
    arrays = [array_of(column, kind) for column, kind in zip(values, columns.values(), strict=True)]
    return Rows.from_arrays(arrays, names=list(columns))


def array_of(values: Sequence[Any], kind: Kind) -> Array:
    """One column, see :func:`table_of`; a list that is missing is empty."""
    if kind == "doubles":
        ends = list(accumulate((len(each or ()) for each in values), initial=0))
        parts = Array([part for each in values for part in each or ()], DataType.float64())
        return list_array(Array(ends, DataType.int32()), parts, type=TYPES[kind])
    return Array(values, DataType.int64()).cast(TYPES[kind]) if kind == "time" else Array(values, TYPES[kind])


def append(
    store: Store,
    policy: Policy,
    table: Table,
    rows: Any,
    *,
    writer: str,
    sequence: int,
    opened: dict[str, DeltaTable] | None = None,
) -> bool:
    """Append a batch exactly once; True if this call wrote it.

    Args:
        rows: An Arrow table of any library, with columns of :func:`columns_of`; a missing column is null, a missing
            ``_received`` is now.
        writer: Who appends, one name a spool.
        sequence: Rises with every batch of this writer; a number not above the last one written is skipped.
        opened: Tables kept open between calls, which then read only the commits since the call before.

    Raises:
        DataError: an id or time is null, or a column's type is not that of the table's column.
        StoreError: the store refused.
    """
    given = Rows.from_arrow(rows)
    if not given.num_rows:
        return False
    whole = _with_day(given, columns_of(policy, table), DATED_BY[table])
    return _append(store, key_of(policy, table), whole, writer, sequence, {} if opened is None else opened)


def last_sequence(store: Store, policy: Policy, table: Table, writer: str) -> int | None:
    """Number of the last batch a writer appended, None if it never did."""
    key = key_of(policy, table)
    with store_errors(store, key):
        found = open_table(store, key)
        last = None if found is None else found.transaction_version(writer)
    return None if last is None else int(last)


def known_ids(store: Store, policy: Policy, ids: Iterable[str]) -> set[str]:
    """Those of ``ids`` that the log has a prediction or a request of: newest days first, until all are found."""
    known: set[str] = set()
    missing = set(ids)
    for name in ("predictions", "requests"):
        key = key_of(policy, name)
        with store_errors(store, key):
            table = open_table(store, key)
            for day in days(table):
                if table is None or not missing:
                    break
                for batch in table.scan(columns=["_id"], predicate=f"_day = '{day}'"):
                    known |= missing.intersection(batch["_id"].to_pylist())
                missing -= known
    return known


def open_table(store: Store, key: str) -> DeltaTable | None:
    """The Delta table at a key of the store, or None if there is none yet.

    Raises:
        DeltaError: as :func:`kedge.tables.commits.opened`.
        StoreError: there was one.
    """
    place, options = store.uri(key), store.options()
    with suppress(TableNotFoundError):
        return commits.opened(place, options)
    if not any(name.startswith("_day=") for name in store.folders(key)):
        return None
    try:
        return commits.opened(place, options)  # another writer may have made it just now
    except TableNotFoundError:
        raise StoreError(
            f"{place}: its _delta_log is gone, its files are there; restore it from a backup, or move the folder away "
            "to begin a new log"
        ) from None


def newest(store: Store, key: str, table: DeltaTable | None) -> DeltaTable | None:
    """A table that was opened before, brought up to date; as :func:`open_table` if it was not."""
    if table is None:
        return open_table(store, key)
    seen = table.version()
    table.update_incremental()
    commits.refuse_torn(store.uri(key), table, seen)
    return table


def days(table: DeltaTable | None) -> list[str]:
    """The days a table has rows of, the newest first."""
    found = {part["_day"] for part in table.partitions()} if table is not None else set()
    return sorted(found, reverse=True)


def received(table: DeltaTable) -> list[datetime | None]:
    """When the newest row of each file was received, by the files' statistics, which keep milliseconds; None: they do
    not say."""
    files = table.get_add_actions(flatten=True)
    if "max._received" not in files.column_names:
        return [None] * files.num_rows
    return list(files["max._received"].to_pylist())


def key_of(policy: Policy, table: Table) -> str:
    """Where a model's table lies in the store."""
    return f"logs/{policy.name}/{table}"


def day_of(moment: datetime) -> str:
    """The partition a time belongs to."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def aware(**moments: datetime) -> None:
    """Raise UsageError for a time without offset."""
    for name, moment in moments.items():
        if moment.tzinfo is None:
            raise UsageError(f"prediction log: {name} {moment} has no offset; use UTC")


@contextmanager
def store_errors(store: Store, key: str) -> Iterator[None]:
    """Delta Lake's faults as ours, with the table's address."""
    try:
        yield
    except SchemaMismatchError as exc:
        raise DataError(f"{store.uri(key)}: {exc}") from exc
    except (DeltaError, OSError) as exc:
        raise StoreError(f"{store.uri(key)}: {reason(store.url, exc)}") from exc


def _append(store: Store, key: str, rows: Rows, writer: str, sequence: int, opened: dict[str, DeltaTable]) -> bool:
    with store_errors(store, key):
        for attempt in range(ATTEMPTS):
            table = newest(store, key, opened.pop(key, None))  # after a fault it is read anew
            if table is not None:
                last = table.transaction_version(writer)
                if last is not None and last >= sequence:
                    return False
                _check_types(table, rows.schema, key)
            try:
                opened[key] = _write(table, store, key, rows, writer, sequence)
                settle(store.uri(key), opened[key].version())
            except CommitFailedError:  # another writer made the table, or changed its columns, in the same moment
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return True
    return False


def _write(table: DeltaTable | None, store: Store, key: str, rows: Rows, writer: str, sequence: int) -> DeltaTable:
    if table is None:
        table = DeltaTable.create(
            store.uri(key),
            rows.schema,
            mode="ignore",
            partition_by=["_day"],
            configuration=SETTINGS,
            storage_options=store.options(),
        )
    write_deltalake(
        table,
        rows,
        mode="append",
        schema_mode="merge",
        writer_properties=_writer_properties(rows.schema),
        commit_properties=CommitProperties(app_transactions=[Transaction(writer, sequence)]),
    )
    return table


def settle(place: str, version: int) -> None:
    """Have the disk keep what a version added to a local table: Delta Lake leaves that to the machine's next half
    minute, and whoever appends from a journal deletes it at once.

    Args:
        place: Where the table is; object storage keeps what it took.
        version: One that was just written.

    Raises:
        OSError: the disk refused.
    """
    if "://" in place:
        return
    root, log = Path(place), Path(place, "_delta_log")
    before = f"{max(version - 1, 0):020}.json"  # of a table that was made for it
    names = (before, f"{version:020}.json", f"{version:020}.checkpoint.parquet", "_last_checkpoint")
    files = {root / unquote(name) for name in _added((log / names[1]).read_bytes())}
    files |= {log / name for name in names if (log / name).exists()}
    for file in files:
        with file.open("rb") as written:
            os.fsync(written.fileno())
    made = root.parents[:3] if version < 2 else ()  # with the table
    for folder in {root, *made, *(file.parent for file in files)}:
        sync_folder(folder)


def _added(commit: bytes) -> Iterator[str]:
    """The files that a commit adds."""
    for line in commit.splitlines():
        if added := orjson.loads(line).get("add"):
            yield added["path"]


def _writer_properties(rows: Schema) -> WriterProperties:
    """Dictionaries for text that repeats only: of ids and measured numbers they cost time and save nothing."""
    repeating = [name for name, kind in _types(rows).items() if _is_text(kind) and name != "_id"]
    return WriterProperties(
        compression="SNAPPY",
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties={name: ColumnProperties(dictionary_enabled=True) for name in repeating},
    )


def _check_types(table: DeltaTable, rows: Schema, key: str) -> None:
    logged = _types(table.schema().to_arrow())
    for name, kind in _types(rows).items():
        there = logged.get(name)
        if there is not None and not (there == kind or (_is_text(there) and _is_text(kind))):
            raise DataError(
                f"{key}: column {name!r} is logged as {_shown(there)}, the policy now makes it {_shown(kind)}; log it "
                "as a feature of another name, or begin a new log by moving this one away"
            )


def _types(of: Schema) -> dict[str, DataType]:
    return {name: of.field(name).type for name in of.names}


def _is_text(kind: DataType) -> bool:
    return DataType.is_string(kind) or DataType.is_large_string(kind) or DataType.is_string_view(kind)


def _shown(kind: DataType) -> str:
    names = {"Utf8": "string", "Float64": "double", "Int64": "count"}
    name = str(kind).partition("<")[2].rstrip(">\n")
    return names.get(name, name)


def _with_day(rows: Rows, columns: Mapping[str, Kind], dated_by: str) -> Rows:
    """The rows in the table's columns, with the day they belong to."""
    unknown = set(rows.column_names) - set(columns)
    if unknown:
        raise DataError(f"prediction log: columns {sorted(unknown)} are not of this log; it has {list(columns)}")
    found = {name: _column(rows, name, kind) for name, kind in columns.items()}
    for name in ("_id", dated_by):
        if found[name].null_count:
            raise DataError(f"prediction log: {name} must be given in every row")
    found["_day"] = found[dated_by].cast(DataType.date32()).cast(TYPES["text"])
    return Rows.from_arrays(list(found.values()), schema=schema(columns))


def _column(rows: Rows, name: str, kind: Kind) -> Array:
    """One of the table's columns; one that was not given is null, ``_received`` the present."""
    if name not in rows.column_names or DataType.is_null(rows[name].type):
        value = time.time_ns() // 1000 if name == "_received" else None
        return array_of([value] * rows.num_rows, kind)
    column, wanted = rows[name].combine_chunks(), TYPES[kind]
    fault = f"prediction log: column {name!r} must be {_shown(wanted)}, got {_shown(column.type)}"
    try:
        found = column.cast(wanted)
    except Exception as exc:
        raise DataError(f"{fault}: {exc}") from exc
    if found.null_count > column.null_count:  # what cannot be cast becomes null
        raise DataError(fault)
    return found
