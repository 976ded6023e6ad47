"""The rows one run worked on, kept as they were, named by what they hold."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
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
from kedge.tables.ahead import ahead
from kedge.tables.columns import FAULT, FILE, ROW, TIME
from kedge.tables.fingerprint import SLICE_ROWS, Digest
from kedge.tables.served import LogReader
from kedge.tables.sorting import Sorter
from kedge.tables.sources import Table

PART_ROWS = 4 * SLICE_ROWS
PROVENANCE = (FILE, ROW)
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


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
    with _scratch("ingest") as folder:
        kept, newest, faults, read = Sorter(folder), None, 0, 0
        raws = table.batches(start=start, end=before, known_at=end, unlabelled=negative, provenance=True)
        for raw in ahead(raws):
            batch = _plain_files(raw)
            batch = _absent_as_negative(batch, policy.model.target) if negative else batch
            read += batch.num_rows
            newest = max(filter(None, (newest, _span(batch)[1])), default=None)
            batch = _outside(batch, without)
            faults += batch.num_rows - batch[FAULT].null_count
            kept.add(batch)
        if not read:
            raise DataError(_nothing(table, start, before, end, delay))
        time = _time_of(data)
        _refuse_backwards(store, policy.name, (table.place, time), end, before, newest)
        if not kept.rows:
            raise DataError(_all_quarantined(table, read, without))
        blocks = (block if faults else block.drop_columns([FAULT]) for block in kept.blocks())
        return _write(
            store,
            blocks,
            kept.rows,
            model=policy.name,
            source=table.place,
            version=table.version,
            time=time,
            end=end,
            target_values=dict(table.target_values),
            faults=faults,
        )


@contextmanager
def _scratch(what: str) -> Iterator[Path]:
    """A folder of this machine's for rows on their way, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"kedge-{what}-") as folder:
        try:
            yield Path(folder)
        except OSError as exc:
            if exc.errno not in FULL:
                raise
            place = Path(folder).parent
            raise StoreError(
                f"{place}: {os.strerror(exc.errno)}: the rows of a run lie there until they are sorted; "
                "free space, or name another folder in $TMPDIR"
            ) from exc


def _label_delay(policy: Policy, store: Store, end: datetime) -> float:
    """Age in seconds from which a row's outcome is due. Of the prediction log it is estimated if it is not stated."""
    stated = policy.labels.due_seconds
    if stated is not None or policy.data.source.format != "log":
        return stated or 0.0
    return delays.estimate(store, policy, end).due_seconds or 0.0


def _absent_as_negative(rows: pa.RecordBatch, target: str) -> pa.RecordBatch:
    """A missing outcome as 0; one that could not be read stays missing."""
    absent = pc.and_(pc.is_null(rows[target]), pc.is_null(rows[FAULT]))
    outcome = pc.if_else(absent, pa.scalar(0.0), rows[target])
    return rows.set_column(rows.schema.get_field_index(target), target, outcome)


def _outside(rows: pa.RecordBatch, windows: Sequence[Window]) -> pa.RecordBatch:
    """The rows in none of the windows; one whose time could not be read is in none."""
    for window in windows:
        low, high = (pa.scalar(time, rows[TIME].type) for time in (window.start, window.end))
        inside = pc.and_(pc.greater_equal(rows[TIME], low), pc.less(rows[TIME], high))
        rows = rows.filter(pc.invert(pc.fill_null(inside, False)))
    return rows


def _all_quarantined(table: Table, rows: int, windows: Sequence[Window]) -> str:
    spans = ", ".join(f"{window.start.isoformat()} to {window.end.isoformat()}" for window in windows)
    return f"{table.place}: all {rows:,} rows lie in times whose feed was found corrupt ({spans}); nothing to train on"


