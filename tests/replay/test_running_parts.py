"""The same blocks, through replay and through the parts that run: one decision after another is the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kedge import bundle, policy, records
from kedge.monitoring import run as monitoring
from kedge.policy import Policy
from kedge.records import Checked, Data, Promoted, Record, ReleaseStarted, RunFinished, RunStarted
from kedge.replay import blocks, history
from kedge.replay.policy_walk import PolicyWalk
from kedge.settings import Settings
from kedge.store import Store, open_store
from kedge.submission import submit
from kedge.tables import appending
from kedge.training.probe import probe

START, BLOCK, BLOCKS, CHANGE = 1000, 240, 20, 2200
CORRUPT = 3
"""A block in which the feed is broken: nobody sends `b`."""
MINUTE = timedelta(minutes=1)
OWN = ("decision_key", "tenure_id", "change_point")
"""Names and times of records, which differ by design: a replayed block ends right after its last row."""


def table() -> pd.DataFrame:
    """A row a minute; the relation turns round at row ``CHANGE``."""
    random = np.random.default_rng(5)
    inputs = random.normal(size=(START + BLOCKS * BLOCK, 2))
    way = np.where(np.arange(len(inputs)) < CHANGE, 1, -1)
    label = (way * inputs[:, 0] + 0.5 * random.normal(size=len(inputs)) > 0).astype(int)
    broken = (np.arange(len(inputs)) - START) // BLOCK == CORRUPT
    times = pd.date_range("2026-01-01", periods=len(inputs), freq="min", tz="UTC")
    return pd.DataFrame(
        {"a": inputs[:, 0], "b": np.where(broken, np.nan, inputs[:, 1]), "y": label, "at": times.as_unit("us")}
    )


def rules(source: Path) -> Policy:
    return policy.parse(
        {
            "model": {"name": "m", "target": "y", "features": {"a": {"type": "number"}, "b": {"type": "number"}}},
            "data": {"source": {"format": "parquet", "location": str(source)}, "time_column": "at"},
            "labels": {"delay_seconds": 0},
            "train": {"estimators": ["linear"], "threads": 1},
            "monitor": {"window_seconds": BLOCK * 60, "min_rows": 200},
        }
    )


class Parts:
    """Serve, log, check, retrain; a canary finds nothing and promotes at once."""

    def __init__(self, folder: Path, asked: Policy, rows: pd.DataFrame) -> None:
        self.folder, self.policy, self.rows = folder, asked, rows
        self.store: Store = open_store(str(folder / "store"))
        self.settings = Settings.of(str(folder / "store"))
        self.served = self.retrain(self.end(0), key="first")

    def end(self, block: int) -> datetime:
        last: pd.Timestamp = self.rows["at"].iloc[START + block * BLOCK - 1]
        return last.to_pydatetime() + MINUTE

    def retrain(self, end: datetime, **asked: object) -> str | None:
        (self.folder / "clock").write_text(end.isoformat())
        ended = submit.submit_retrain(self.settings, self.policy, reason="asked", end=end, **asked)
        if ended.state != "succeeded":
            return None
        run, key = f"release-{ended.bundle[:12]}", f"{ended.bundle}-1"
        self.append(run, end, RunStarted(run=run, pipeline="release", bundle=ended.bundle))
        self.append(key, end, ReleaseStarted(bundle=ended.bundle, run=run))
        self.append(key, end, Promoted(bundle=ended.bundle, run=run))
        self.append(run, end, RunFinished(run=run, state="succeeded", bundle=ended.bundle, outcome="promoted"))
        return ended.bundle

    def append(self, key: str, time: datetime, data: Data) -> None:
        records.append(self.store, Record(model="m", key=key, time=time, data=data, written=datetime.now(UTC)))

    def live(self, block: int) -> tuple[Checked, bool]:
        """Serve the block's rows, log them with their outcomes, check, and do what the check decides."""
        first = START + block * BLOCK
        rows = pa.Table.from_pandas(self.rows.iloc[first : first + BLOCK], preserve_index=False)
        found = bundle.fetch(self.store, "m", self.served, self.folder / "cache")
        scores = found.load_model().score(found.signature.encode(rows))
        ids = [f"row-{first + row}" for row in range(BLOCK)]
        served = {"_id": ids, "_time": rows["at"], "_version": [self.served] * BLOCK, "_score": scores}
        served |= {"_prediction": (scores >= 0.5).astype(float), "a": rows["a"], "b": rows["b"]}
        known = {"_id": ids, "_label": rows["y"].cast(pa.float64()), "_observed": rows["at"]}
        for table, columns, number in (("predictions", served, 2 * block + 1), ("labels", known, 2 * block + 2)):
            appending.append(self.store, self.policy, table, pa.table(columns), writer="parts", sequence=number)
        checked = monitoring.run(self.policy, self.store, now=self.end(block + 1), probe=probe)
        due, challenger = checked.due, None
        if due is not None:
            asked = {"key": due.data.decision_key, "change_point": due.data.change_point}
            challenger = self.retrain(due.time, champion_until=due.data.trained_until, **asked)
            self.served = challenger or self.served
        return checked.record.data, challenger is not None


@pytest.mark.ci
def test_the_running_parts_decide_as_replay_does(tmp_path, registry_uri, monkeypatch):
    rows = table()
    rows.to_parquet(tmp_path / "x.parquet")
    asked = rules(tmp_path / "x.parquet")
    read = history.read(asked)
    walk = PolicyWalk(blocks.cut(asked, read, block=str(BLOCK), start_rows=START, label_delay_seconds=0))
    replayed = walk.walk().decisions
    monkeypatch.setenv("KEDGE_CLOCK", str(tmp_path / "clock"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_uri)
    parts = Parts(tmp_path, asked, rows)
    lived = [parts.live(block) for block in range(BLOCKS)]
    assert [(seen.action, promoted) for seen, promoted in lived] == [(each.action, each.promoted) for each in replayed]
    assert [block for block, (seen, _) in enumerate(lived) if seen.action == "quarantine"] == [CORRUPT]
    assert sum(promoted for _, promoted in lived) == 1  # the turn was noticed, and the model replaced
    states = [record.data.regret for record in walk.records if isinstance(record.data, Checked)]
    for (seen, _), state in zip(lived, states, strict=True):
        assert {name: seen.regret[name] for name in state if name not in OWN} == {
            name: state[name] for name in state if name not in OWN
        }
