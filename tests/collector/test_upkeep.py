"""The log's upkeep over several models."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from kedge.collector.declared import Declared
from kedge.collector.metrics import Metrics
from kedge.collector.settings import Settings
from kedge.collector.upkeep import Upkeep
from kedge.tables import appending, log


@pytest.fixture
def upkeep(store, tmp_path, declared, monkeypatch):
    """Of two models with a new row and one of five days ago, where days older than one are dropped; the log of one is
    damaged."""
    models = {name: Declared(declared(name), None) for name in ("damaged", "payments")}
    for model in models.values():
        for hours in (2, 120):
            moment = pa.array([datetime.now(UTC) - timedelta(hours=hours)], log.TIME)
            rows = pa.table({"_id": [f"r{hours}"], "_time": moment, "_received": moment})
            appending.append(store, model.policy, "predictions", rows, writer="one", sequence=hours)
    (tmp_path / "store/logs/damaged/predictions/_delta_log" / f"{1:020}.json").write_text("nothing")
    now = [0.0]
    monkeypatch.setattr("kedge.collector.upkeep.monotonic", lambda: now[0])
    made = Upkeep(store, models, Settings(spool=tmp_path, retention_days=1, compact_every=0), metrics := Metrics())

    def run(hours):
        now[0] += hours * 3600 + 1
        made.run_if_due()
        return metrics.faults

    return run


def test_a_model_whose_log_is_damaged_keeps_no_old_days_of_another_in_it(upkeep, store):
    upkeep(hours=1)
    assert len(appending.days(appending.open_table(store, "logs/payments/predictions"))) == 1


def test_a_retention_that_failed_is_told_until_it_succeeds(upkeep, tmp_path):
    assert "retention: damaged" in upkeep(hours=1)
    assert "retention: damaged" in upkeep(hours=0)
    (tmp_path / "store/logs/damaged/predictions/_delta_log" / f"{1:020}.json").write_text('{"commitInfo":{}}')
    assert upkeep(hours=1) == {}
