"""Labelled outcomes from a real prediction log."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from kedge.rollout import summary
from kedge.rollout.model import Rollout, Span
from kedge.rollout.outcomes import observe
from kedge.tables import appending

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
