"""The prediction log of a model as it is read: predictions by window, joined with their labels.

What the tables are and how they are written is in :mod:`kedge.tables.appending`. Predictions are the model server's own
events and what :mod:`kedge.tables.pairs` makes of KServe's requests and responses. Of an event that was appended twice
the row received first is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from numpy.typing import NDArray
from pyarrow.dataset import ParquetFragmentScanOptions

from kedge import allocation
from kedge.errors import DataError, UsageError
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import MIRRORED, appending, pairs
from kedge.tables.appending import aware, day_of, days, key_of, newest, received, store_errors
from kedge.tables.ids import Hashes, Rows, hashes_of, held, match

Labels = Literal["left", "inner", "none"]

TIME = pa.timestamp("us", tz="UTC")
LABELS = pa.schema(appending.schema(appending.LABEL_COLUMNS))
LABELLING = ["_id", "_label", "_observed", "_received"]
"""What a join needs of a label."""
ANSWERED_WITHIN = timedelta(hours=1)
"""A response belongs to a request of its id that was made at most so long before, or dated a minute after it."""
MINUTE = timedelta(minutes=1)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
FILES = ("partition._day", "num_records")
PART_VALUES = 2_400_000
"""Of a window that is read in parts, in memory at a time: 100,000 rows of 24 columns; half as many with labels."""
READ_SPARINGLY: dict[str, Any] = {
    "batch_size": 65_536,
    "batch_readahead": 1,
    "fragment_readahead": 1,
    "use_threads": False,
    "fragment_scan_options": ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True),
}
"""For rows of which few are wanted, or that are read in parts: Arrow else holds a million of them beside."""
MICROSECOND, MILLISECOND = timedelta(microseconds=1), timedelta(milliseconds=1)
_OPENED: WeakKeyDictionary[Store, dict[str, DeltaTable]] = WeakKeyDictionary()
"""Tables that were read, by their keys."""
CLOCKS_APART = timedelta(days=1)
"""A label may bear a time before its prediction's by as much: clocks differ, and outcomes are dated by the day."""


def schema(policy: Policy) -> pa.Schema:
    """Columns of ``logs/<model>/predictions``, see :func:`kedge.tables.appending.prediction_columns`."""
    return table_schema(policy, "predictions")


def table_schema(policy: Policy, table: appending.Table) -> pa.Schema:
    """Columns of a table of the log."""
    return pa.schema(appending.schema(appending.columns_of(policy, table)))


def read_window(
    store: Store,
    policy: Policy,
    start: datetime,
    end: datetime,
    *,
    columns: Sequence[str] | None = None,
    labels: Labels = "left",
    known_at: datetime | None = None,
    received_by: datetime | None = None,
) -> pa.Table:
    """Predictions whose event time lies in ``[start, end)``, with their labels; one row an id, in no given order.

    Args:
        columns: Which columns of :func:`schema`, in this order; all but ``_day`` by default. Others are not read.
        labels: ``left`` adds ``_label`` and ``_observed``, null where no label arrived yet; ``inner`` keeps labelled
            rows only; ``none`` adds nothing. Of several labels of an id the one observed last counts; labels of days
            before the one before ``start`` are not read.
        known_at: Labels and corrections observed after it are not read; None: all are.
        received_by: Nor are those received after it, whenever they were observed.

    Raises:
        UsageError: a time without offset, or a column that is not in the log.
        StoreError: the store cannot be read.
    """
    aware(start=start, end=end)
    wanted = _columns(policy, columns)
    return _window(store, policy, start, end, wanted, labels, known_at, received_by)


def _window(
    store: Store,
    policy: Policy,
    start: datetime,
    end: datetime,
    wanted: list[str],
    labels: Labels,
    known_at: datetime | None,
    received_by: datetime | None,
) -> pa.Table:
    """See :func:`read_window`."""
    needed = list(dict.fromkeys((*wanted, "_id", "_received")))
    if end <= start:
        nothing = schema(policy).empty_table()
        return (
            nothing.select(wanted) if labels == "none" else _joined(nothing, LABELS.empty_table(), wanted, inner=False)
        )
    if labels == "none":
        return _first_received(_predictions(store, policy, needed, start, end), wanted)
    later = _later(start, known_at, received_by)
    with ThreadPoolExecutor(1) as beside:  # ids decode on one thread a table, and most of the time goes there
        reading = beside.submit(_read, store, key_of(policy, "labels"), LABELS, LABELLING, later)
        predictions = _predictions(store, policy, needed, start, end)
        found = reading.result()
    return _joined(predictions, found, wanted, inner=labels == "inner")


