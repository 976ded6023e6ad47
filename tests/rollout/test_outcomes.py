"""Labelled outcomes from a real prediction log."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from kedge import records
from kedge.policy import Labels
from kedge.rollout import summary
from kedge.rollout.evidence import Evidence
from kedge.rollout.judge import judge
from kedge.rollout.model import Rollout, Span
from kedge.rollout.outcomes import observe
from kedge.tables import appending
from tests.records.made import check

OLD, NEW = "a" * 40, "b" * 40
START = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(minute):
    return START + timedelta(minutes=minute)


def rollout(state="canary"):
    return Rollout(
        bundle=NEW, uri="u", slot="green", champion=OLD, attempt=1, run="r", started=START, since=START, state=state
    )


@pytest.fixture
def write(store, policy):
    """Writes rows (id, minute, version, score, label or None)."""

    def writes(*rows):
        ids, minutes, versions, scores, labels = zip(*rows, strict=True)
        predictions = {"_id": ids, "_time": [at(m) for m in minutes], "_version": versions, "_score": scores}
        appending.append(store, policy, "predictions", pa.table(predictions), writer="t", sequence=1)
        known = [(i, label) for i, label in zip(ids, labels, strict=True) if label is not None]
        table = {"_id": [i for i, _ in known], "_label": [v for _, v in known], "_observed": [at(9999)] * len(known)}
        appending.append(store, policy, "labels", pa.table(table), writer="t", sequence=1)

    return writes


FIRST = Span(state="canary", percent=10, began=at(0), ended=at(10))
SECOND = Span(state="canary", percent=50, began=at(10))


def test_each_span_has_the_outcomes_of_its_own_predictions_of_both_bundles(write, store, policy):
    write(
        ("before", -1, OLD, 0.9, 0.0),
        ("a", 0, OLD, 0.9, 0.0),
        ("b", 5, OLD, 0.9, 1.0),
        ("c", 9, NEW, 0.1, 1.0),
        ("unlabelled", 9, NEW, 0.1, None),
        ("d", 10, NEW, 0.5, 1.0),
        ("e", 11, NEW, 0.4, 1.0),
        ("third", 11, "c" * 40, 0.4, 1.0),
        ("late clock", 5000, OLD, 0.2, 0.0),
    )
    first, second = observe(store, policy, rollout(), [FIRST, SECOND])
    assert told(first.candidate) == (1, pytest.approx(0.81), 1)
    assert told(first.champion) == (2, pytest.approx(0.81 + 0.01), 1)
    assert told(second.candidate) == (2, pytest.approx(0.25 + 0.36), 1)  # 0.5 is at the threshold: positive
    assert told(second.champion) == (1, pytest.approx(0.04), 0)


def told(outcomes):
    return outcomes.rows, outcomes.loss, outcomes.wrong


def test_regression_loss_is_the_squared_error_with_its_variance(write, store, policy):
    policy = policy.model_copy(update={"model": policy.model.model_copy(update={"task": "regression"})})
    write(("a", 0, NEW, 1.0, 3.0), ("b", 1, NEW, 1.0, 1.0), ("c", 2, OLD, 0.0, 1.0))
    seen = observe(store, policy, rollout(), [FIRST])[0]
    assert (seen.candidate.rows, seen.candidate.mean, seen.candidate.variance) == (2, 2.0, 8.0)
    assert (seen.champion.mean, seen.champion.variance) == (1.0, 0.0)


def labelled(store, policy, rows, observed):
    """Write rows (id, minute, version, score, label) and when their labels became known, None: never."""
    ids, minutes, versions, scores, _ = zip(*rows, strict=True)
    predictions = {"_id": ids, "_time": [at(m) for m in minutes], "_version": versions, "_score": scores}
    appending.append(store, policy, "predictions", pa.table(predictions), writer="t", sequence=1)
    known = [(key, label, observed(at(minute), label)) for key, minute, _, _, label in rows]
    told = [(key, label, time) for key, label, time in known if time is not None]
    table = dict(zip(("_id", "_label", "_observed"), zip(*told, strict=True), strict=True))
    appending.append(store, policy, "labels", pa.table(table), writer="t", sequence=1)


def stated(policy, **labels):
    return policy.model_copy(update={"labels": Labels(**labels)})


def two_models(count, seed):
    """Rows of two bundles on the same kind of request, one in eleven positive.

    The candidate is the better one: it gives positives 0.55 and negatives 0.05, the champion both 0.1 more.
    """
    random = np.random.default_rng(seed)
    rows = []
    for k in range(count):
        label = float(random.random() < 1 / 11)
        new = random.random() < 0.5
        score = (0.55 if label else 0.05) + (0.0 if new else 0.1) + random.normal(0, 0.01)
        rows.append((f"{k}", 9.9 * k / count, NEW if new else OLD, score, label))
    return rows


def worse(seen, policy):
    return [test.name for test in judge(Evidence(observed=tuple(seen), seconds=1.0), policy).tests if test.worse]


def test_a_better_candidate_is_not_rolled_back_because_positives_are_known_first(store, policy):
    """Of the positives alone the candidate's error is larger: 0.45 squared against 0.35 squared."""
    labelled(store, policy, two_models(6000, 1), lambda time, label: time if label else None)
    blind = observe(store, stated(policy, min_coverage=0), rollout(), [FIRST], now=at(60))
    assert worse(blind, policy) == ["loss"]  # what whatever labels there are say
    seen = observe(store, policy, rollout(), [FIRST], now=at(60))
    assert (seen[0].candidate.rows, seen[0].champion.rows) == (0, 0)
    assert "of 6,000 rows that are due have an outcome" in seen[0].not_judged
    assert summary.of(seen[0])["not_judged"] == seen[0].not_judged
    due = stated(policy, complete_after_seconds=3600, absent_means="negative")
    assert observe(store, due, rollout(), [FIRST], now=at(60))[0].candidate.rows == 0
    after = observe(store, due, rollout(), [FIRST], now=at(75))
    assert after[0].candidate.rows + after[0].champion.rows == 6000
    assert worse(after, policy) == []
    assert after[0].candidate.mean < after[0].champion.mean


