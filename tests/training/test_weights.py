"""Newer rows weigh more, where the policy says so."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from kedge import policy as policies
from kedge.bundle import Signature
from kedge.bundle.estimators import ESTIMATORS
from kedge.training import estimators
from kedge.training.estimators import Rows

DAY = 86_400.0


def changed_halfway(estimator: str, **settings: object) -> float:
    """Score a model gives x = 1 after ten days: y followed x for five days and its contrary for the other five."""
    random = np.random.default_rng(5)
    x = random.integers(0, 2, 2000).astype(float)
    flipped = np.arange(2000) >= 1000
    start = datetime(2026, 3, 2, tzinfo=UTC)
    table = pa.table(
        {
            "_time": pa.array(
                [start + timedelta(days=10 * k / 2000) for k in range(2000)], pa.timestamp("us", tz="UTC")
            ),
            "x": x,
            "y": (np.where(flipped, 1 - x, x) * 0.8 + 0.1 > random.random(2000)).astype(float),
        }
    )
    asked = policies.parse(
        {
            "model": {"name": "m", "target": "y", "features": {"x": {"type": "number"}}},
            "data": {"source": {"format": "csv", "location": "t.csv"}, "time_column": "t"},
            "train": {"estimators": [estimator], **settings},
        }
    )
    all_rows = Rows(
        table.column("x").to_numpy().astype(np.float32).reshape(-1, 1),
        table.column("y").to_numpy(),
        table.column("_time").cast(pa.int64()).to_numpy(),
    )
    signature = Signature.of(asked.model)
    weighted = all_rows.weighted(asked.train.half_life_seconds)
    model = estimators.attempt(estimator, asked, signature, weighted).fit(weighted)
    return float(estimators.score(asked, model, signature, np.array([[1.0]], dtype=np.float32))[0])


@pytest.mark.parametrize("estimator", [*ESTIMATORS, "sklearn.naive_bayes:GaussianNB"])
def test_a_short_half_life_follows_the_newest_relation_where_equal_weights_stay_undecided(estimator):
    assert changed_halfway(estimator) == pytest.approx(0.5, abs=0.1)
    assert changed_halfway(estimator, half_life_seconds=DAY) == pytest.approx(0.1, abs=0.1)
