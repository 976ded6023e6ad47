"""Labels where they are: a table the policy declares, read on from where the last time ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge import clock
from kedge.errors import DataError, UsageError
from kedge.policy import Policy
from kedge.policy.data import LabelSource
from kedge.records import Pulled
from kedge.store import Store
from kedge.tables import appending, log
from kedge.tables.columns import FAULT, ID, ROW, TIME, Kind, describe_missing, outcome_kind
from kedge.tables.sources import Table, open_reader

WRITER = "label-source"
OVERLAP = timedelta(days=1)
"""Read again each time, for rows that came late; what the log has already is left out."""
MAX_NAMED = 20
FIELD = "data.labels.source.location"
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def pull(store: Store, policy: Policy) -> Pulled:
    """Append the labels of ``data.labels`` that the log lacks; calling it twice changes nothing.

    It begins ``OVERLAP`` before the newest label it has seen, or before the clock where that one is dated ahead of it;
    how far it came is the transaction number of its writer in the labels table, so there is no other state.

    Raises:
        UsageError: the policy declares no label source.
        DataError: the source or one of its columns is not there.
        StoreError: the store refused.
    """
    declared = policy.data.labels
    if declared is None:
        raise UsageError(f"policy {policy.name}: data.labels is not given; labels come through the collector only")
    seen = appending.last_sequence(store, policy, "labels", WRITER)
    start = None if seen is None else EPOCH + seen * MICROSECOND - OVERLAP
    table = _table(policy, declared)
    rows, faults, invalid = _read(table, start)
    fresh = _not_logged(store, policy, rows, start)
    appended = 0
    if fresh.num_rows:
        newest = min(int(pc.max(rows["_observed"].cast(pa.int64())).as_py()), (clock.now() - EPOCH) // MICROSECOND)
        sequence = newest if seen is None else max(newest, seen + 1)
        if appending.append(store, policy, "labels", fresh, writer=WRITER, sequence=sequence):
            appended = fresh.num_rows
    faults_named = tuple(faults[:MAX_NAMED])
    return Pulled(read=table.rows_read, appended=appended, invalid=invalid, faults=faults_named)


def _read(table: Table, start: datetime | None) -> tuple[pa.Table, list[str], int]:
    """Good rows as the log's columns, and what is wrong with the others."""
    parts = [log.LABELS.empty_table().select(["_id", "_label", "_observed"])]
    faults: list[str] = []
    invalid = 0
    for batch in table.batches(start=start, provenance=True):
        label = batch.column(table.model.target)
        reasons = batch.column(FAULT)
        good = pc.and_(pc.and_(pc.is_valid(label), pc.is_valid(batch.column(ID))), pc.is_null(reasons))
        invalid += batch.num_rows - int(pc.sum(good).as_py() or 0)
        for index in np.flatnonzero(~good.to_numpy(zero_copy_only=False))[: MAX_NAMED - len(faults)]:
            reason = reasons[int(index)].as_py() or "no id or no outcome"
            faults.append(f"{table.place}, row {batch.column(ROW)[int(index)].as_py()}: {reason}")
        columns = [batch.column(ID), label, batch.column(TIME)]
        parts.append(pa.table(columns, schema=parts[0].schema).filter(good))
    return pa.concat_tables(parts), faults, invalid


def read_beside(policy: Policy, columns: Sequence[str], since: datetime) -> tuple[pa.Table | None, dict[str, str]]:
    """Columns of the table of outcomes that stand beside an outcome, such as those of groups that no model sees.

    Returns:
        ``_id`` and the columns that are there, as text, of outcomes observed since (a day before, for clocks differ),
        or None; and why the others are not, by column.

    Raises:
        DataError: the source, or a column that the policy names for it, is not there.
    """
    declared = policy.data.labels
    if declared is None:
        why = "is not in the prediction log, and data.labels names no table of outcomes that could hold it"
        return None, dict.fromkeys(columns, why)
    reader = open_reader(declared.source, FIELD)
    there = [name for name in columns if name in reader.names]
    why = f"is neither in the prediction log nor in {reader.place}, whose columns are {', '.join(reader.names)}"
    unheld = {name: why for name in columns if name not in there}
    if not there:
        return None, unheld
    sources = {TIME: declared.observed_column, ID: declared.id_column, **{name: name for name in there}}
    kinds: dict[str, Kind] = {TIME: "time", ID: "id", **dict.fromkeys(there, "category")}
    table = Table(reader=reader, kinds=kinds, sources=sources, model=policy.model)
    parts = [pa.schema([(name, pa.string()) for name in (ID, *there)]).empty_table()]
    for batch in table.batches(start=since - OVERLAP, provenance=True):
        good = pc.and_(pc.is_valid(batch.column(ID)), pc.is_null(batch.column(FAULT)))
        parts.append(pa.Table.from_batches([batch]).select([ID, *there]).filter(good).cast(parts[0].schema))
    return pa.concat_tables(parts), unheld


def _table(policy: Policy, declared: LabelSource) -> Table:
    reader = open_reader(declared.source, FIELD)
    target = policy.model.target
    sources = {TIME: declared.observed_column, ID: declared.id_column, target: declared.label_column}
    missing = [column for column in sources.values() if column not in reader.names]
    if missing:
        raise DataError(describe_missing(missing, reader.names, reader.place))
    kinds: dict[str, Kind] = {TIME: "time", ID: "id", target: outcome_kind(policy.model)}
    return Table(reader=reader, kinds=kinds, sources=sources, model=policy.model)


def _not_logged(store: Store, policy: Policy, rows: pa.Table, start: datetime | None) -> pa.Table:
    """Rows that the log lacks, each once; the same id with another outcome or time is a correction and is kept."""
    logged = log.read_labels(store, policy, start).select(rows.column_names)
    both = pa.concat_tables([logged, rows]).append_column("row", pa.array(np.arange(len(logged) + len(rows))))
    first = both.group_by(rows.column_names).aggregate([("row", "min")])["row_min"].to_numpy()
    return rows.take(pa.array(np.sort(first[first >= len(logged)]) - len(logged)))