def test_outcomes_observed_later_and_rows_not_due_are_not_known(store, policy):
    rows = [(f"{k}", k, NEW, 0.5, 1.0) for k in range(8)]
    labelled(store, policy, rows, lambda time, _: time + timedelta(minutes=2))
    delayed = stated(policy, delay_seconds=240)
    assert observe(store, delayed, rollout(), [FIRST], now=at(8))[0].candidate.rows == 5  # minutes 0 to 4
    assert observe(store, stated(policy, delay_seconds=0), rollout(), [FIRST], now=at(4))[0].candidate.rows == 3


def test_a_delay_nobody_stated_is_the_newest_checks_estimate(store, policy):
    rows = [(f"{k}", k, NEW, 0.5, 1.0) for k in range(8)]
    labelled(store, policy, rows, lambda time, _: time)
    cohort = {"verdict": "judged", "delay_seconds": 300.0}
    records.append(store, check(START, model=policy.name, cohort=cohort))
    assert observe(store, policy, rollout(), [FIRST], now=at(8))[0].candidate.rows == 4


def test_a_mirrored_answer_never_counts_as_a_negative_outcome(store, policy):
    rows = [("a", 1, OLD, 0.4, 1.0), ("a-mirrored", 1, NEW, 0.4, 0.0), ("b", 2, NEW, 0.4, 0.0)]
    labelled(store, policy, rows, lambda time, label: time if label else None)
    due = stated(policy, complete_after_seconds=60, absent_means="negative")
    assert observe(store, due, rollout(), [FIRST], now=at(9))[0].candidate.rows == 1


def test_empty_log_gives_no_outcomes(store, policy):
    seen = observe(store, policy, rollout(), [FIRST])[0]
    assert (seen.candidate.rows, seen.champion.rows) == (0, 0)


def test_shadow_that_ended_tells_how_far_its_answers_agreed(write, store, policy):
    write(
        ("a", 1, OLD, 0.4, None),
        ("a-mirrored", 1, NEW, 0.6, None),
        ("b", 2, OLD, 0.8, None),
        ("b-mirrored", 2, NEW, 0.7, None),
        ("c", 3, OLD, 0.8, None),
        ("smoke", 3, NEW, 0.0, None),
    )
    shadow = Span(state="shadow", percent=50, began=at(0), ended=at(10))
    assert observe(store, policy, rollout("canary"), [shadow])[0].agreement is None
    agreement = summary.of(observe(store, policy, rollout("promoted"), [shadow])[0])["agreement"]
    assert agreement == {"rows": 2, "mean_difference": pytest.approx(0.15), "other_decisions": 1}
