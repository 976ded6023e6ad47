"""The rows of a replay: read and validated as a training run would."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

from kedge.data import validate
from kedge.errors import UsageError
from kedge.policy import Policy
from kedge.store import open_store
from kedge.tables import snapshot, sources

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
FORMATS: dict[str, Literal["csv", "parquet"]] = {
    ".csv": "csv", ".tsv": "csv", ".gz": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet"
}  # fmt: skip


def with_source(policy: Policy, location: str) -> Policy:
    """The policy, reading another table: a file, folder or pattern of files, or a Delta table.

    Raises:
        UsageError: there is no such file, or nothing says what it is.
    """
    path = Path(location)
    if "://" not in location and "*" not in location and not path.exists():
        raise UsageError(f"--data {location}: no such file or folder")
    found = _format(path, location, policy)
    source = policy.data.source.model_copy(update={"format": found, "location": location, "query": None})
    return policy.model_copy(update={"data": policy.data.model_copy(update={"source": source})})


def read(policy: Policy) -> pa.Table:
    """The valid rows of the policy's table in time order: features, target, ``_time``.

    What training would leave out as invalid is left out; a table that it would refuse is refused in its words.

    Raises:
        DataError: the table cannot be read, or too many rows are invalid.
    """
    everything = policy.model_copy(update={"data": policy.data.model_copy(update={"history_seconds": None})})
    with tempfile.TemporaryDirectory(prefix="kedge-replay-") as folder:
        store = open_store(folder)
        table = sources.open_source(everything.data.source, everything.data, store=store, model=everything.model)
        taken = snapshot.take(table, everything, store, end=FOREVER)
        good = validate.run(everything, store, taken.fingerprint)
        return snapshot.read(store, snapshot.load(store, policy.name, good))


def _format(path: Path, location: str, policy: Policy) -> str:
    if (path / "_delta_log").is_dir():
        return "delta"
    if path.is_dir() or "*" in location or "://" in location:
        names = {file.suffix for file in path.rglob("*") if file.is_file()} if path.is_dir() else {path.suffix}
        kinds = {FORMATS[suffix] for suffix in names if suffix in FORMATS}
        if len(kinds) == 1:
            return kinds.pop()
        return policy.data.source.format if policy.data.source.format in ("csv", "parquet", "delta") else "parquet"
    if path.suffix not in FORMATS:
        raise UsageError(f"--data {location}: neither .csv nor .parquet, nor the folder of a Delta table")
    return FORMATS[path.suffix]