def _first_received(predictions: pa.Table, wanted: list[str]) -> pa.Table:
    """Of each id the row received first."""
    first, _ = match(predictions["_id"], predictions["_id"].slice(0, 0))
    kept = pairs.received_first(predictions["_received"], first)
    result = predictions.select(wanted)
    return result if kept.all() else result.filter(pa.array(kept))


def _later(start: datetime, known_at: datetime | None, received_by: datetime | None) -> pc.Expression:
    """Labels that predictions from a time on may have, as they were known then."""
    later = pc.field("_day") >= day_of(start - CLOCKS_APART)
    if known_at is not None:
        aware(known_at=known_at)
        later &= _until("_observed", known_at)
    if received_by is not None:
        later &= pc.field("_received") <= pa.scalar(received_by, TIME)
    return later


def read_first(
    store: Store, policy: Policy, start: datetime, end: datetime, rows: int, *, version: str, known_at: datetime
) -> pa.Table:
    """The first predictions of one bundle in ``[start, end)``, by time and id, with their labels.

    Columns ``_id``, ``_time``, ``_score``; at most so many rows, read in constant memory however many the log holds.
    Copies of rows (``MIRRORED``) have the ids of what they are copies of. Other arguments and errors as in
    :func:`read_window`.
    """
    aware(start=start, end=end, known_at=known_at)
    key, columns = key_of(policy, "predictions"), ["_id", "_time", "_score", "_received"]
    first = schema(policy).empty_table().select(columns)
    with _table(store, key) as table:
        wanted = _between("_time", start, end) & (pc.field("_version") == version)
        found = table.to_pyarrow_dataset().scanner(columns=columns, filter=wanted).to_batches() if table else ()
        for batch in found:
            first = pa.concat_tables([first, pa.Table.from_batches([batch]).cast(first.schema)])
            if len(first) > 4 * rows:
                first = _least(first, rows)
    first = _least(first, rows)
    if not len(first):  # Arrow finds no type in a set of nothing
        return _joined(first, LABELS.empty_table(), columns[:3], inner=False)
    within = (pc.field("_day") >= day_of(start - CLOCKS_APART)) & _until("_observed", known_at)
    within &= pc.field("_id").isin(first["_id"])
    labels = _read(store, key_of(policy, "labels"), LABELS, LABELLING, within)
    return _joined(first, labels, columns[:3], inner=False)


def _least(predictions: pa.Table, rows: int) -> pa.Table:
    """Those that come first by time and id, copies under the ids of what they are copies of."""
    ids = pc.replace_substring_regex(predictions["_id"], f"{MIRRORED}$", "")
    predictions = predictions.set_column(0, "_id", ids)
    keys = predictions.select(["_time", "_id"])  # a table with lists cannot be sorted
    return predictions.take(pc.sort_indices(keys, [("_time", "ascending"), ("_id", "ascending")])[:rows])


