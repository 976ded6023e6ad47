from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from scipy import stats

from kedge.bundle import Agreement
from kedge.evaluation.compare import Paired
from kedge.evaluation.decisions import Decisions
from kedge.evaluation.gates import Against, Measured, Rows, Slice, judge, level_of_attempt, outcome
from kedge.policy import Gates

BETTER = Paired(improvement=0.02, low=0.01, high=0.03, p_value=0.01, blocks=30, rows=1000)
WORSE = Paired(improvement=-0.02, low=-0.03, high=0.01, p_value=0.9, blocks=30, rows=1000)
SHOWN_WORSE = dataclasses.replace(WORSE, p_value=0.99)
ALIKE = Decisions(
    challenger_cost=0.18, champion_cost=0.18, only_challenger_wrong=9, only_champion_wrong=9,
    saved=0.0, saved_error=4.24, p_cost=0.5, p_calibrated=0.5,
)  # fmt: skip
SAVING = dataclasses.replace(ALIKE, saved=32.8, saved_error=20.0)
AGAINST = Against(champion_loss=0.32, difference=BETTER, within_margin=BETTER, decisions=ALIKE)
ROWS = Rows(
    judged=1000, unseen=1000, classes={"negative": (700, 2800), "positive": (300, 1200)}, earlier=4000
)  # fmt: skip
MEASURED = Measured(rows=ROWS, challenger_loss=0.3, constant_loss=0.6, constant=BETTER, against=AGAINST)


def measured(**changes: Any) -> Measured:
    """What passes, but for these."""
    parts: dict[str, Any] = {}
    for name, value in changes.items():
        if name in ("difference", "within_margin", "decisions"):
            parts["against"] = dataclasses.replace(parts.get("against", AGAINST), **{name: value})
        elif name in ("judged", "unseen", "classes", "earlier", "apart", "one_value"):
            parts["rows"] = dataclasses.replace(parts.get("rows", ROWS), **{name: value})
        else:
            parts[name] = value
    return dataclasses.replace(MEASURED, **parts)


def two(positives: int, judged: int, earlier_positives: int, earlier: int) -> dict[str, tuple[int, int]]:
    """Counts of two classes."""
    negatives = judged - positives, earlier - earlier_positives
    return {"negative": negatives, "positive": (positives, earlier_positives)}


def part(**changes: Any) -> Slice:
    one = Slice(feature="country", value="AT", rows=200, challenger_loss=0.3, champion_loss=0.3, p_value=0.5)
    return dataclasses.replace(one, **changes)


def not_passed(seen: Measured, **gates: Any) -> dict[str, str]:
    return {verdict.name: verdict.outcome for verdict in judge(Gates(**gates), seen) if not verdict.passed}


def sentence(name: str, seen: Measured, **gates: Any) -> str:
    (found,) = (verdict.sentence for verdict in judge(Gates(**gates), seen) if verdict.name == name)
    return found


def test_a_better_challenger_passes_every_gate() -> None:
    verdicts = judge(Gates(), MEASURED)
    assert not_passed(MEASURED) == {}
    assert outcome(verdicts) == "passed"
    assert len({verdict.name for verdict in verdicts}) == len(verdicts)


@pytest.mark.parametrize(
    ("changes", "gates", "failed"),
    [
        ({"unseen": 199}, {}, {"rows": "inconclusive"}),
        ({"classes": two(19, 1000, 1200, 4000)}, {}, {"outcomes": "inconclusive"}),
        ({"classes": two(981, 1000, 1200, 4000)}, {}, {"outcomes": "inconclusive"}),
        ({"classes": {}, "apart": True}, {}, {"outcomes": "inconclusive"}),
        ({"agreement": Agreement(difference=0.03, bound=0.02)}, {}, {"agreement": "rejected"}),
        (
            {"decisions": dataclasses.replace(SAVING, saved=32.0), "prove_decisions": True},
            {},
            {"decisions": "rejected"},
        ),
        ({"constant": dataclasses.replace(BETTER, p_value=0.031), "against": None}, {}, {"loss": "rejected"}),
        ({"challenger_loss": 0.6}, {}, {"loss": "rejected"}),
        ({}, {"max_loss": 0.29}, {"loss": "rejected"}),
        ({"difference": dataclasses.replace(BETTER, p_value=0.031)}, {}, {"improvement": "rejected"}),
        ({}, {"min_improvement": 0.021}, {"improvement": "rejected"}),
        ({"within_margin": SHOWN_WORSE, "stale": True}, {}, {"improvement": "rejected"}),
        ({"within_margin": WORSE, "stale": True}, {"margin": 0.9}, {"improvement": "rejected"}),  # enough rows
        ({"within_margin": WORSE, "stale": True}, {}, {"improvement": "inconclusive"}),
        ({"decisions": dataclasses.replace(ALIKE, p_cost=0.15)}, {}, {"decisions": "rejected"}),
        ({"decisions": dataclasses.replace(ALIKE, p_calibrated=0.15)}, {}, {"decisions": "rejected"}),
        ({"slices": [part(p_value=0.05)]}, {}, {"slices": "rejected"}),
    ],
)
def test_each_limit_fails_its_gate_alone(
    changes: dict[str, Any], gates: dict[str, Any], failed: dict[str, str]
) -> None:
    assert not_passed(measured(**changes), **gates) == failed
    assert outcome(judge(Gates(**gates), measured(**changes))) == next(iter(failed.values()))


