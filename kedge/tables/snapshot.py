"""The rows one run worked on, kept as they were, named by what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kedge import clock
from kedge.errors import DataError, StoreError
from kedge.policy import Data, Policy
from kedge.records import Window
from kedge.store import Store
from kedge.tables import delays
from kedge.tables.columns import FAULT, FILE, ROW, TIME
from kedge.tables.fingerprint import canonical_order, fingerprint
from kedge.tables.served import LogReader
from kedge.tables.sources import Table

PART_ROWS = 500_000
PROVENANCE = (FILE, ROW)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One Parquet file of a snapshot."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What ``snapshot.json`` says: which rows, from where, when."""

    model: str
    fingerprint: str
    rows: int
    columns: Mapping[str, str]
    """Name -> Arrow type, without provenance (``_file``, ``_row``: where the row stood in the source)."""
    oldest: datetime | None
    newest: datetime | None
    parts: Sequence[Part]
    source: str
    version: str | None
    """The source's own version, where it has one."""
    time: str
    """How rows got their time: by which column, or by row number."""
    end: datetime
    """The run's point in time: no later row is in it, nor one younger than the label delay."""
    taken: datetime
    target_values: Mapping[str, int] = field(default_factory=dict)
    """Values of a binary target as the source spells them -> rows, before any was left out."""
    faults: int = 0
    """Rows with a value that could not be read; ``_fault`` says which."""
    parent: str | None = None
    """The snapshot this one was cleaned from."""


def take(
    table: Table, policy: Policy, store: Store, *, end: datetime | None, without: Sequence[Window] = ()
) -> Snapshot:
    """Keep the table's rows up to ``end``: sorted in time, whatever the source's order.

    Rows at or after ``end``, rows whose outcome is not due by then and rows older than ``history_seconds`` are left
    out. Of the prediction log only outcomes observed by then are known. Where an absent outcome means the negative
    class, it is filled in. A value that could not be read is missing, and the row's ``_fault`` says so; validate
    decides.

    Args:
        end: The run's point in time, aware; None: now.
        without: Times ``[start, end)`` whose rows are left out: their feed was found corrupt.

    Raises:
        DataError: the table is empty, has no row in that time, or went back in time since the last snapshot of it.
        StoreError: the store refused.
    """
    end = (end or clock.now()).astimezone(UTC)
    data = policy.data
    delay = _label_delay(policy, store, end)
    before = end - timedelta(seconds=delay)
    negative = policy.labels.absent_means == "negative"
    start = end - timedelta(seconds=data.history_seconds) if data.history_seconds else None
    batches = list(table.batches(start=start, end=before, known_at=end, unlabelled=negative, provenance=True))
    if not batches:
        raise DataError(_nothing(table, start, before, end, delay))
    rows = pa.Table.from_batches([_plain_files(batch) for batch in batches])
    rows = canonical_order(_absent_as_negative(rows, policy.model.target) if negative else rows)
    time = _time_of(data)
    _refuse_backwards(store, policy.name, (table.place, time), end, before, _span(rows)[1])
    rows, all_rows = _outside(rows, without), rows.num_rows
    if not rows.num_rows:
        raise DataError(_all_quarantined(table, all_rows, without))
    faults = rows.num_rows - rows[FAULT].null_count
    if not faults:
        rows = rows.drop_columns([FAULT])
    return _write(
        store,
        rows,
        model=policy.name,
        source=table.place,
        version=table.version,
        time=time,
        end=end,
        target_values=dict(table.target_values),
        faults=faults,
    )


def _label_delay(policy: Policy, store: Store, end: datetime) -> float:
    """Age in seconds from which a row's outcome is due. Of the prediction log it is estimated if it is not stated."""
    stated = policy.labels.due_seconds
    if stated is not None or policy.data.source.format != "log":
        return stated or 0.0
    return delays.estimate(store, policy, end).due_seconds or 0.0


def _absent_as_negative(rows: pa.Table, target: str) -> pa.Table:
    """A missing outcome as 0; one that could not be read stays missing."""
    absent = pc.and_(pc.is_null(rows[target]), pc.is_null(rows[FAULT]))
    outcome = pc.if_else(absent, pa.scalar(0.0), rows[target])
    return rows.set_column(rows.schema.get_field_index(target), target, outcome)


