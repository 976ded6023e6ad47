"""Keeps the log's tables easy to read: small files put together, repeated rows and old days taken out, files deleted.

Readers of an older version of a table keep its files for a week.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from arro3.core import Table as Rows
from deltalake import DeltaTable, QueryBuilder, WriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from kedge.clock import believed
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables.appending import (
    ATTEMPTS,
    TABLES,
    Table,
    aware,
    day_of,
    days,
    key_of,
    open_table,
    received,
    settle,
    store_errors,
)

SAME: dict[Table, str] = {
    "predictions": "_id",
    "labels": "_id, _label, _observed",
    "requests": "_id",
    "responses": "_id",
}
"""Columns that are equal in two rows of one event. A correction is a label of its own."""
REPEATED = """
SELECT {same}, min(_received) AS _first FROM log WHERE _day = '{day}' GROUP BY {same} HAVING count(*) > 1
"""
ROW_GROUP = 131_072
"""Rows of a file that are decoded together: readers pass over groups of other times, and hold one of them."""
QUERY_MEMORY = "64M"
"""Of the query; what it cannot hold, it writes to the disk."""


def compact(store: Store, policy: Policy) -> int:
    """Put the small files of each day together; how many went away.

    Raises:
        StoreError: the store refused.
    """
    small_groups = WriterProperties(compression="ZSTD", compression_level=4, max_row_group_size=ROW_GROUP)
    removed = 0
    for name, table in _tables(store, policy):
        key = key_of(policy, name)
        with store_errors(store, key):
            done = table.optimize.compact(max_concurrent_tasks=1, writer_properties=small_groups)
            if done["numFilesRemoved"]:
                settle(store.uri(key), table.version())
        removed += int(done["numFilesRemoved"])
    return removed


def remove_repeats(store: Store, policy: Policy, since: datetime, scratch: Path) -> int:
    """Delete the rows of events that came again, in the days that changed since a time; how many.

    The row received first stays. Two received in the same microsecond both stay; readers return one of them.

    Args:
        scratch: A folder for what the query cannot hold in memory.

    Raises:
        StoreError: the store refused, or others appended to a day all the while: try again later.
    """
    removed = 0
    for name, table in _tables(store, policy):
        key = key_of(policy, name)
        with store_errors(store, key):
            removed += sum(_remove(store, key, day, SAME[name], scratch) for day in _changed(table, since))
    return removed


def drop_old(store: Store, policy: Policy, retention: timedelta, now: datetime, *, max_days: int = 0) -> None:
    """Drop the whole days from all tables that are older than the retention, seen from the newest rows received.

    A clock that is ahead drops nothing of what came before, while rows are received either; one that stays ahead is
    told by how many days would go.

    Args:
        now: The machine's clock, as far as :func:`kedge.clock.believed` by the rows received.
        max_days: More days than these are not dropped at once; 0: any number.

    Raises:
        DataError: more would go; nothing is dropped.
        StoreError: the store refused.
    """
    aware(now=now)
    tables = dict(_tables(store, policy))
    counted = believed(now, (time for table in tables.values() for time in received(table) if time is not None))
    limit = day_of(counted - retention)
    old = {day for table in tables.values() for day in days(table) if day < limit}
    if max_days and len(old) > max_days:
        raise DataError(
            f"log of {policy.name}: the retention would drop {len(old)} days at once ({min(old)} to {max(old)}), "
            f"{max_days} may; nothing was dropped. Check the clock ({now:%Y-%m-%d}, rows received until "
            f"{counted:%Y-%m-%d}); if it is right, allow more with --max-drop-days"
        )
    for name, table in tables.items() if old else ():
        key = key_of(policy, name)
        with store_errors(store, key):
            table.delete(f"_day < '{limit}'")
            settle(store.uri(key), table.version())


def vacuum(store: Store, policy: Policy) -> None:
    """Delete files that no version of the last week refers to."""
    for name, table in _tables(store, policy):
        with store_errors(store, key_of(policy, name)):
            table.vacuum(dry_run=False)


def _tables(store: Store, policy: Policy) -> Iterator[tuple[Table, DeltaTable]]:
    """Those of a model that exist."""
    for name in TABLES:
        key = key_of(policy, name)
        with store_errors(store, key):
            table = open_table(store, key)
        if table is not None:
            yield name, table


def _changed(table: DeltaTable, since: datetime) -> list[str]:
    """Days with files from after a time."""
    files = table.get_add_actions(flatten=True)
    written = zip(*(files[name].to_pylist() for name in ("partition._day", "modification_time")), strict=True)
    return sorted({day for day, time in written if time >= since.timestamp() * 1000})


def _remove(store: Store, key: str, day: str, same: str, scratch: Path) -> int:
    for attempt in range(ATTEMPTS):
        table = open_table(store, key)
        if table is None:
            return 0
        repeated = _query(table, REPEATED.format(same=same, day=day), scratch)
        if not repeated.num_rows:
            return 0
        equal = " AND ".join(f"log.{name} = repeated.{name}" for name in same.split(", "))
        later = f"log._day = '{day}' AND {equal} AND log._received > repeated._first"
        merge = table.merge(repeated, later, source_alias="repeated", target_alias="log")
        try:
            done = merge.when_matched_delete().execute()
            settle(store.uri(key), table.version())
            return int(done["num_target_rows_deleted"])
        except CommitFailedError:  # another collector appended to the day in the same moment
            if attempt == ATTEMPTS - 1:
                raise
    return 0


def _query(table: DeltaTable, statement: str, scratch: Path) -> Rows:
    query = QueryBuilder({"datafusion.execution.target_partitions": "1"}).register("log", table)
    for name, value in (("memory_limit", QUERY_MEMORY), ("temp_directory", str(scratch).replace("'", "''"))):
        query.execute(f"SET datafusion.runtime.{name} = '{value}'").read_all()
    try:
        return query.execute(statement).read_all()
    except Exception as exc:  # the engine raises no class of its own
        raise DeltaError(str(exc)) from exc
