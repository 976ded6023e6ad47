"""The prediction log of a model: two Delta tables in the store, written exactly once, read by window.

``logs/<model>/predictions`` and ``logs/<model>/labels`` are partitioned by ``_day`` (UTC). A batch carries the
transaction id ``(writer, sequence)``, so that a batch sent twice by a restarted writer is in the table once. Two
writers that were handed the same event may both append it: readers return one row an id, the one received first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import ColumnProperties, CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError
from numpy.typing import NDArray

from components.errors import DataError, StoreError, UsageError
from components.policy import Policy
from components.store import Store
from components.tables.ids import Rows, match

Labels = Literal["left", "inner", "none"]

TIME = pa.timestamp("us", tz="UTC")
LABELS = pa.schema(
    [("_id", pa.string()), ("_label", pa.float64()), ("_observed", TIME), ("_received", TIME), ("_day", pa.string())]
)
SETTINGS = {"delta.dataSkippingStatsColumns": "_time,_observed,_received"}
"""Minimum and maximum of these columns are kept for each file; of 2,000 features they would swell every commit."""

TABLES = ("predictions", "labels")
ATTEMPTS = 5
CLOCKS_APART = timedelta(days=1)
"""A label may bear a time before its prediction's by as much: clocks differ, and outcomes are dated by the day."""


def schema(policy: Policy) -> pa.Schema:
    """Columns of ``logs/<model>/predictions``.

    Number, integer and boolean features are double; categories, and whatever the policy's privacy changed, are string.
    """
    own = [
        ("_id", pa.string()),
        ("_time", TIME),
        ("_received", TIME),
        ("_version", pa.string()),
        ("_slot", pa.string()),
        ("_score", pa.float64()),
        ("_prediction", pa.float64()),
        ("_latency_ms", pa.float64()),
    ]
    features = [
        (name, pa.string() if feature.type == "category" or feature.privacy != "keep" else pa.float64())
        for name, feature in policy.model.features.items()
    ]
    return pa.schema([*own, *features, ("_day", pa.string())])


def append_predictions(
    store: Store,
    policy: Policy,
    rows: pa.Table,
    *,
    writer: str,
    sequence: int,
    opened: dict[str, DeltaTable] | None = None,
) -> bool:
    """Append predictions exactly once; True if this call wrote them.

    Args:
        rows: Columns of :func:`schema`, without ``_day``; a missing column is null, a missing ``_received`` is now.
        writer: Who appends, one name a spool.
        sequence: Rises with every batch of this writer; a number not above the last one written is skipped.
        opened: Tables kept open between calls, which then read only the commits since the call before.

    Raises:
        DataError: an id or time is null, or a column's type is not that of the table's column.
        StoreError: the store refused.
    """
    rows = _with_day(rows, schema(policy), "_time")
    return _append(store, _key(policy, "predictions"), rows, writer, sequence, {} if opened is None else opened)


def append_labels(
    store: Store,
    policy: Policy,
    rows: pa.Table,
    *,
    writer: str,
    sequence: int,
    opened: dict[str, DeltaTable] | None = None,
) -> bool:
    """Append labels (``_id``, ``_label``, ``_observed``) exactly once, as :func:`append_predictions` does."""
    rows = _with_day(rows, LABELS, "_observed")
    return _append(store, _key(policy, "labels"), rows, writer, sequence, {} if opened is None else opened)