def _outside(rows: pa.Table, windows: Sequence[Window]) -> pa.Table:
    """The rows in none of the windows; one whose time could not be read is in none."""
    for window in windows:
        low, high = (pa.scalar(time, rows[TIME].type) for time in (window.start, window.end))
        inside = pc.and_(pc.greater_equal(rows[TIME], low), pc.less(rows[TIME], high))
        rows = rows.filter(pc.invert(pc.fill_null(inside, False)))
    return rows


def _all_quarantined(table: Table, rows: int, windows: Sequence[Window]) -> str:
    spans = ", ".join(f"{window.start.isoformat()} to {window.end.isoformat()}" for window in windows)
    return f"{table.place}: all {rows:,} rows lie in times whose feed was found corrupt ({spans}); nothing to train on"


def derive(store: Store, parent: Snapshot, rows: pa.Table) -> Snapshot:
    """Keep rows left of a snapshot after cleaning. With no row less it is the parent itself.

    Args:
        rows: In the parent's order, with provenance, without ``_fault``.
    """
    return _write(
        store,
        rows,
        model=parent.model,
        source=parent.source,
        version=parent.version,
        time=parent.time,
        end=parent.end,
        target_values=parent.target_values,
        faults=0,
        parent=parent.fingerprint,
    )


def load(store: Store, model: str, name: str) -> Snapshot:
    """The snapshot of this fingerprint.

    Raises:
        DataError: there is none.
        StoreError: its manifest cannot be read.
    """
    key = f"{_prefix(model, name)}/snapshot.json"
    try:
        raw = store.get(key)
    except KeyError:
        raise DataError(f"store {store.url}: no snapshot {name} of model {model}; ingest makes one") from None
    return _parsed(raw, f"{store.url}/{key}")


def manifest(snapshot: Snapshot) -> bytes:
    """The snapshot's description as JSON, as ``snapshot.json`` holds it."""
    return orjson.dumps(asdict(snapshot), option=orjson.OPT_INDENT_2)


def read(
    store: Store, snapshot: Snapshot, columns: Sequence[str] | None = None, *, provenance: bool = False
) -> pa.Table:
    """The snapshot's rows in time order; rows of one time in the order of their other columns.

    Args:
        columns: None: all. With ``provenance`` also ``_file`` and ``_row``.

    Raises:
        DataError: the snapshot has no such column.
        StoreError: a part is missing or was altered.
    """
    names = list(snapshot.columns) if columns is None else list(columns)
    missing = [name for name in names if name not in snapshot.columns]
    if missing:
        raise DataError(
            f"snapshot {snapshot.fingerprint}: no column {missing[0]!r}; it has {', '.join(snapshot.columns)}"
        )
    wanted = [*names, *PROVENANCE] if provenance else names
    return pa.concat_tables([_part(store, snapshot, part, wanted) for part in snapshot.parts])


def all_of(store: Store, model: str) -> list[Snapshot]:
    """Every snapshot of a model, in the order they were taken."""
    keys = [key for key in store.keys(f"snapshots/{model}") if key.endswith("/snapshot.json")]
    return sorted((_parsed(store.get(key), f"{store.url}/{key}") for key in keys), key=lambda snapshot: snapshot.taken)


def _write(store: Store, rows: pa.Table, **about: Any) -> Snapshot:
    content = rows.drop_columns([name for name in PROVENANCE if name in rows.column_names])
    name = fingerprint(content)
    prefix = _prefix(about["model"], name)
    try:
        return _parsed(store.get(f"{prefix}/snapshot.json"), prefix)  # the same rows: the same snapshot
    except KeyError:
        pass
    parts = [_put_part(store, prefix, number, part) for number, part in enumerate(_sliced(rows))]
    oldest, newest = _span(content)
    snapshot = Snapshot(
        fingerprint=name,
        rows=rows.num_rows,
        columns={item.name: str(item.type) for item in content.schema},
        oldest=oldest,
        newest=newest,
        parts=parts,
        taken=clock.now(),
        **about,
    )
    store.put_if_absent(f"{prefix}/snapshot.json", manifest(snapshot))
    return load(store, snapshot.model, name)


def _span(rows: pa.Table) -> tuple[datetime | None, datetime | None]:
    times = pc.min_max(rows[TIME]).as_py()
    oldest, newest = (time.astimezone(UTC) if time is not None else None for time in (times["min"], times["max"]))
    return oldest, newest


def _sliced(rows: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, max(rows.num_rows, 1), PART_ROWS):
        yield rows.slice(start, PART_ROWS)


