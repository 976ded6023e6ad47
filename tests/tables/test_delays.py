from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from kedge import policy as policies
from kedge.store import Store
from kedge.tables import appending, delays, log
from kedge.tables.delays import Delay, Delays, incidence

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def policy_of(task: str = "binary") -> policies.Policy:
    features = {"amount": {"type": "number"}}
    model = {"name": "payments", "task": task, "target": "returned", "features": features}
    return policies.parse({"model": model, "data": {"source": {"format": "log"}}})


def test_survival_and_its_split_are_those_worked_out_by_hand() -> None:
    """Six rows: outcomes 1 at 1, 0 at 2, 1 at 3 and 0 at 5; two without one, looked at until 2 and 4.

    S falls by 1/6 at 1, 1/5 at 2 (the row censored at 2 is still at risk), 1/3 at 3 and 1/1 at 5.
    """
    found = incidence(np.array([1, 2, 2, 3, 4, 5.0]), np.array([1, 0, -1, 1, -1, 0]), min_at_risk=1)
    assert found[1].share == pytest.approx(1 / 6 + (5 / 6) * (4 / 5) * (1 / 3))
    assert found[0].share == pytest.approx((5 / 6) * (1 / 5) + (5 / 6) * (4 / 5) * (2 / 3))
    assert (found[1].rows, found[1].median, found[1].q90) == (2, 3.0, 3.0)
    assert (found[0].median, found[0].due) == (5.0, 5.0)


def test_without_censoring_quantiles_are_those_of_the_rows_themselves() -> None:
    random = np.random.default_rng(1)
    seconds, classes = random.exponential(100, 5000), random.integers(0, 2, 5000)
    found = incidence(seconds, classes, min_at_risk=1)
    for label in (0, 1):
        own = seconds[classes == label]
        assert found[label].share == pytest.approx(len(own) / 5000)
        assert found[label].median == pytest.approx(np.quantile(own, 0.5, method="inverted_cdf"))
        assert found[label].q90 == pytest.approx(np.quantile(own, 0.9, method="inverted_cdf"))


def test_the_split_is_that_of_redistributing_censored_rows_to_the_right() -> None:
    """Efron (1967): the weight of a row without an outcome goes in equal parts to all rows to its right."""
    random = np.random.default_rng(2)
    seconds = random.permutation(200).astype(float)  # no ties
    classes = random.choice([-1, 0, 1], 200, p=[0.5, 0.3, 0.2])
    order = np.argsort(seconds)
    weight = np.full(200, 1 / 200)
    for place, row in enumerate(order[:-1]):
        if classes[row] < 0:
            later = order[place + 1 :]
            weight[later] += weight[row] / len(later)
            weight[row] = 0
    found = incidence(seconds, classes, min_at_risk=1)
    for label in (0, 1):
        assert found[label].share == pytest.approx(weight[classes == label].sum())


def test_labels_known_so_far_do_not_pass_for_all_labels() -> None:
    """Delays of ten days on average seen for twenty days: the mean of those known is far too short."""
    random = np.random.default_rng(3)
    delay, age = random.exponential(10, 20_000), random.uniform(0, 60, 20_000)
    known = delay <= age
    median = incidence(np.where(known, delay, age), np.where(known, 1, -1))[1].median
    assert median == pytest.approx(10 * np.log(2), rel=0.05)
    recent = age < 20
    assert np.median(delay[known & recent]) < 5.5


def test_a_handful_of_rows_tells_nothing() -> None:
    assert incidence(np.arange(29.0), np.ones(29, dtype=np.int64)) == {}
    assert Delays().due_seconds is None


def delay(median: float, q90: float) -> Delay:
    return Delay(rows=100, share=0.5, median=median, q90=q90, due=q90)


@pytest.mark.parametrize(
    ("positive", "negative", "differ"),
    [
        (delay(3, 7), delay(30, 30), True),
        (delay(5, 7), delay(5, 14), True),  # the middle agrees, the 90 % quantile does not
        (delay(5, 7), delay(9, 13), False),  # less than twice
        (delay(0.1, 0.2), delay(0.5, 0.9), False),  # below the floor
    ],
)
def test_classes_differ_from_twice_the_delay_on(positive: Delay, negative: Delay, differ: bool) -> None:
    assert Delays(classes={"positive": positive, "negative": negative}).differ(1.0) is differ
    assert Delays(classes={"positive": positive}).differ(1.0) is False


def fill(store: Store, policy: policies.Policy, days: int = 60, rows: int = 40) -> None:
    """A day's worth of rows a day: every tenth is positive and known after 3 days, the others after 30."""
    times = [NOON + day * DAY + k * DAY / rows for day in range(days) for k in range(rows)]
    ids = [f"{k:05}" for k in range(len(times))]
    table = pa.table({"_id": ids, "_time": pa.array(times, log.TIME), "_score": [0.5] * len(times)})
    appending.append(store, policy, "predictions", table, writer="w", sequence=1)
    positive = [k % 10 == 0 for k in range(len(times))]
    observed = [time + (3 if sign else 30) * DAY for time, sign in zip(times, positive, strict=True)]
    values = [float(sign) for sign in positive]
    labels = pa.table({"_id": ids, "_label": values, "_observed": pa.array(observed, log.TIME)})
    appending.append(store, policy, "labels", labels, writer="w", sequence=1)


def test_the_log_tells_the_delay_of_each_class_as_known_at_a_time(store: Store) -> None:
    policy = policy_of()
    fill(store, policy)
    early = delays.estimate(store, policy, NOON + 20 * DAY)
    assert list(early.classes) == ["positive"]
    assert early.due_seconds == 3 * 86_400
    assert early.classes["positive"].share == pytest.approx(0.1, abs=0.005)
    late = delays.estimate(store, policy, NOON + 50 * DAY)
    assert late.due_seconds == 30 * 86_400
    assert late.differ(3600)
    assert late.classes["negative"].share == pytest.approx(0.9, abs=0.005)


def test_a_regression_has_one_class(store: Store) -> None:
    policy = policy_of("regression")
    fill(store, policy)
    assert delays.estimate(store, policy, NOON + 50 * DAY).classes.keys() == {delays.ALL}


def test_a_log_nobody_wrote_to_tells_no_delay(store: Store) -> None:
    assert delays.estimate(store, policy_of(), NOON) == Delays(at=NOON)


def test_of_a_large_log_the_newest_whole_days_are_looked_at(store: Store) -> None:
    policy = policy_of()
    fill(store, policy, days=10, rows=40)
    assert log.newest_days(store, policy, 99, NOON + 30 * DAY) == datetime(2026, 3, 11, tzinfo=UTC)
    assert log.newest_days(store, policy, 1, NOON + 3 * DAY) == datetime(2026, 3, 5, tzinfo=UTC)
    assert log.newest_days(store, policy, 10**6, NOON + 30 * DAY) == datetime(2026, 3, 2, tzinfo=UTC)
