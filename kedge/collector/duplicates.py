"""Rows that two collectors appended of one event are taken out of the log: the one received first stays.

One collector's index lets nothing through twice; two that were handed the same event know nothing of each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from arro3.core import DataType
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from kedge.collector.seen import Seen
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import appending
from kedge.tables.appending import Kind, Table

SAME: dict[Table, dict[str, Kind]] = {
    "predictions": {"_id": "text"},
    "labels": {"_id": "text", "_label": "double", "_observed": "time"},
}
"""Columns that are equal in two rows of one event. A correction is a label of its own."""


def remove(store: Store, policy: Policy, since: datetime) -> int:
    """Delete repeated rows in the days of both tables that changed since a time; how many.

    Two rows received in the same microsecond both stay; readers return one of them.

    Raises:
        StoreError: the store refused, or other collectors appended to a day all the while: try again later.
    """
    removed = 0
    for name, same in SAME.items():
        key = appending.key_of(policy, name)
        with appending.store_errors(store, key):
            table = appending.open_table(store, key)
            for day, count in {} if table is None else _changed(table, since).items():
                removed += _remove(store, key, day, count, same)
    return removed


def _changed(table: DeltaTable, since: datetime) -> dict[str, int]:
    """Days with files from after a time, and their rows."""
    files = table.get_add_actions(flatten=True)
    names = ("partition._day", "modification_time", "num_records")
    fresh, rows = set(), defaultdict[str, int](int)
    for day, written, count in zip(*(files[name].to_pylist() for name in names), strict=True):
        rows[day] += count
        if written >= since.timestamp() * 1000:
            fresh.add(day)
    return {day: rows[day] for day in sorted(fresh)}


def _remove(store: Store, key: str, day: str, count: int, same: dict[str, Kind]) -> int:
    for attempt in range(appending.ATTEMPTS):
        table = appending.open_table(store, key)
        repeated = [] if table is None else list(_repeated(table, day, count, list(same)))
        if table is None or not repeated:
            return 0
        columns = same | {"_received": "time"}
        merge = table.merge(
            appending.table_of(columns, list(zip(*repeated, strict=True))),
            " AND ".join([f"log._day = '{day}'", *(f"log.{name} = repeated.{name}" for name in columns)]),
            source_alias="repeated",
            target_alias="log",
        )
        try:
            return int(merge.when_matched_delete().execute()["num_target_rows_deleted"])
        except CommitFailedError:  # another collector appended to the day in the same moment
            if attempt == appending.ATTEMPTS - 1:
                raise
    return 0


def _repeated(table: DeltaTable, day: str, count: int, same: list[str]) -> Iterator[tuple[Any, ...]]:
    """Columns ``same`` and ``_received`` of the rows that another of the same event came before.

    The day is read twice: for its ids, of which few bits are kept, then for the rows whose id may occur twice.
    """
    of_day = f"_day = '{day}'"
    seen, suspected = Seen(count), set[int]()
    for batch in table.scan(columns=["_id"], predicate=of_day):
        suspected.update(seen.add(map(hash, batch["_id"].to_pylist())))
    if not suspected:
        return
    received = defaultdict[tuple[Any, ...], set[int]](set)
    for batch in table.scan(columns=[*same, "_received"], predicate=of_day):
        for row in zip(*(_plain(batch[name]) for name in (*same, "_received")), strict=True):
            if hash(row[0]) in suspected:
                received[row[:-1]].add(row[-1])
    for event, times in received.items():
        first = min(times)
        yield from ((*event, time) for time in times if time > first)


def _plain(column: Any) -> list[Any]:
    """Values; times in microseconds since 1970."""
    return list((column.cast(DataType.int64()) if DataType.is_timestamp(column.type) else column).to_pylist())
