from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from kedge import policy as policies
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import appending, log, snapshot, sources

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def declared(**amount: object) -> Policy:
    features = {"amount": {"type": "number", **amount}, "country": {"type": "category"}}
    return policies.parse(
        {
            "model": {"name": "payments", "target": "returned", "features": features},
            "data": {"source": {"format": "log"}, "label_delay_seconds": 3600},
        }
    )


def fill(store: Store, policy: Policy) -> None:
    """Four predictions an hour apart; the second never gets a label."""
    times = [NOON + timedelta(hours=k) for k in range(4)]
    stamps = pa.array(times, log.TIME)
    predictions = {"_id": list("abcd"), "_time": stamps, "_received": stamps, "_score": [0.5] * 4}
    features = {"amount": [1.0, 2.0, None, 4.0], "country": ["AT", "BE", "AT", "BE"]}
    appending.append(store, policy, "predictions", pa.table(predictions | features), writer="test", sequence=1)
    seen = pa.array([NOON + timedelta(hours=5)] * 3, log.TIME)
    labels = {"_id": list("acd"), "_label": [1.0, 0.0, 1.0], "_observed": seen, "_received": seen}
    appending.append(store, policy, "labels", pa.table(labels), writer="test", sequence=1)


def test_the_prediction_log_is_a_training_table_of_labelled_rows(store: Store) -> None:
    policy = declared()
    fill(store, policy)
    table = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
    taken = snapshot.take(table, policy, store, end=NOON + timedelta(hours=4))
    rows = snapshot.read(store, taken)
    assert rows.drop_columns(["_time"]).to_pylist() == [
        {"_id": "a", "amount": 1.0, "country": "AT", "returned": 1.0},
        {"_id": "c", "amount": None, "country": "AT", "returned": 0.0},
    ]
    assert taken.source == "prediction log of payments"


def test_a_feature_privacy_changed_cannot_be_trained_on(store: Store) -> None:
    policy = declared(privacy="bucket", buckets=[0, 10])
    with pytest.raises(DataError, match=r"feature 'amount' is not in it as it was served \(privacy: bucket\)"):
        sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)


def test_a_log_without_predictions_is_empty(store: Store) -> None:
    policy = declared()
    table = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
    with pytest.raises(DataError, match="prediction log of payments: empty: not one row"):
        snapshot.take(table, policy, store, end=NOON)
