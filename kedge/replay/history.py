"""The rows of a replay: read and validated as a training run would."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime

import pyarrow as pa

from kedge import clock
from kedge.data import validate
from kedge.errors import DataError, UsageError
from kedge.policy import Policy
from kedge.store import Store, open_store
from kedge.tables import snapshot, sources

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


def with_source(policy: Policy, location: str) -> Policy:
    """The policy, reading another table: a file, folder or pattern of files, or a Delta table.

    Raises:
        UsageError: nothing there, of no format kedge reads, or of several.
    """
    try:
        source = sources.source_at(location)
    except DataError as exc:
        raise UsageError(f"--data {exc}") from exc
    if policy.data.time_column is None and policy.data.row_time is None:
        raise UsageError(
            f"--data {location}: the policy trains on its prediction log and does not say which column of a table "
            "holds the time; add data.time_column"
        )
    return policy.model_copy(update={"data": policy.data.model_copy(update={"source": source})})


def read(policy: Policy, store: Store | None = None) -> pa.Table:
    """The valid rows of the policy's table in time order: features, target, ``_time``.

    What training would leave out as invalid is left out; a table that it would refuse is refused in its words.

    Args:
        store: Holds the prediction log, where the policy trains on that: its rows that are due by now are read.

    Raises:
        DataError: the table cannot be read, or too many rows are invalid.
    """
    everything = policy.model_copy(update={"data": policy.data.model_copy(update={"history_seconds": None})})
    logged = policy.data.source.format == "log"
    with tempfile.TemporaryDirectory(prefix="kedge-replay-") as folder:
        scratch = open_store(folder)
        table = sources.open_source(everything.data.source, everything.data, store=store or scratch, model=policy.model)
        taken = snapshot.take(table, everything, scratch, end=clock.now() if logged else FOREVER)
        try:
            good = validate.run(everything, scratch, taken.fingerprint)
        except DataError as exc:  # without the page, which is gone with the folder
            lines = [line for line in str(exc).splitlines() if folder not in line]
            raise DataError("\n".join(lines)) from exc
        return snapshot.read(scratch, snapshot.load(scratch, policy.name, good))