def _put_part(store: Store, prefix: str, number: int, rows: pa.Table) -> Part:
    """The file's name holds its hash: two runs writing the same snapshot never overwrite each other's bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    raw = sink.getvalue()
    digest = hashlib.sha256(raw).hexdigest()
    name = f"part-{number:05d}-{digest[:12]}.parquet"
    store.put(f"{prefix}/{name}", raw.to_pybytes())
    return Part(name=name, rows=rows.num_rows, sha256=digest)


def _part(store: Store, snapshot: Snapshot, part: Part, columns: list[str]) -> pa.Table:
    key = f"{_prefix(snapshot.model, snapshot.fingerprint)}/{part.name}"
    try:
        raw = store.get(key)
    except KeyError:
        raise StoreError(f"{store.url}/{key}: missing; delete the snapshot's folder and ingest again") from None
    if hashlib.sha256(raw).hexdigest() != part.sha256:
        raise StoreError(
            f"{store.url}/{key}: altered since it was written (its SHA-256 is another); "
            "delete the snapshot's folder and ingest again"
        )
    batches = pq.ParquetFile(pa.BufferReader(raw)).iter_batches(columns=columns, use_threads=False)
    table = pa.Table.from_batches(list(batches))
    return table.select(columns)


def _refuse_backwards(
    store: Store, model: str, source: tuple[str, str], end: datetime, before: datetime, newest: datetime | None
) -> None:
    """A table asked again, for no earlier a time, cannot have lost its newest rows: it was cut or restored from old."""
    for old in all_of(store, model):
        comparable = old.parent is None and (old.source, old.time) == source and old.end <= end
        if not comparable or old.newest is None or old.newest >= before:
            continue
        if newest is None or newest < old.newest:
            raise DataError(_backwards(old, newest))


def _backwards(old: Snapshot, newest: datetime | None) -> str:
    return (
        f"{old.source}: time goes backwards: its newest usable row is of {newest}, but snapshot {old.fingerprint}, "
        f"taken from it at {old.taken:%Y-%m-%d %H:%M}, had one of {old.newest}; bring the table up to date, name an "
        f"end before {old.end.isoformat()} to look back on purpose, or delete that snapshot's folder to accept the loss"
    )


def _time_of(data: Data) -> str:
    """How rows got their time: another way is another table as far as its newest row is concerned."""
    if data.row_time is not None:
        drawn = ", in an order drawn" if data.row_time.order == "drawn" else ""
        return f"row {data.row_time.start.isoformat()} + {data.row_time.step_seconds:g} s{drawn}"
    return f"column {data.time_column or TIME}"


def _nothing(table: Table, start: datetime | None, before: datetime, end: datetime, delay: float) -> str:
    """Why no row was taken: read once more, times only, to say where they lie."""
    times = [pc.min_max(batch.column(TIME)).as_py() for batch in table.batches([], known_at=end, provenance=True)]
    if not table.rows_read:
        outcome = f" with an outcome known at {end.isoformat()}" if isinstance(table.reader, LogReader) else ""
        return f"{table.place}: empty: not one row{outcome}"
    known = [time for limits in times for time in limits.values() if time is not None]
    lie = f"from {min(known).isoformat()} to {max(known).isoformat()}" if known else "at times that cannot be read"
    since = f"from {start.isoformat()} " if start else ""
    return (
        f"{table.place}: its {table.rows_read:,} rows lie {lie}, none {since}before {before.isoformat()} (the run's "
        f"end less the label delay of {delay:g} s); check data.time_column, data.history_seconds and the end asked for"
    )


def _plain_files(batch: pa.RecordBatch) -> pa.RecordBatch:
    index = batch.schema.get_field_index(FILE)
    return batch.set_column(index, FILE, batch.column(FILE).cast(pa.string()))


def _prefix(model: str, name: str) -> str:
    return f"snapshots/{model}/{name}"


def _parsed(raw: bytes, place: str) -> Snapshot:
    try:
        body = orjson.loads(raw)
        for name in ("oldest", "newest", "end", "taken"):
            body[name] = datetime.fromisoformat(body[name]) if body[name] is not None else None
        body["parts"] = tuple(Part(**part) for part in body["parts"])
        return Snapshot(**body)
    except (ValueError, TypeError, KeyError) as exc:
        raise StoreError(f"{place}: not a snapshot kedge wrote ({exc}); delete its folder and ingest again") from exc
