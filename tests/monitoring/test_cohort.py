from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats

from kedge import measure, policy
from kedge.monitoring.cohort import Cohort, costs, in_time_order, judge
from kedge.tables.coverage import Coverage, uneven

START, END = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)


def policy_of(task="binary", costs=None, **labels):
    model = {
        "name": "fraud",
        "task": task,
        "target": "fraud",
        "features": {"amount": {"type": "number"}, "land": {"type": "category"}},
        "costs": costs or {},
    }
    data = {"source": {"format": "log"}}
    return policy.parse({"model": model, "data": data, "labels": labels})


NEGATIVE = {"complete_after_seconds": 60, "absent_means": "negative"}


def rows(count, seed=0):
    """Scores, labels drawn from them, and times a second apart."""
    random = np.random.default_rng(seed)
    scores = random.uniform(0, 1, count)
    labels = (random.random(count) < scores).astype(float)
    return scores, labels, np.datetime64("2026-03-02") + np.arange(count).astype("timedelta64[s]")


def test_a_cohort_with_all_its_outcomes_is_judged_as_sums():
    scores, labels, times = rows(1000)
    seen = judge(policy_of(), scores, labels, times, start=START, end=END)
    losses = measure.losses("binary", labels, scores)
    assert (seen.verdict, seen.rows, seen.predicted, seen.labelled, seen.coverage) == ("judged", 1000, 1000, 1000, 1.0)
    assert seen.loss == pytest.approx(losses.sum())
    assert seen.cost == seen.cost_square == np.sum((scores >= 0.5) != labels)  # each wrong decision costs one
    assert (seen.start, seen.end) == (START, END)


def test_blocks_follow_each_other_in_time_and_add_up():
    scores, labels, times = rows(1003)
    turned = np.random.default_rng(1).permutation(1003)
    seen = judge(policy_of(), scores[turned], labels[turned], times[turned])
    assert [block.rows for block in seen.blocks] == [101, 101, 101, *[100] * 7]
    losses = measure.losses("binary", labels, scores)
    assert [block.loss for block in seen.blocks[:2]] == pytest.approx([losses[:101].sum(), losses[101:202].sum()])
    assert sum(block.cost for block in seen.blocks) == seen.cost
    assert seen == judge(policy_of(), scores, labels, times)


def test_wrong_decisions_cost_what_the_policy_says_and_one_on_average():
    model = policy_of(costs={"false_positive": 1, "false_negative": 19}).model
    assert costs(model, np.array([0.9, 0.01, 0.9]), np.array([0.0, 1.0, 1.0])).tolist() == [0.1, 1.9, 0.0]


def test_a_row_of_a_regression_costs_its_loss_over_the_constants():
    model = policy_of("regression").model
    scores, labels = np.array([1.0, 2.0]), np.array([2.0, 4.0])
    assert costs(model, scores, labels, 2.0).tolist() == [0.5, 2.0]
    assert costs(model, scores, labels).tolist() == [1.0, 4.0]  # variance of 2 and 4
    assert costs(model, scores, np.array([3.0, 3.0])).tolist() == [0.0, 0.0]  # nothing to be explained


def test_rows_without_an_outcome_are_left_out_and_counted():
    scores, labels, times = rows(1000)
    labels[::3] = np.nan
    seen = judge(policy_of(), scores, labels, times)
    assert (seen.verdict, seen.rows, seen.labelled, seen.absent) == ("judged", 666, 666, 0)
    assert seen.coverage == pytest.approx(0.666)


def test_below_the_stated_coverage_labels_are_incomplete():
    scores, labels, times = rows(1000)
    labels[np.random.default_rng(1).random(1000) < 0.8] = np.nan
    seen = judge(policy_of(), scores, labels, times)
    assert (seen.verdict, seen.rows, seen.cost) == ("labels incomplete", 0, 0.0)
    assert "of 1,000 rows that are due have an outcome" in seen.reason
    assert "labels.min_coverage is 50%" in seen.reason
    assert judge(policy_of(min_coverage=0.1), scores, labels, times).verdict == "judged"


def test_outcomes_of_one_class_alone_are_incomplete_however_many():
    scores, labels, times = rows(1000)
    labels[labels == 0] = np.nan
    seen = judge(policy_of(min_coverage=0.2), scores, labels, times)
    assert seen.verdict == "labels incomplete"
    assert "outcomes of one class are missing or come later" in seen.reason
    assert judge(policy_of(min_coverage=0), scores, labels, times).verdict == "judged"  # as asked for


def test_one_class_alone_is_incomplete_where_the_scores_expect_the_other():
    """A weak model: its scores tell nothing of who is labelled."""
    scores, times = np.linspace(0.45, 0.55, 400), rows(400)[2]
    labels = (np.random.default_rng(1).random(400) < 0.6).astype(float)
    positives = np.where(labels == 1, 1.0, np.nan)
    seen = judge(policy_of(), scores, positives, times)
    assert seen.verdict == "labels incomplete"
    assert seen.reason.startswith(f"none of the {int(labels.sum())} outcomes known is negative, where the scores exp")
    assert judge(policy_of(), scores, labels, times).verdict == "judged"
    assert judge(policy_of(), scores, np.ones(400), times).verdict == "judged"  # all are known, and all are positive
    rare = np.where(labels == 1, 0.0, np.nan)  # one in a thousand, and none among the known
    assert judge(policy_of(), np.full(400, 0.001), rare, times).verdict == "judged"


