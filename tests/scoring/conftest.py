"""A model that scores tables: its store, two bundles of one number, tables of rows with ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from kedge import bundle as bundles
from kedge import policy as policies
from kedge import records
from kedge.bundle import Signature
from kedge.records import Record, Registered
from kedge.rollout import batch
from kedge.scoring.score import score
from kedge.store import open_store
from kedge.store.identity import begin
from kedge.tables import appending

START = datetime(2026, 3, 2, 2, tzinfo=UTC)
ROWS = 600


def rules(**sections):
    """The policy of a model of one number and one category."""
    return policies.parse(
        {
            "model": {
                "name": "churn",
                "target": "left",
                "features": {"x": {"type": "number"}, "country": {"type": "category", "values": ["AT", "BE"]}},
            },
            "data": {
                "source": {"format": "parquet", "location": "unused"},
                "time_column": "at",
                "id_column": "customer",
            },
            "labels": {"delay_seconds": 0},
            "release": {"mode": "batch"},
            **sections,
        }
    )


class World(SimpleNamespace):
    """What a test does to the model."""

    def bundle(self, slope=3.0, model=None):
        """A bundle of a model, or that says the probability 1 / (1 + exp(-slope x)), registered."""
        if model is None:
            model = LogisticRegression().fit([[-1.0, 0.0], [1.0, 1.0]], [0, 1])
            model.coef_, model.intercept_ = np.array([[slope, 0.0]]), np.array([0.0])
        golden = pa.table({"x": np.linspace(-2, 2, 64), "country": ["AT", "BE"] * 32})
        written = bundles.write(
            self.folder / f"bundle-{slope}",
            model=model,
            signature=Signature.of(self.policy.model),
            policy=self.policy,
            estimator="linear",
            golden=golden,
            profile=b"{}",
            snapshot="s",
        )
        bundles.publish(self.store, written)
        data = Registered(bundle=written.id)
        records.append(self.store, Record(model="churn", key=written.id, time=self.now, data=data))
        return written

    def release(self, bundle):
        return batch.begin(self.ledger, bundle, "run")

    @property
    def ledger(self):
        return batch.Ledger(policy=self.policy, store=self.store, publish=self.published.append, clock=lambda: self.now)

    @property
    def state(self):
        return records.read_state(self.store, "churn")

    def table(self, name="rows", *, rows=ROWS, seed=1, **columns):
        """A table of rows whose ids begin with its name; returns its path."""
        x = np.random.default_rng(seed).normal(size=rows)
        made = {"customer": [f"{name}-{row}" for row in range(rows)], "x": x, "country": ["AT"] * rows, **columns}
        path = self.folder / f"{name}.parquet"
        pq.write_table(pa.table({key: value for key, value in made.items() if value is not None}), path)
        return str(path)

    def score(self, data, output=None, **asked):
        self.said.clear()
        output = (
            str(self.folder / "out" / f"{len(list(self.folder.glob('out/*')))}.parquet") if output is None else output
        )
        return score(self.ledger, str(data), str(output), at=self.now, say=self.said.append, **asked)

    def log(self):
        """The prediction log, sorted by id."""
        table = appending.open_table(self.store, "logs/churn/predictions")
        rows = pa.table(table.to_pyarrow_dataset().to_table()) if table else pa.table({"_id": []})
        return rows.sort_by("_id")

    def outcomes(self, name="rows", *, rows=ROWS, seed=1):
        """What came true of a table's rows: x > 0."""
        x = np.random.default_rng(seed).normal(size=rows)
        labels = {
            "_id": [f"{name}-{row}" for row in range(rows)],
            "_label": (x > 0).astype(float),
            "_observed": [self.now] * rows,
        }
        appending.append(self.store, self.policy, "labels", pa.table(labels), writer=name, sequence=1)

    def night(self):
        """A day passes."""
        self.now += timedelta(days=1)


@pytest.fixture
def world(tmp_path):
    store = open_store(str(tmp_path / "store"))
    begin(store)
    return World(folder=tmp_path, store=store, policy=rules(), now=START, said=[], published=[])


@pytest.fixture
def champion(world):
    """The model's first bundle, promoted."""
    made = world.bundle()
    assert world.release(made).result == "promoted"
    return made