@pytest.mark.parametrize(
    ("changes", "gates"),
    [
        ({"unseen": 200}, {}),
        ({"classes": two(20, 1000, 0, 0), "earlier": 0}, {}),
        ({"agreement": Agreement(difference=0.02, bound=0.02)}, {}),
        ({}, {"max_loss": 0.3}),
        ({"difference": dataclasses.replace(BETTER, p_value=level_of_attempt(0.05, 1))}, {}),
        ({}, {"min_improvement": 0.02}),
        ({"slices": [part(p_value=0.051)]}, {}),
        ({"decisions": SAVING, "prove_decisions": True}, {}),
        ({"difference": WORSE, "within_margin": BETTER, "stale": True}, {}),
    ],
)
def test_thresholds_are_inclusive(changes: dict[str, Any], gates: dict[str, Any]) -> None:
    assert not_passed(measured(**changes), **gates) == {}


def test_too_few_rows_condemn_nothing_that_fails_beside_them() -> None:
    seen = measured(unseen=90, difference=WORSE)
    assert not_passed(seen) == {"rows": "inconclusive", "improvement": "rejected"}
    assert outcome(judge(Gates(), seen)) == "inconclusive"


def test_attempts_share_one_error_budget() -> None:
    assert sum(level_of_attempt(0.05, attempt) for attempt in range(1, 13)) < 0.05
    third = dataclasses.replace(BETTER, p_value=0.003)
    assert not_passed(measured(difference=third, constant=third, attempt=3)) == {}
    assert not_passed(measured(difference=third, constant=third, attempt=4)) == {"improvement": "rejected"}
    assert "with p at most 0.0019 in attempt 4" in sentence("improvement", measured(attempt=4))
    with pytest.raises(ValueError, match="attempt 0"):
        level_of_attempt(0.05, 0)


def test_a_fresher_challenger_need_not_be_better_than_a_stale_champion() -> None:
    equal = {"difference": WORSE, "within_margin": BETTER}
    assert not_passed(measured(**equal)) == {"improvement": "rejected"}
    assert not_passed(measured(**equal, stale=True)) == {}
    assert sentence("improvement", measured(**equal, stale=True)) == (
        "loss 0.02 higher than the champion's (95 % interval -0.01 to 0.03), must be less than 2.0% higher, because "
        "the champion is stale, with p at most 0.0304 (paired test p = 0.01)"
    )


def test_too_few_rows_to_show_an_equal_are_inconclusive_with_those_needed() -> None:
    (found,) = (verdict for verdict in judge(Gates(), measured(within_margin=WORSE, stale=True)) if not verdict.passed)
    error = 0.02 / stats.t.ppf(0.975, 29)
    reach = stats.t.ppf(1 - level_of_attempt(0.05, 1), 29) + stats.norm.ppf(0.9)
    assert found.rows_needed == pytest.approx(1000 * (reach * error / (0.02 * 0.32)) ** 2 - 1000, rel=1e-3)
    assert found.sentence.endswith(f"(paired test p = 0.9): about {found.rows_needed:,} more rows are needed to tell")


