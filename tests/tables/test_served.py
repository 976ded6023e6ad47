from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from kedge import policy as policies
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.records import Window
from kedge.store import Store
from kedge.tables import appending, log, snapshot, sources

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def declared(labels: object = None, **amount: object) -> Policy:
    features = {"amount": {"type": "number", **amount}, "country": {"type": "category"}}
    return policies.parse(
        {
            "model": {"name": "payments", "target": "returned", "features": features},
            "data": {"source": {"format": "log"}},
            "labels": {"delay_seconds": 3600} if labels is None else labels,
        }
    )


def fill(store: Store, policy: Policy) -> None:
    """Four predictions an hour apart, labelled after five hours; the second never gets a label."""
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
    taken = snapshot.take(
        table, policy, store, end=NOON + timedelta(hours=5), without=[Window(start=NOON + 3 * HOUR, end=NOON + DAY)]
    )
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


def taken(store: Store, policy: Policy, end: datetime) -> list[tuple[str, float]]:
    """Ids and outcomes of a snapshot, in time order."""
    table = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
    rows = snapshot.read(store, snapshot.take(table, policy, store, end=end))
    return list(zip(rows["_id"].to_pylist(), rows["returned"].to_pylist(), strict=True))


def observe(store: Store, policy: Policy, sequence: int, outcomes: dict[str, float], time: datetime) -> None:
    ids, stamps = list(outcomes), pa.array([time] * len(outcomes), log.TIME)
    labels = pa.table({"_id": ids, "_label": list(outcomes.values()), "_observed": stamps})
    appending.append(store, policy, "labels", labels, writer="test", sequence=sequence)


def predict(store: Store, policy: Policy, ids: list[str], time: datetime) -> None:
    stamps = pa.array([time + k * timedelta(minutes=1) for k in range(len(ids))], log.TIME)
    rows = pa.table({"_id": ids, "_time": stamps, "_score": [0.5] * len(ids)})
    appending.append(store, policy, "predictions", rows, writer="test", sequence=1)


def test_labels_and_corrections_that_came_later_are_not_known_yet(store: Store) -> None:
    policy = declared()
    predict(store, policy, ["a0", "a1"], NOON)
    observe(store, policy, 1, {"a1": 0.0}, NOON + DAY)
    observe(store, policy, 2, {"a0": 1.0, "a1": 1.0}, NOON + 10 * DAY)
    assert taken(store, policy, NOON + 5 * DAY) == [("a1", 0.0)]
    assert taken(store, policy, NOON + 10 * DAY) == [("a0", 1.0), ("a1", 1.0)]


def test_without_one_outcome_known_yet_the_refusal_says_by_when(store: Store) -> None:
    policy = declared()
    predict(store, policy, ["a0"], NOON)
    observe(store, policy, 1, {"a0": 1.0}, NOON + 10 * DAY)
    with pytest.raises(DataError, match=r"not one row with an outcome known at 2026-03-07T12:00:00"):
        taken(store, policy, NOON + 5 * DAY)


def test_rows_that_are_due_without_an_outcome_are_negative_where_the_policy_says_so(store: Store) -> None:
    policy = declared({"complete_after_seconds": 2 * 86_400, "absent_means": "negative"})
    predict(store, policy, ["fraud", "fine", "fine-mirrored"], NOON)
    observe(store, policy, 1, {"fraud": 1.0}, NOON + DAY)
    assert taken(store, policy, NOON + 3 * DAY) == [("fraud", 1.0), ("fine", 0.0)]
    with pytest.raises(DataError, match="label delay of 172800 s"):
        taken(store, policy, NOON + DAY)


def test_a_delay_nobody_stated_is_estimated_from_the_log(store: Store) -> None:
    """Positives are known after an hour, negatives after a day: the newest day holds positives only."""
    policy = declared({})
    ids = [f"{k:03}" for k in range(500)]
    stamps = [NOON + k * timedelta(minutes=10) for k in range(500)]
    rows = pa.table({"_id": ids, "_time": pa.array(stamps, log.TIME), "_score": [0.5] * 500})
    appending.append(store, policy, "predictions", rows, writer="test", sequence=1)
    observed = [time + (HOUR if k % 5 == 0 else DAY) for k, time in enumerate(stamps)]
    values = [1.0 if k % 5 == 0 else 0.0 for k in range(500)]
    labels = pa.table({"_id": ids, "_label": values, "_observed": pa.array(observed, log.TIME)})
    appending.append(store, policy, "labels", labels, writer="test", sequence=1)
    end = stamps[-1]
    known = dict(taken(store, policy, end))
    assert len(known) == sum(time < end - DAY for time in stamps)
    assert sum(known.values()) / len(known) == pytest.approx(0.2, abs=0.01)
