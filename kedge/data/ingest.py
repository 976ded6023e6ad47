"""From the source a policy names to a snapshot in the store."""

from __future__ import annotations

from datetime import datetime

from kedge import records
from kedge.policy import Policy
from kedge.steps import say
from kedge.store import Store
from kedge.tables import snapshot, sources


def run(policy: Policy, store: Store, end: datetime | None) -> str:
    """Keep the rows of the training table up to ``end`` and return the snapshot's fingerprint.

    Rows of times that a check found corrupt are left out. The same rows give the same fingerprint whatever their order
    and files were, so a repeated run changes nothing.

    Args:
        end: The run's point in time, aware: later rows and rows younger than the label delay are left out. None: now.

    Raises:
        DataError: the table is not there, unreadable, empty, lacks a column, or went back in time.
        StoreError: the store refused.
    """
    table = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
    corrupt = records.quarantined_windows(store, policy.name)
    taken = snapshot.take(table, policy, store, end=end, without=corrupt)
    if left_out := table.rows_read - taken.rows:
        why = "after the run's end less the labels' delay, older than data.history_seconds, or quarantined"
        say(f"ingest: {left_out:,} of {table.rows_read:,} rows read are left out: {why}")
    return taken.fingerprint
