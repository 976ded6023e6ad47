"""Rows that two collectors appended of one event are taken out of the log: the one received first stays.

One collector's index lets nothing through twice; two that were handed the same event know nothing of each other.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from numpy.typing import NDArray

from components.errors import StoreError
from components.policy import Policy
from components.store import Store
from components.tables import log

SAME = {"predictions": ["_id"], "labels": ["_id", "_label", "_observed"]}
"""Columns that are equal in two rows of one event. A correction is a label of its own."""
BATCH_ROWS = 1 << 16


def remove(store: Store, policy: Policy, since: datetime) -> int:
    """Delete repeated rows in the days of both tables that changed since a time; how many.

    Two rows received in the same microsecond both stay; readers return one of them.

    Raises:
        StoreError: the store refused, or other collectors appended to a day all the while: try again later.
    """
    removed = 0
    for name, same in SAME.items():
        key = f"logs/{policy.name}/{name}"
        try:
            table = log.open_table(store, key)
            for day in [] if table is None else _changed(table, since):
                removed += _remove(store, key, day, same)
        except (DeltaError, CommitFailedError, OSError) as exc:
            raise StoreError(f"{store.url}/{key}: repeated rows cannot be taken out: {exc}") from exc
    return removed


def _changed(table: DeltaTable, since: datetime) -> list[str]:
    files = pa.table(table.get_add_actions(flatten=True))
    fresh = pc.greater_equal(files["modification_time"].cast(pa.int64()), int(since.timestamp() * 1000))
    return sorted(set(files.filter(fresh)["partition._day"].to_pylist()))


def _remove(store: Store, key: str, day: str, same: list[str]) -> int:
    for attempt in range(log.ATTEMPTS):
        table = log.open_table(store, key)
        if table is None:
            return 0
        repeated = _repeated(table, day, same)
        if not repeated.num_rows:
            return 0
        equal = [f"log.{name} = repeated.{name}" for name in (*same, "_received")]
        merge = table.merge(
            repeated,
            " AND ".join([f"log._day = '{day}'", *equal]),
            source_alias="repeated",
            target_alias="log",
        )
        try:
            return int(merge.when_matched_delete().execute()["num_target_rows_deleted"])
        except CommitFailedError:  # another collector appended to the day in the same moment
            if attempt == log.ATTEMPTS - 1:
                raise
    return 0


def _repeated(table: DeltaTable, day: str, same: list[str]) -> pa.Table:
    """Columns ``same`` and ``_received`` of the rows that another of the same event came before.

    The day is read twice: for the hashes of its ids, eight bytes a row, then for the rows whose hash occurs twice.
    """
    dataset = table.to_pyarrow_dataset()
    condition = pc.field("_day") == day
    scan = {"filter": condition, "batch_size": BATCH_ROWS, "batch_readahead": 1, "fragment_readahead": 1}
    hashes = [_hashes(batch["_id"]) for batch in dataset.to_batches(columns=["_id"], **scan)]
    ordered = np.sort(np.concatenate([np.empty(0, np.int64), *hashes]))
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    columns = [*same, "_received"]
    wanted = pa.schema([dataset.schema.field(name) for name in columns])
    if not len(twice):
        return wanted.empty_table()
    rows = pa.Table.from_batches(
        [
            batch.filter(pa.array(np.isin(_hashes(batch["_id"]), twice)))
            for batch in dataset.to_batches(columns=columns, **scan)
        ],
        schema=wanted,
    )
    first = rows.group_by(same).aggregate([("_received", "min")])
    joined = rows.join(first, same)
    later = joined.filter(pc.greater(joined["_received"], joined["_received_min"]))
    return later.select(columns).group_by(columns).aggregate([])


def _hashes(ids: pa.Array) -> NDArray[np.int64]:
    """Python's own hash of each id: the same within this process."""
    return np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids))