def read_window(
    store: Store,
    policy: Policy,
    start: datetime,
    end: datetime,
    *,
    columns: Sequence[str] | None = None,
    labels: Labels = "left",
) -> pa.Table:
    """Predictions whose event time lies in ``[start, end)``, with their labels; one row an id, in no given order.

    Args:
        columns: Which columns of :func:`schema`, in this order; all but ``_day`` by default. Others are not read.
        labels: ``left`` adds ``_label`` and ``_observed``, null where no label arrived yet; ``inner`` keeps labelled
            rows only; ``none`` adds nothing. Of several labels of an id the one observed last counts; labels of days
            before the one before ``start`` are not read.

    Raises:
        UsageError: a time without offset, or a column that is not in the log.
        StoreError: the store cannot be read.
    """
    _aware(start=start, end=end)
    wanted = _columns(policy, columns)
    needed = list(dict.fromkeys((*wanted, "_id", "_received")))
    within = _between("_time", start, end)
    if labels == "none":
        predictions = _read(store, _key(policy, "predictions"), schema(policy), needed, within)
        first, _ = match(predictions["_id"], predictions["_id"].slice(0, 0))
        kept = _received_first(predictions["_received"], first)
        result = predictions.select(wanted)
        return result if kept.all() else result.filter(pa.array(kept))
    later = pc.field("_day") >= _day(start - CLOCKS_APART)
    names = ["_id", "_label", "_observed", "_received"]
    with ThreadPoolExecutor(1) as beside:  # ids decode on one thread a table, and most of the time goes there
        reading = beside.submit(_read, store, _key(policy, "labels"), LABELS, names, later)
        predictions = _read(store, _key(policy, "predictions"), schema(policy), needed, within)
        found = reading.result()
    return _joined(predictions, found, wanted, inner=labels == "inner")


