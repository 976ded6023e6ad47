"""Both bundles on the same logged rows: real bundles, a real log."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from kedge import records
from kedge.policy import Metric
from kedge.records import Evaluated, Record
from kedge.rollout import summary
from kedge.rollout.evidence import SPREADS, Evidence
from kedge.rollout.judge import judge
from kedge.rollout.model import Rollout, Span, Traffic
from kedge.rollout.outcomes import observe
from kedge.tables import appending
from tests.rollout.published import published

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOW = START + timedelta(days=30)
ROWS = 600


@pytest.fixture
def asked(store, policy):
    """Logs rows whose outcome is x > 0, all answered by one bundle, which is not asked again what it said."""

    def asks(*, labelled=ROWS, mirrored=0, by="z" * 40):
        x = np.random.default_rng(1).normal(size=ROWS)
        ids = [f"r{row}" for row in range(ROWS)] + [f"r{row}-mirrored" for row in range(mirrored)]
        x = np.concatenate([x, x[:mirrored]])
        times = [START + timedelta(seconds=row % ROWS) for row in range(len(ids))]
        table = {"_id": ids, "_time": times, "_version": [by] * len(ids), "_score": [0.5] * len(ids), "x": x}
        appending.append(store, policy, "predictions", pa.table(table), writer="t", sequence=1)
        labels = {"_id": ids[:labelled], "_label": (x > 0).astype(float)[:labelled], "_observed": times[:labelled]}
        appending.append(store, policy, "labels", pa.table(labels), writer="t", sequence=1)

    return asks


def seen(store, policy, candidate, champion):
    rollout = Rollout(
        bundle=candidate, uri="u", slot="green", champion=champion, attempt=1, run="r", started=START, since=START
    )
    span = Span(
        state="canary", percent=10, began=START, candidate=Traffic(requests=400), champion=Traffic(requests=3600)
    )
    return observe(store, policy, rollout, [span], now=NOW)[-1]


def told_by_its_evaluation(store, policy, candidate, champion, *, shift):
    evaluated = Evaluated(
        bundle=candidate,
        champion=champion,
        run="r",
        outcome="passed",
        passed=True,
        metrics={"score_shift": shift},
        reasons=(),
    )
    records.append(store, Record(model=policy.name, key=f"{candidate}-r", time=START, data=evaluated))


def test_both_are_asked_about_every_row_whoever_answered_it_and_copies_count_once(store, policy, asked, tmp_path):
    asked(mirrored=50)
    candidate, champion = (published(store, policy, tmp_path, slope=slope) for slope in (-3.0, 3.0))
    paired = seen(store, policy, candidate, champion).paired
    assert (paired.decisions.rows, paired.losses.rows, paired.scores.rows) == (ROWS, ROWS, ROWS)
    assert paired.decisions.mean == 1  # the candidate says the opposite each time
    assert 0.5 < paired.losses.mean < 1


def test_the_candidate_that_decides_worse_is_rolled_back_though_it_answered_nobody(store, policy, asked, tmp_path):
    asked()
    candidate, champion = (published(store, policy, tmp_path, intercept=by) for by in (2.0, 0.0))
    found = seen(store, policy, candidate, champion)
    decision = judge(Evidence(observed=(found,), seconds=100), policy)
    assert decision.action == "roll back"
    assert decision.reasons[0].startswith("cost of decisions on the same rows: +0.2")
    assert summary.of(found)["same_rows"]["labelled"] == ROWS


@pytest.mark.parametrize("name", ["recall", "auc", "log_loss"])
def test_the_primary_metric_takes_back_what_it_finds_worse(name, store, policy, asked, tmp_path):
    """The candidate ranks and decides as if at random: by each metric it is worse than one that is right each time."""
    asked()
    candidate, champion = (published(store, policy, tmp_path, slope=slope) for slope in (-0.1, 3.0))
    named = policy.model_copy(update={"metrics": (Metric(name=name, primary=True),)})
    found = seen(store, named, candidate, champion)
    tests = {test.name: test for test in judge(Evidence(observed=(found,), seconds=100), named).tests}
    assert tests["primary"].worse
    assert "loss" not in tests
    assert tests["primary"].seen.startswith(f"{name} on the same rows: ")
    assert summary.of(found)["same_rows"]["primary"]["rows"] == ROWS


def test_a_primary_metric_without_outcomes_of_each_class_leaves_it_to_the_decisions(store, policy, tmp_path):
    candidate, champion = (published(store, policy, tmp_path, slope=slope) for slope in (-3.0, 3.0))
    ids, times = [f"r{row}" for row in range(ROWS)], [START + timedelta(seconds=row) for row in range(ROWS)]
    table = {"_id": ids, "_time": times, "_version": [champion] * ROWS, "_score": [0.5] * ROWS, "x": [-1.0] * ROWS}
    appending.append(store, policy, "predictions", pa.table(table), writer="t", sequence=1)
    labels = pa.table({"_id": ids, "_label": [0.0] * ROWS, "_observed": times})
    appending.append(store, policy, "labels", labels, writer="t", sequence=1)
    named = policy.model_copy(update={"metrics": (Metric(name="auc", primary=True),)})
    found = seen(store, named, candidate, champion)
    decision = judge(Evidence(observed=(found,), seconds=100), named)
    tests = {test.name: test for test in decision.tests}
    assert tests["decisions"].worse
    assert tests["primary"].harmless


def test_the_shift_that_training_saw_on_the_golden_rows_is_expected(store, policy, asked, tmp_path):
    asked(labelled=0)
    candidate, champion = (published(store, policy, tmp_path, slope=0.5, intercept=by) for by in (1.0, 0.0))
    paired = seen(store, policy, candidate, champion).paired
    assert abs(paired.scores.mean * SPREADS) < 0.1
    assert paired.decisions.rows == 0


def test_the_shift_that_its_evaluation_saw_is_expected(store, policy, asked, tmp_path):
    """After a change the held-out rows are the new ones, the golden rows may be old."""
    asked(labelled=0)
    candidate, champion = (published(store, policy, tmp_path, slope=0.5, intercept=by) for by in (1.0, 0.0))
    told_by_its_evaluation(store, policy, candidate, champion, shift=0.0)
    shifts = seen(store, policy, candidate, champion).paired.scores
    assert shifts.mean * SPREADS > 1, "none was expected"


def test_outcomes_that_do_not_stand_for_the_rows_are_not_judged_on_the_same_rows_either(store, policy, asked, tmp_path):
    candidate, champion = (published(store, policy, tmp_path, slope=slope) for slope in (-3.0, 3.0))
    asked(labelled=30, by=champion)
    found = seen(store, policy, candidate, champion)
    assert found.not_judged
    assert (found.paired.decisions.rows, found.paired.scores.rows) == (0, ROWS)


def test_rows_that_the_log_hides_are_compared_slot_by_slot_and_that_is_said(store, policy, asked, tmp_path):
    asked()
    candidate, champion = (published(store, policy, tmp_path, slope=slope) for slope in (-3.0, 3.0))
    feature = policy.model.features["x"].model_copy(update={"privacy": "hash"})
    private = policy.model_copy(update={"model": policy.model.model_copy(update={"features": {"x": feature}})})
    found = seen(store, private, candidate, champion)
    assert found.paired is None
    assert summary.of(found)["not_paired"].startswith("the log does not hold x as asked for: privacy")


def test_a_shadow_compares_both_on_the_same_rows_where_features_are_private(store, policy, tmp_path):
    """The champion says what is so, the candidate's answers to the copies are higher by half."""
    candidate, champion = (published(store, policy, tmp_path, slope=slope) for slope in (-3.0, 3.0))
    feature = policy.model.features["x"].model_copy(update={"privacy": "drop"})
    private = policy.model_copy(update={"model": policy.model.model_copy(update={"features": {"x": feature}})})
    ids = [f"r{row}" for row in range(ROWS)]
    times = [START + timedelta(seconds=row) for row in range(ROWS)]
    label = np.arange(ROWS) % 2.0
    said = 0.1 + 0.4 * label
    table = pa.table(
        {
            "_id": [*ids, *(f"{each}-mirrored" for each in ids[:500]), "r0-alone"],
            "_time": [*times, *times[:500], times[0]],
            "_version": [champion] * ROWS + [candidate] * 501,
            "_score": np.concatenate([said, said[:500] + 0.5, [0.0]]),
        }
    )
    appending.append(store, private, "predictions", table, writer="t", sequence=1)
    labels = pa.table({"_id": ids, "_label": label, "_observed": times})
    appending.append(store, private, "labels", labels, writer="t", sequence=1)
    told_by_its_evaluation(store, policy, candidate, champion, shift=0.5)
    paired = seen(store, private, candidate, champion).paired
    assert (paired.decisions.rows, paired.losses.rows, paired.scores.rows) == (500, 500, 500)
    assert paired.decisions.mean == 0.5  # of the negatives, said 0.6, all are decided wrongly; of the positives none
    assert paired.scores.mean == pytest.approx(0)
    assert seen(store, policy, candidate, "f" * 40).not_paired.startswith("a bundle cannot be asked: ")
