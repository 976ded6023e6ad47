"""Rows of a corrupt feed never reach a snapshot."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kedge import policy as policies
from kedge import records
from kedge.data import ingest
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.records import Window
from kedge.store import Store
from kedge.tables import snapshot

START = datetime(2026, 3, 2, tzinfo=UTC)


def hours(number: float) -> datetime:
    return START + timedelta(hours=number)


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    table = pa.table({"when": [hours(k) for k in range(10)], "x": [float(k) for k in range(10)], "y": [0, 1] * 5})
    pq.write_table(table, tmp_path / "t.parquet")
    model = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    source = {"format": "parquet", "location": str(tmp_path / "t.parquet")}
    return policies.parse({"model": model, "data": {"source": source, "time_column": "when"}})


def kept(policy: Policy, store: Store) -> list[float]:
    taken = snapshot.load(store, "m", ingest.run(policy, store, hours(24)))
    return snapshot.read(store, taken)["x"].to_pylist()


def test_rows_of_a_quarantined_window_are_left_out_and_the_others_stay(policy: Policy, store: Store) -> None:
    records.quarantine(store, "m", Window(start=hours(3), end=hours(5)))
    assert kept(policy, store) == [0, 1, 2, 5, 6, 7, 8, 9]


def test_a_source_all_of_whose_rows_are_quarantined_is_an_error_that_names_the_times(
    policy: Policy, store: Store
) -> None:
    records.quarantine(store, "m", Window(start=hours(-1), end=hours(12)))
    with pytest.raises(DataError, match=r"all 10 rows lie in times whose feed was found corrupt \(2026-03-01T23:00"):
        ingest.run(policy, store, hours(24))
    assert list(store.keys("snapshots")) == []