def derive(store: Store, parent: Snapshot, blocks: Iterable[pa.Table], rows: int) -> Snapshot:
    """Keep rows left of a snapshot after cleaning. With no row less it is the parent itself.

    Args:
        blocks: In the parent's order, with provenance, without ``_fault``.
        rows: How many they are.
    """
    return _write(
        store,
        blocks,
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
    wanted = _wanted(snapshot, columns, provenance)
    return pa.concat_tables(pa.Table.from_batches(_part(store, snapshot, part, wanted)) for part in snapshot.parts)


def blocks(
    store: Store, snapshot: Snapshot, columns: Sequence[str] | None = None, *, provenance: bool = False
) -> Iterator[pa.Table]:
    """What :func:`read` reads, at most 65,536 rows at a time."""
    wanted = _wanted(snapshot, columns, provenance)
    for part in snapshot.parts:
        yield from (pa.Table.from_batches([batch]) for batch in _part(store, snapshot, part, wanted))


def newest(
    store: Store,
    snapshot: Snapshot,
    count: int,
    *,
    before: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The newest rows, of those that happened before a time, at most so many, in time order; older parts are not read.

    Raises:
        DataError: the snapshot has no such column.
        StoreError: a part is missing or was altered.
    """
    found: list[pa.Table] = []
    for part in reversed(snapshot.parts):
        rows = pa.Table.from_batches(_part(store, snapshot, part, _wanted(snapshot, columns, provenance=False)))
        if before is not None:
            rows = rows.filter(pc.less(rows[TIME], pa.scalar(before)))
        found.insert(0, rows.slice(max(0, rows.num_rows - count)))
        count -= found[0].num_rows
        if count <= 0:
            break
    return pa.concat_tables(found)


def _wanted(snapshot: Snapshot, columns: Sequence[str] | None, provenance: bool) -> list[str]:
    names = list(snapshot.columns) if columns is None else list(columns)
    missing = [name for name in names if name not in snapshot.columns]
    if missing:
        raise DataError(
            f"snapshot {snapshot.fingerprint}: no column {missing[0]!r}; it has {', '.join(snapshot.columns)}"
        )
    return [*names, *PROVENANCE] if provenance else names


def all_of(store: Store, model: str) -> list[Snapshot]:
    """Every snapshot of a model, in the order they were taken."""
    keys = [key for key in store.keys(f"snapshots/{model}") if key.endswith("/snapshot.json")]
    return sorted((_parsed(store.get(key), f"{store.url}/{key}") for key in keys), key=lambda snapshot: snapshot.taken)


def _write(store: Store, blocks: Iterable[pa.Table], rows: int, **about: Any) -> Snapshot:
    """Keep ordered rows; they lie in a folder of this machine until their name is known."""
    with _scratch("snapshot") as folder:
        parts = _Parts(folder, rows)
        for block in ahead(_resliced(blocks, SLICE_ROWS)):
            parts.add(block)
        name, files = parts.done()
        prefix = _prefix(about["model"], name)
        known = _used_again(store, prefix)
        if known is not None:  # the same rows: the same snapshot
            return known
        for part, file in files:
            store.put_file(f"{prefix}/{part.name}", file)
    snapshot = Snapshot(
        fingerprint=name,
        rows=rows,
        columns={item.name: str(item.type) for item in parts.schema},
        oldest=parts.oldest,
        newest=parts.newest,
        parts=[part for part, _ in files],
        taken=clock.now(),
        **about,
    )
    store.put_if_absent(f"{prefix}/snapshot.json", manifest(snapshot))
    return load(store, snapshot.model, name)


def _used_again(store: Store, prefix: str) -> Snapshot | None:
    """A snapshot that is there, whose age counts from now; one that lacks a file is none, and is written anew."""
    key = f"{prefix}/snapshot.json"
    try:
        raw = store.get(key)
    except KeyError:
        return None
    known = _parsed(raw, prefix)
    if not {f"{prefix}/{part.name}" for part in known.parts} <= set(store.keys(prefix)):
        store.delete(key)
        return None
    store.put(key, raw)
    return known


class _Parts:
    """Rows on their way into Parquet files, hashed and counted as they pass."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.oldest: datetime | None = None
        self.newest: datetime | None = None
        self.schema = pa.schema([])
        self._folder, self._rows, self._written = folder, rows, 0
        self._digest: Digest | None = None
        self._writer: pq.ParquetWriter | None = None
        self._files: list[tuple[Path, int]] = []

    def add(self, rows: pa.Table) -> None:
        content = rows.drop_columns([name for name in PROVENANCE if name in rows.column_names])
        if self._digest is None:
            self.schema = content.schema
            self._digest = Digest(content.schema, self._rows)
        self._digest.add(content)
        oldest, newest = _span(content)
        self.oldest = min(filter(None, (self.oldest, oldest)), default=None)
        self.newest = max(filter(None, (self.newest, newest)), default=None)
        for start in range(0, max(rows.num_rows, 1), PART_ROWS):
            self._put(rows.slice(start, PART_ROWS))

    def _put(self, rows: pa.Table) -> None:
        if self._writer is None or self._written + rows.num_rows > PART_ROWS:
            self._close()
            self._files.append((self._folder / f"{len(self._files)}.parquet", 0))
            repeating = [field.name for field in rows.schema if not pa.types.is_floating(field.type)]
            self._writer = pq.ParquetWriter(
                self._files[-1][0], rows.schema, compression="zstd", use_dictionary=repeating
            )  # a dictionary of numbers that do not repeat is made for nothing, at twice the cost of all else
        self._writer.write_table(rows)
        self._written += rows.num_rows

    def done(self) -> tuple[str, list[tuple[Part, Path]]]:
        """The rows' fingerprint and their files. A file's name holds its hash: two runs that write the same snapshot
        never overwrite each other's bytes."""
        self._close()
        assert self._digest is not None
        named = []
        for number, (path, count) in enumerate(self._files):
            with path.open("rb") as file:
                sha = hashlib.file_digest(file, "sha256").hexdigest()
            named.append((Part(name=f"part-{number:05d}-{sha[:12]}.parquet", rows=count, sha256=sha), path))
        return self._digest.name, named

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._files[-1] = self._files[-1][0], self._written
            self._writer, self._written = None, 0


def _resliced(blocks: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many each, the last one perhaps shorter; one without a row if there is none."""
    held: list[pa.Table] = []
    count, given = 0, False
    for block in blocks:
        held.append(block)
        count += block.num_rows
        if count < rows:
            continue
        whole = pa.concat_tables(held)
        while whole.num_rows >= rows:
            yield whole.slice(0, rows)
            given = True
            whole = whole.slice(rows)
        held, count = [whole], whole.num_rows
    if count or not given:
        yield pa.concat_tables(held)


def _span(rows: Any) -> tuple[datetime | None, datetime | None]:
    times = pc.min_max(rows[TIME]).as_py()
    oldest, newest = (time.astimezone(UTC) if time is not None else None for time in (times["min"], times["max"]))
    return oldest, newest


def _part(store: Store, snapshot: Snapshot, part: Part, columns: list[str]) -> Iterator[pa.RecordBatch]:
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
    file = pq.ParquetFile(pa.BufferReader(raw), pre_buffer=False)
    for batch in file.iter_batches(SLICE_ROWS, columns=columns, use_threads=False):
        yield batch.select(columns)


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