def test_rows_still_needed_are_counted() -> None:
    verdicts = {verdict.name: verdict for verdict in judge(Gates(), measured(unseen=120))}
    assert verdicts["rows"].rows_needed == 80
    assert verdicts["rows"].sentence == (
        "120 of the 1,000 judged rows are newer than those the champion was trained on, must be at least 200: 80 more "
        "are needed"
    )


def test_31_positives_of_20_000_are_inconclusive() -> None:
    seen = measured(judged=4000, unseen=4000, earlier=16_000, classes=two(3, 4000, 28, 16_000))
    (found,) = (verdict for verdict in judge(Gates(), seen) if not verdict.passed)
    assert found.rows_needed == 10_968  # 17 more positives at 31 in 20,000
    assert found.sentence == (
        "3 of 4,000 judged rows are positive, must be at least 20 of each class: about 10,968 more rows are needed"
    )


@pytest.mark.parametrize(
    ("rows", "outcomes"),
    [
        ((1000, 500), "inconclusive"),
        ((0, 500), "inconclusive"),
        ((700, 0), "passed"),  # said, and for the other gates to decide
    ],
)
def test_a_table_sorted_by_its_outcome_is_said(rows: tuple[int, int], outcomes: str) -> None:
    found = {verdict.name: verdict for verdict in judge(Gates(), measured(classes=two(rows[0], 1000, rows[1], 4000)))}[
        "outcomes"
    ]
    assert found.outcome == outcomes
    assert "is the table sorted by its outcome instead of by time" in found.sentence
    assert found.rows_needed == 0


def test_a_class_that_has_become_twice_as_rare_is_no_sorted_table() -> None:
    assert "sorted" not in sentence("outcomes", measured(classes=two(150, 1000, 1200, 4000)))


def test_a_regressions_outcomes_beyond_all_earlier_ones_are_said() -> None:
    assert sentence("outcomes", measured(classes={}, apart=True)) == (
        "every one of the 1,000 judged outcomes lies beyond all earlier ones: is the table sorted by its outcome "
        "instead of by time?"
    )
    assert sentence("outcomes", measured(classes={}, one_value=True)).startswith(
        "every one of the 1,000 judged outcomes is the same number, and those of earlier rows are not: is the table"
    )
    assert "outcomes" not in {verdict.name for verdict in judge(Gates(), measured(classes={}))}


def test_each_fact_is_said_with_figure_and_limits() -> None:
    seen = measured(slices=[part(), part(value="BE", challenger_loss=0.36, p_value=0.04)])
    assert [verdict.sentence for verdict in judge(Gates(max_loss=0.5, min_improvement=0.005), seen)] == [
        "1,000 rows to judge on, must be at least 200",
        "300 of 1,000 judged rows are positive",
        "loss 0.3, must be at most 0.5 and below 0.6, that of the best constant guess for these rows",
        "loss 0.02 lower than the champion's (95 % interval 0.01 to 0.03, paired test p = 0.01), must be at least "
        "0.005 lower with p at most 0.0304",
        "wrong decisions cost 0.18 a row, the champion's 0.18; that they are more than 0.25% dearer is not shown "
        "(paired tests: of the costs p = 0.5, of the loss after calibrating both p = 0.5; shown at 0.15 or less)",
        "worst slice country = BE (200 rows): loss +20.0% against the champion's; that it is more than 10.0% higher is "
        "not shown (paired test p = 0.08 by Holm over 2; shown at 0.05 or less)",
    ]


def test_a_small_slice_is_reported_not_judged() -> None:
    assert not_passed(measured(slices=[part(rows=99, p_value=0.0)])) == {}


def test_of_many_slices_one_may_look_bad_by_chance() -> None:
    slices = [part(value=str(index), p_value=0.5) for index in range(9)]
    assert not_passed(measured(slices=[*slices, part(p_value=0.02)])) == {}
    assert not_passed(measured(slices=[*slices, part(p_value=0.005)])) == {"slices": "rejected"}


def test_without_a_champion_nothing_is_compared_and_the_constant_is_still_to_be_beaten() -> None:
    alone = measured(against=None, slices=[part(champion_loss=None, p_value=None)])
    assert not_passed(alone) == {}
    assert sentence("improvement", alone) == "there is no champion yet to compare with"
    assert not_passed(dataclasses.replace(alone, constant=WORSE)) == {"loss": "rejected"}


def test_a_regression_has_no_decisions() -> None:
    assert "decisions" not in {verdict.name for verdict in judge(Gates(), measured(decisions=None))}