def read_parts(
    store: Store,
    policy: Policy,
    start: datetime,
    end: datetime,
    *,
    columns: Sequence[str] | None = None,
    labels: Labels = "left",
    known_at: datetime | None = None,
    received_by: datetime | None = None,
) -> Iterator[pa.Table]:
    """What :func:`read_window` reads, in parts that fit into memory, one after the other in time.

    An id that is in several parts is in the first of them only.
    """
    aware(start=start, end=end)
    wanted = _columns(policy, columns)
    needed = list(dict.fromkeys((*wanted, "_id", "_received")))
    most = (PART_VALUES if labels == "none" else PART_VALUES // 2) // len({*wanted, "_id"})
    spans = _spans(store, policy, start, end, most)
    if len(spans) == 1 and spans[0][2] <= 2 * most:
        yield _window(store, policy, start, end, wanted, labels, known_at, received_by)
        return
    allocation.give_more_back()
    seen: list[Hashes] = []
    for first, last, count in spans:
        later = _later(first, known_at, received_by)
        for predictions in _parts(store, policy, needed, (first, last), count, most):
            hashes = hashes_of(predictions["_id"])
            mine = np.sort(hashes)
            again = np.zeros(len(hashes), np.bool_)
            for earlier in seen:
                again |= held(earlier, hashes)
            seen.append(mine)
            fresh = predictions.filter(pa.array(~again)) if again.any() else predictions
            if labels == "none":
                yield _first_received(fresh, wanted)
            else:  # of a day's labels most are of other parts
                found = _read(store, key_of(policy, "labels"), LABELS, LABELLING, later, _among(mine))
                yield _joined(fresh, found, wanted, inner=labels == "inner")
            del predictions, fresh
            pa.default_memory_pool().release_unused()


def _among(hashes: Hashes) -> Callable[[pa.Array], NDArray[np.bool_]]:
    """Which ids have one of these hashes, which are in order."""
    return lambda ids: held(hashes, hashes_of(ids))


def _parts(
    store: Store, policy: Policy, columns: list[str], span: tuple[datetime, datetime], count: int, most: int
) -> Iterator[pa.Table]:
    """Predictions of a part of a window: at once, or about so many rows at a time where a moment has more, as of a
    batch."""
    if count <= 2 * most:
        yield _predictions(store, policy, columns, *span, sparing=True)
        return
    yield _answered(store, policy, columns, *span, sparing=True)
    key, held_back = key_of(policy, "predictions"), list[pa.RecordBatch]()
    with _table(store, key) as table:
        for batch in _batches(table, columns, _between("_time", *span)) if table is not None else ():
            held_back.append(batch)
            if sum(map(len, held_back)) >= most:
                yield _as_policy_says(pa.Table.from_batches(held_back), schema(policy), columns, key)
                held_back.clear()
        if held_back:
            yield _as_policy_says(pa.Table.from_batches(held_back), schema(policy), columns, key)


def _spans(
    store: Store, policy: Policy, start: datetime, end: datetime, rows: int
) -> list[tuple[datetime, datetime, int]]:
    """Spans from start to end in each of which about so many predictions were made, or more at one moment; how many."""
    names: tuple[appending.Table, ...] = ("predictions", "requests")
    counts = _rows_by_day(store, policy, names) if end > start else Counter()
    if sum(count for day, count in counts.items() if day_of(start) <= day <= day_of(end)) <= rows:
        return [(start, end, 0)]
    parts = []
    for name in names:
        key, wanted = key_of(policy, name), table_schema(policy, name)
        times = _read(store, key, wanted, ["_time"], _between("_time", start, end), sparing=True)["_time"]
        parts.append(times.cast(pa.int64()).to_numpy())
    ticks = np.sort(np.concatenate(parts))
    count = -(-len(ticks) // rows)
    cuts = np.unique(ticks[np.arange(1, count) * len(ticks) // count]).astype("datetime64[us]").tolist()
    bounds = [start, *(cut.replace(tzinfo=UTC) for cut in cuts if cut.replace(tzinfo=UTC) > start), end]
    times = np.array([bound.astimezone(UTC).replace(tzinfo=None) for bound in bounds], "datetime64[us]")
    places = np.searchsorted(ticks, times.view(np.int64))
    return [(*span, int(made)) for span, made in zip(pairwise(bounds), np.diff(places), strict=True)]


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
    aware(observed_start=observed_start, observed_end=observed_end)
    wanted = _columns(policy, columns)
    within = _between("_observed", observed_start, observed_end)
    found = _read(store, key_of(policy, "labels"), LABELS, LABELLING, within)
    needed = list(dict.fromkeys((*wanted, "_id", "_received")))
    predictions = _of_ids(store, policy, found["_id"], needed)
    return _joined(predictions, found, wanted, inner=True)


def read_late(
    store: Store,
    policy: Policy,
    start: datetime,
    end: datetime,
    *,
    since: datetime,
    known_at: datetime,
    columns: Sequence[str] | None = None,
    received_since: datetime | None = None,
    received_by: datetime | None = None,
    without: Hashes | None = None,
) -> pa.Table:
    """Predictions made in ``[start, end)`` that got a label after ``since``, at the latest at ``known_at``.

    Columns, order and errors as in :func:`read_window`, and ``_corrected``: whether it had a label before.

    Args:
        received_since: A label received after it came after ``since``, even if it was observed before.
        received_by: Labels received after it are not read.
        without: Hashes of the ids of predictions that are of no interest, because they were made later, for instance.
    """
    aware(start=start, end=end, since=since, known_at=known_at)
    wanted = _columns(policy, columns)
    names = list(dict.fromkeys(("_id", *wanted)))
    key = key_of(policy, "labels")
    within = _between("_observed", since + MICROSECOND, known_at + MICROSECOND)
    if received_since is not None:
        told = _between("_observed", start - CLOCKS_APART, known_at + MICROSECOND)
        within |= told & (pc.field("_received") > pa.scalar(received_since, TIME))
    if received_by is not None:
        within &= pc.field("_received") <= pa.scalar(received_by, TIME)
    without = np.sort(without if without is not None else np.empty(0, np.uint64))
    found = _read(store, key, LABELS, LABELLING, within, lambda ids: ~held(without, hashes_of(ids)))
    predictions = _of_ids(store, policy, found["_id"], [*names, "_received"], (start, end))
    before = found.slice(0, 0)
    if predictions.num_rows:
        earlier = (pc.field("_day") >= day_of(start - CLOCKS_APART)) & _until("_observed", since)
        if received_since is not None:
            earlier &= pc.field("_received") <= pa.scalar(received_since, TIME)
        before = _read(store, key, LABELS, LABELLING, earlier & pc.field("_id").isin(predictions["_id"]))
    parts = [part.append_column("_new", pa.repeat(new, len(part))) for part, new in ((before, False), (found, True))]
    late = _joined(predictions, pa.concat_tables(parts), names, inner=True, told=("_label", "_observed", "_new"))
    late = late.filter(late["_new"])  # what was told again is no correction
    corrected = pc.is_in(late["_id"], value_set=before["_id"].combine_chunks())
    return late.select([*wanted, "_label", "_observed"]).append_column("_corrected", corrected)


def _rows_by_day(store: Store, policy: Policy, names: Sequence[appending.Table]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name in names:
        key = key_of(policy, name)
        with _table(store, key) as table:
            files = table.get_add_actions(flatten=True) if table is not None else None
            if files is not None:
                for day, count in zip(*(files[column].to_pylist() for column in FILES), strict=True):
                    counts[day] += count
    return counts


def newest_days(
    store: Store, policy: Policy, rows: int, end: datetime, name: appending.Table = "predictions"
) -> datetime | None:
    """Midnight before the newest days up to ``end`` that together hold at most so many rows, one day at least.

    None: the table holds none. Reads no row: Delta Lake keeps each file's count.
    """
    counts = _rows_by_day(store, policy, ("predictions", "requests") if name == "predictions" else (name,))
    total, first = 0, None
    for day in sorted((day for day in counts if day <= day_of(end)), reverse=True):
        total += counts[day]
        if total > rows and first is not None:
            break
        first = day
    return None if first is None else datetime.fromisoformat(first).replace(tzinfo=UTC)


def read_labels(store: Store, policy: Policy, start: datetime | None) -> pa.Table:
    """All labels observed from ``start`` on, as they were appended: several of an id if it was corrected."""
    condition = None
    if start is not None:
        aware(start=start)
        condition = (pc.field("_day") >= day_of(start)) & (pc.field("_observed") >= pa.scalar(start, TIME))
    names = [name for name in LABELS.names if name != "_day"]
    return _read(store, key_of(policy, "labels"), LABELS, names, condition)


def _predictions(
    store: Store, policy: Policy, columns: list[str], start: datetime, end: datetime, *, sparing: bool = False
) -> pa.Table:
    """What was predicted in ``[start, end)``: own events, and pairs of KServe's; ids may occur several times."""
    within = _between("_time", start, end)
    own = _read(store, key_of(policy, "predictions"), schema(policy), columns, within, sparing=sparing)
    answered = _answered(store, policy, columns, start, end, sparing=sparing)
    return pa.concat_tables(part for part in (own, answered) if part.num_rows or part is own)


def _answered(
    store: Store, policy: Policy, columns: list[str], start: datetime, end: datetime, *, sparing: bool
) -> pa.Table:
    """Those of them that are pairs."""

    def read(name: appending.Table, names: list[str], start: datetime, end: datetime) -> pa.Table:
        within = _between("_time", start, end)
        return _read(store, key_of(policy, name), table_schema(policy, name), names, within, sparing=sparing)

    until = min(end, LAST - ANSWERED_WITHIN) + ANSWERED_WITHIN
    since = max(start, FIRST + MINUTE) - MINUTE
    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(read, "responses", pairs.response_columns(columns), since, until)
        requests = read("requests", pairs.request_columns(columns), start, end)
        responses = reading.result()
    nothing = schema(policy).empty_table().select(columns)
    return pairs.joined(requests, responses, columns).cast(nothing.schema) if requests.num_rows else nothing


def _read(
    store: Store,
    key: str,
    wanted: pa.Schema,
    columns: Sequence[str],
    condition: pc.Expression | None,
    kept: Callable[[pa.Array], NDArray[np.bool_]] | None = None,
    *,
    sparing: bool = False,
) -> pa.Table:
    """Columns of a table in the log, empty if it does not exist; a column the table lacks is null.

    Args:
        kept: Which rows to keep, by their ids, while they are read.
        sparing: Of memory: Arrow reads little ahead.
    """
    with _table(store, key) as table:
        if table is None:
            return wanted.empty_table().select(columns)
        if kept is None and not sparing:
            dataset = table.to_pyarrow_dataset()
            there = [name for name in columns if name in dataset.schema.names]
            read = dataset.to_table(columns=there, filter=condition)
        else:
            batches = _batches(table, columns, condition)
            chosen = (batch if kept is None else batch.filter(pa.array(kept(batch["_id"]))) for batch in batches)
            parts = [batch for batch in chosen if batch.num_rows]
            read = pa.Table.from_batches(parts) if parts else wanted.empty_table()
    return _as_policy_says(read, wanted, columns, key)


def _batches(table: DeltaTable, columns: Sequence[str], condition: pc.Expression | None) -> Iterator[pa.RecordBatch]:
    """Those of the columns that a table has, some rows at a time."""
    dataset = table.to_pyarrow_dataset()
    there = [name for name in columns if name in dataset.schema.names]
    batches = dataset.to_batches(columns=there, filter=condition, **READ_SPARINGLY)
    return (batch for batch in batches if batch.num_rows)


@contextmanager
def _table(store: Store, key: str) -> Iterator[DeltaTable | None]:
    """The table as it is now, or None. Who reads it again reads only the commits since; after a fault, all anew."""
    opened = _OPENED.setdefault(store, {})
    with store_errors(store, key):
        table = newest(store, key, opened.pop(key, None))
        yield table
        if table is not None:
            opened[key] = table


def _as_policy_says(read: pa.Table, wanted: pa.Schema, columns: Sequence[str], key: str) -> pa.Table:
    """Rows in these columns, of the policy's types; a column that they lack is null."""

    def column(field: pa.Field) -> pa.ChunkedArray:
        if field.name not in read.column_names:
            return pa.nulls(read.num_rows, field.type)
        try:
            return read[field.name].cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(
                f"{key}: column {field.name!r} holds values of type {read[field.name].type} that are none of type "
                f"{field.type}, which the policy says: they were logged under another policy; give the feature of the "
                "new type another name"
            ) from None

    return pa.table({name: column(wanted.field(name)) for name in columns})


def _of_ids(
    store: Store,
    policy: Policy,
    ids: pa.ChunkedArray,
    columns: list[str],
    within: tuple[datetime, datetime] | None = None,
) -> pa.Table:
    """Predictions of these ids, made whenever or within a time."""
    own = _found(store, policy, "predictions", ids, columns, within)
    requests = _found(store, policy, "requests", ids, pairs.request_columns(columns), within)
    if not requests.num_rows:
        return own
    responses = _found(store, policy, "responses", requests["_id"], pairs.response_columns(columns), None)
    return pa.concat_tables([own, pairs.joined(requests, responses, columns).cast(own.schema)])


def predicted_before(store: Store, policy: Policy, ids: pa.Array) -> int:
    """How many of some ids have predictions on the newest day of the log.

    Raises:
        StoreError: the log cannot be read.
    """
    key = key_of(policy, "predictions")
    with _table(store, key) as table:
        newest_day = days(table)[:1]
    condition = pc.field("_day").isin(newest_day) & pc.field("_id").isin(ids)
    found = _read(store, key, schema(policy), ["_id"], condition) if newest_day else schema(policy).empty_table()
    return int(pc.count_distinct(found["_id"]).as_py())


def _found(
    store: Store,
    policy: Policy,
    name: appending.Table,
    ids: pa.ChunkedArray,
    columns: Sequence[str],
    within: tuple[datetime, datetime] | None,
) -> pa.Table:
    """Rows of a table with these ids: newest days first, until all are found."""
    wanted = table_schema(policy, name)
    key = key_of(policy, name)
    parts = [wanted.empty_table().select(columns)]
    missing = pc.unique(ids)
    with _table(store, key) as table:
        listed = days(table)
    for day in listed:
        if not len(missing):
            break
        condition = (pc.field("_day") == day) & pc.field("_id").isin(missing)
        if within is not None:
            if not day_of(within[0]) <= day <= day_of(within[1]):
                continue
            condition &= _between("_time", *within)
        part = _read(store, key, wanted, columns, condition)
        if part.num_rows:
            parts.append(part)
            missing = missing.filter(pc.invert(pc.is_in(missing, value_set=part["_id"].combine_chunks())))
    return pa.concat_tables(parts)


def newest_label(store: Store, policy: Policy) -> datetime | None:
    """When the newest label of the log was received; None: there is none, or not all files say."""
    with _table(store, key_of(policy, "labels")) as table:
        times = received(table) if table is not None else []
    known = [time for time in times if time is not None]
    return max(known) + MILLISECOND - MICROSECOND if known and len(known) == len(times) else None


def _joined(
    predictions: pa.Table,
    labels: pa.Table,
    wanted: list[str],
    *,
    inner: bool,
    told: Sequence[str] = ("_label", "_observed"),
) -> pa.Table:
    first, labelled = match(predictions["_id"], labels["_id"])
    found = _latest_label(labels, labelled, predictions.num_rows)[first]
    kept = pairs.received_first(predictions["_received"], first)
    if inner:
        kept &= found >= 0
    result = predictions.select(wanted)
    if not kept.all():
        result, found = result.filter(pa.array(kept)), found[kept]
    rows = pa.array(found, mask=found < 0)
    for name in told:
        result = result.append_column(labels.schema.field(name), labels[name].take(rows))
    return result


def _latest_label(labels: pa.Table, predicted: Rows, count: int) -> Rows:
    """For each of ``count`` predictions the row of its label observed last (then: received last), -1 without one.

    An outcome that was told again is no correction: it counts from when it was told first.

    ``predicted`` says for each label the row of its prediction, -1 without one.
    """
    rows = np.full(count, -1)
    known = np.flatnonzero(predicted >= 0)
    rows[predicted[known]] = known
    if np.count_nonzero(rows >= 0) < len(known):
        several = known[(np.bincount(predicted[known]) > 1)[predicted[known]]]
        times = [labels[name].cast(pa.int64()).to_numpy()[several] for name in ("_received", "_observed")]
        order = several[np.lexsort([*times, predicted[several]])]
        told = np.column_stack([predicted[order], labels["_label"].to_numpy()[order]])
        changed = order[np.append(True, (told[1:] != told[:-1]).any(axis=1))]
        rows[predicted[changed]] = changed
    return rows


def _between(column: str, start: datetime, end: datetime) -> pc.Expression:
    first, last = day_of(start), day_of(end - timedelta(microseconds=1))
    days = (pc.field("_day") >= first) & (pc.field("_day") <= last)
    return days & (pc.field(column) >= pa.scalar(start, TIME)) & (pc.field(column) < pa.scalar(end, TIME))


def _until(column: str, end: datetime) -> pc.Expression:
    return (pc.field("_day") <= day_of(end)) & (pc.field(column) <= pa.scalar(end, TIME))


def _columns(policy: Policy, columns: Sequence[str] | None) -> list[str]:
    known = [name for name in schema(policy).names if name != "_day"]
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise UsageError(f"prediction log of {policy.name}: no columns {unknown}; it has {known}")
    return known if columns is None else list(columns)