def test_an_absent_outcome_is_negative_where_the_policy_says_so():
    scores, labels, times = rows(1000)
    told = np.where(labels == 0, np.nan, labels)
    seen, full = (judge(policy_of(**NEGATIVE), scores, known, times) for known in (told, labels))
    assert (seen.verdict, seen.rows, seen.coverage) == ("judged", 1000, 1.0)
    assert (seen.labelled, seen.absent) == (int(labels.sum()), int((labels == 0).sum()))
    assert (seen.cost, seen.loss) == (full.cost, full.loss)


def test_late_outcomes_are_judged_with_the_cohort_and_not_part_of_its_coverage():
    scores, labels, times = rows(400)
    late = np.arange(400) < 100
    labels[:50] = np.nan
    seen = judge(policy_of(**NEGATIVE), scores, labels, times, late=late)
    assert (seen.predicted, seen.late, seen.rows) == (300, 50, 350)  # a late row without an outcome is none
    assert seen.coverage == 1.0


def test_a_score_that_is_no_number_is_counted_and_in_no_sum():
    scores, labels, times = rows(400)
    scores[:7] = [np.nan, np.inf, -np.inf, np.nan, np.nan, np.nan, np.nan]
    seen = judge(policy_of(), scores, labels, times)
    assert (seen.nan_scores, seen.predicted, seen.rows) == (7, 393, 393)
    assert np.isfinite(seen.loss)


@pytest.mark.parametrize(
    ("count", "start", "end", "verdict"),
    [(99, START, END, "too few labels"), (100, START, END, "judged"), (0, START, START, "not due")],
)
def test_few_rows_have_no_verdict_and_none_are_not_due(count, start, end, verdict):
    assert judge(policy_of(), *rows(count), start=start, end=end).verdict == verdict


def test_late_outcomes_alone_are_judged_when_nothing_else_is_due():
    scores, labels, times = rows(150)
    seen = judge(policy_of(), scores, labels, times, late=np.ones(150, dtype=bool), start=START, end=START)
    assert (seen.verdict, seen.rows, seen.predicted, seen.coverage) == ("judged", 150, 0, None)


def test_arrays_of_labelled_rows_alone_are_covered_as_the_caller_says():
    assert judge(policy_of(), *rows(400), predicted_rows=1000).verdict == "labels incomplete"


def test_coverage_is_told_by_decision_by_score_and_by_slice():
    scores, labels, times = rows(600)
    labels[scores < 0.25] = np.nan
    land = np.array(["at", "de", None] * 200, dtype=object)
    groups = judge(policy_of(min_coverage=0), scores, labels, times, slices={"land": land}).groups
    assert list(groups) == ["score", "decision", "land"]
    assert groups["land"]["missing"].predicted == 200
    assert groups["decision"]["positive"].share == 1.0
    assert groups["decision"]["negative"].share == pytest.approx(0.5, abs=0.1)
    by_score = [part.share for part in groups["score"].values()]
    assert by_score[:2] == [0.0, 0.0]
    assert by_score[3:] == [1.0] * 7


def test_equal_scores_are_one_part():
    groups = judge(policy_of(), np.full(400, 0.5), *rows(400)[1:]).groups
    assert groups["score"] == {"0.5 to 0.5": Coverage(predicted=400, labelled=400)}


def test_evenness_is_a_chi_square_test_with_an_effect_floor():
    def parts(*labelled):
        return [Coverage(predicted=50, labelled=count) for count in labelled]

    assert uneven(parts(10, 40))
    assert not uneven(parts(21, 40))  # more than half
    assert not uneven(parts(1, 5))  # by chance
    assert not uneven(parts(0))
    table = [[12, 20, 27], [38, 30, 23]]
    assert uneven(parts(*table[0])) == (stats.chi2_contingency(table, correction=False).pvalue < 0.001)


def test_random_gaps_are_seldom_called_uneven():
    random = np.random.default_rng(4)
    called = 0
    for seed in range(300):
        scores, labels, times = rows(400, seed)
        labels[random.random(400) < 0.45] = np.nan
        called += judge(policy_of(), scores, labels, times).verdict == "labels incomplete"
    assert called <= 6  # a quarter of them lie near the bound of one half by chance: 55 % of 400 is 220 +- 10


def test_rows_to_be_judged_come_in_time_order_with_absent_ones_filled_in():
    scores, labels = np.array([0.1, 0.2, np.nan, 0.4]), np.array([1.0, np.nan, 0.0, 0.0])
    times = np.datetime64("2026-03-02") + np.array([3, 2, 1, 0]).astype("timedelta64[s]")
    found = in_time_order(policy_of(**NEGATIVE), scores, labels, times)
    assert [values.tolist() for values in found] == [[0.4, 0.2, 0.1], [0.0, 0.0, 1.0]]
    assert in_time_order(policy_of(), scores, labels, times)[0].tolist() == [0.4, 0.1]


def test_a_cohort_without_a_verdict_has_no_sums():
    seen = judge(policy_of(), *rows(50))
    assert (seen.rows, seen.cost, seen.blocks) == (0, 0.0, ())
    assert seen == Cohort(verdict="too few labels", predicted=50, labelled=50, coverage=1.0, groups=seen.groups)