def read_labelled(
    store: Store,
    policy: Policy,
    observed_start: datetime,
    observed_end: datetime,
    *,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Predictions whose label became known in ``[observed_start, observed_end)``, whenever they were made.

    Columns, order and errors as in :func:`read_window`; an id corrected later shows its label of this window.
    """
    _aware(observed_start=observed_start, observed_end=observed_end)
    wanted = _columns(policy, columns)
    names = ["_id", "_label", "_observed", "_received"]
    found = _read(store, _key(policy, "labels"), LABELS, names, _between("_observed", observed_start, observed_end))
    needed = list(dict.fromkeys((*wanted, "_id", "_received")))
    predictions = _of_ids(store, policy, found["_id"], needed)
    return _joined(predictions, found, wanted, inner=True)


def read_labels(store: Store, policy: Policy, start: datetime | None) -> pa.Table:
    """All labels observed from ``start`` on, as they were appended: several of an id if it was corrected."""
    condition = None
    if start is not None:
        _aware(start=start)
        condition = (pc.field("_day") >= _day(start)) & (pc.field("_observed") >= pa.scalar(start, TIME))
    names = [name for name in LABELS.names if name != "_day"]
    return _read(store, _key(policy, "labels"), LABELS, names, condition)


def last_sequence(store: Store, policy: Policy, table: Literal["predictions", "labels"], writer: str) -> int | None:
    """Number of the last batch a writer appended, None if it never did."""
    key = _key(policy, table)
    with _store_errors(store, key):
        found = open_table(store, key)
        last = None if found is None else found.transaction_version(writer)
    return None if last is None else int(last)


def known_ids(store: Store, policy: Policy, ids: Sequence[str]) -> set[str]:
    """Those of ``ids`` that the log has a prediction of."""
    found = _of_ids(store, policy, pa.chunked_array([pa.array(ids, pa.string())]), ["_id"])
    return set(found["_id"].to_pylist())


def compact(store: Store, policy: Policy) -> int:
    """Put the small files of each day together; how many went away. Readers of older versions keep theirs.

    Raises:
        StoreError: the store refused.
    """
    removed = 0
    for name in TABLES:
        key = _key(policy, name)
        with _store_errors(store, key):
            table = open_table(store, key)
            if table is not None:
                removed += table.optimize.compact(max_concurrent_tasks=1)["numFilesRemoved"]
    return removed


def drop_before(store: Store, policy: Policy, time: datetime) -> None:
    """Drop the whole days before the day of ``time`` from both tables."""
    _aware(time=time)
    for name in TABLES:
        key = _key(policy, name)
        with _store_errors(store, key):
            table = open_table(store, key)
            if table is not None:
                table.delete(f"_day < '{_day(time)}'")


def vacuum(store: Store, policy: Policy) -> None:
    """Delete files that no version of the last week refers to."""
    for name in TABLES:
        key = _key(policy, name)
        with _store_errors(store, key):
            table = open_table(store, key)
            if table is not None:
                table.vacuum(dry_run=False)


def _append(store: Store, key: str, rows: pa.Table, writer: str, sequence: int, opened: dict[str, DeltaTable]) -> bool:
    with _store_errors(store, key):
        for attempt in range(ATTEMPTS):
            table = opened.pop(key, None)  # after a fault it is read anew
            if table is None:
                table = open_table(store, key)
            else:
                table.update_incremental()
            if table is not None:
                last = table.transaction_version(writer)
                if last is not None and last >= sequence:
                    return False
                _check_types(table, rows.schema, key)
            try:
                opened[key] = _write(table, store, key, rows, writer, sequence)
            except CommitFailedError:  # another writer made the table, or changed its columns, in the same moment
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return True
    return False


def _write(table: DeltaTable | None, store: Store, key: str, rows: pa.Table, writer: str, sequence: int) -> DeltaTable:
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


def _writer_properties(rows: pa.Schema) -> WriterProperties:
    """Dictionaries for text that repeats only: of ids and measured numbers they cost time and save nothing."""
    repeating = [field.name for field in rows if field.type == pa.string() and field.name != "_id"]
    return WriterProperties(
        compression="SNAPPY",
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties={name: ColumnProperties(dictionary_enabled=True) for name in repeating},
    )


def _check_types(table: DeltaTable, rows: pa.Schema, key: str) -> None:
    logged = pa.schema(table.schema())
    for field in rows:
        index = logged.get_field_index(field.name)
        if index >= 0 and not _same_type(logged.field(index).type, field.type):
            raise DataError(
                f"{key}: column {field.name!r} is logged as {logged.field(index).type}, the policy now makes it "
                f"{field.type}; log it as a feature of another name, or begin a new log by moving this one away"
            )


def _same_type(logged: pa.DataType, wanted: pa.DataType) -> bool:
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if any(is_text(wanted) for is_text in text):
        return any(is_text(logged) for is_text in text)
    return bool(logged == wanted)


def _with_day(rows: pa.Table, wanted: pa.Schema, time_column: str) -> pa.Table:
    """The rows in the table's columns, with the day they belong to."""
    unknown = set(rows.column_names) - set(wanted.names)
    if unknown:
        raise DataError(f"prediction log: columns {sorted(unknown)} are not of this log; it has {wanted.names}")
    for name in ("_id", time_column):
        if name not in rows.column_names or rows[name].null_count:
            raise DataError(f"prediction log: {name} must be given in every row")
    columns: list[pa.ChunkedArray | pa.Array] = []
    for field in wanted:
        if field.name == "_day":
            columns.append(columns[wanted.get_field_index(time_column)].cast(pa.date32()).cast(pa.string()))
        elif field.name in rows.column_names:
            columns.append(_cast(rows[field.name], field))
        elif field.name == "_received":
            columns.append(pa.array([datetime.now(UTC)] * rows.num_rows, TIME))
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    return pa.table(columns, schema=wanted)


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise DataError(
            f"prediction log: column {field.name!r} must be {field.type}, got {column.type}: {exc}"
        ) from exc


def open_table(store: Store, key: str) -> DeltaTable | None:
    """The Delta table at a key of the store, or None if there is none yet."""
    try:
        return DeltaTable(store.uri(key), storage_options=store.options())
    except TableNotFoundError:
        return None


def _read(
    store: Store, key: str, wanted: pa.Schema, columns: Sequence[str], condition: pc.Expression | None
) -> pa.Table:
    """Columns of a table in the log, empty if it does not exist; a column the table lacks is null."""
    with _store_errors(store, key):
        table = open_table(store, key)
        if table is None:
            return wanted.empty_table().select(columns)
        dataset = table.to_pyarrow_dataset()
        there = [name for name in columns if name in dataset.schema.names]
        read = dataset.to_table(columns=there, filter=condition)
    for name in columns:
        if name not in there:
            read = read.append_column(name, pa.nulls(read.num_rows, wanted.field(name).type))
    return read.select(columns).cast(pa.schema([wanted.field(name) for name in columns]))


def _of_ids(store: Store, policy: Policy, ids: pa.ChunkedArray, columns: Sequence[str]) -> pa.Table:
    """Predictions of these ids, whenever they were made: newest days first, until all are found."""
    wanted = schema(policy)
    key = _key(policy, "predictions")
    parts = [wanted.empty_table().select(columns)]
    missing = pc.unique(ids)
    for day in _days(store, key):
        if not len(missing):
            break
        condition = (pc.field("_day") == day) & pc.field("_id").isin(missing)
        part = _read(store, key, wanted, columns, condition)
        if part.num_rows:
            parts.append(part)
            missing = missing.filter(pc.invert(pc.is_in(missing, value_set=part["_id"].combine_chunks())))
    return pa.concat_tables(parts)


def _days(store: Store, key: str) -> list[str]:
    with _store_errors(store, key):
        table = open_table(store, key)
        days = {part["_day"] for part in table.partitions()} if table is not None else set()
    return sorted(days, reverse=True)


def _joined(predictions: pa.Table, labels: pa.Table, wanted: list[str], *, inner: bool) -> pa.Table:
    first, labelled = match(predictions["_id"], labels["_id"])
    found = _latest_label(labels, labelled, predictions.num_rows)[first]
    kept = _received_first(predictions["_received"], first)
    if inner:
        kept &= found >= 0
    result = predictions.select(wanted)
    if not kept.all():
        result, found = result.filter(pa.array(kept)), found[kept]
    rows = pa.array(found, mask=found < 0)
    for name in ("_label", "_observed"):
        result = result.append_column(LABELS.field(name), labels[name].take(rows))
    return result


def _received_first(received: pa.ChunkedArray, first: Rows) -> NDArray[np.bool_]:
    """Which rows are, of their id, the one received first; ``first`` says the first row of the same id."""
    kept: NDArray[np.bool_] = first == np.arange(len(first))
    if not kept.all():
        several = np.flatnonzero((np.bincount(first) > 1)[first])
        kept[several] = False
        times = received.cast(pa.int64()).to_numpy()[several]
        order = several[np.argsort(times, kind="stable")[::-1]]
        earliest = np.empty(len(first), np.int64)
        earliest[first[order]] = order
        kept[earliest[first[several]]] = True
    return kept


def _latest_label(labels: pa.Table, predicted: Rows, count: int) -> Rows:
    """For each of ``count`` predictions the row of its label observed last (then: received last), -1 without one.

    ``predicted`` says for each label the row of its prediction, -1 without one.
    """
    rows = np.full(count, -1)
    known = np.flatnonzero(predicted >= 0)
    rows[predicted[known]] = known
    if np.count_nonzero(rows >= 0) < len(known):
        several = known[(np.bincount(predicted[known]) > 1)[predicted[known]]]
        times = [labels[name].cast(pa.int64()).to_numpy()[several] for name in ("_received", "_observed")]
        order = several[np.lexsort(times)]
        rows[predicted[order]] = order
    return rows


def _between(column: str, start: datetime, end: datetime) -> pc.Expression:
    first, last = _day(start), _day(end - timedelta(microseconds=1))
    days = (pc.field("_day") >= first) & (pc.field("_day") <= last)
    return days & (pc.field(column) >= pa.scalar(start, TIME)) & (pc.field(column) < pa.scalar(end, TIME))


def _day(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d")


def _columns(policy: Policy, columns: Sequence[str] | None) -> list[str]:
    known = [name for name in schema(policy).names if name != "_day"]
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise UsageError(f"prediction log of {policy.name}: no columns {unknown}; it has {known}")
    return known if columns is None else list(columns)


def _aware(**times: datetime) -> None:
    for name, time in times.items():
        if time.tzinfo is None:
            raise UsageError(f"prediction log: {name} {time} has no offset; use UTC")


def _key(policy: Policy, table: str) -> str:
    return f"logs/{policy.name}/{table}"


@contextmanager
def _store_errors(store: Store, key: str) -> Iterator[None]:
    try:
        yield
    except SchemaMismatchError as exc:
        raise DataError(f"{store.uri(key)}: {exc}") from exc
    except (DeltaError, OSError) as exc:
        raise StoreError(f"{store.uri(key)}: {exc}") from exc
