"""Fairness between groups: fairlearn's figures, with intervals that cover, as gates of their own."""

import numpy as np
import pyarrow as pa
import pytest
from fairlearn.metrics import demographic_parity_difference, demographic_parity_ratio, equalized_odds_difference

from kedge import policy as policies
from kedge.errors import PolicyError
from kedge.evaluation.evaluation import measure, metrics
from kedge.evaluation.page import page
from kedge.fairness import fairness

MODEL = {"name": "loans", "target": "y", "features": {"x": {"type": "number"}, "sex": {"type": "category"}}}


def ruled(**rules):
    return policies.parse(
        {
            "model": MODEL,
            "data": {"source": {"format": "csv", "location": "t.csv"}, "time_column": "t", "extra_columns": ["origin"]},
            "gates": {"fairness": {"columns": ["origin"], "max_parity_difference": 0.1} | rules},
        }
    )


def rows(count=3000, groups=3, favoured=0.0, seed=1):
    """Outcomes, scores and origins; the first group's scores are higher by ``favoured``."""
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, count)
    label = (random.random(count) < 0.5).astype(float)
    score = np.clip(0.3 * label + 0.7 * random.random(count) + favoured * (group == 0), 0, 1)
    return label, score, pa.table({"origin": [None if each == 2 else f"o{each}" for each in group]})


def figures(policy, label, score, table):
    return {each.name: each for each in fairness(policy, label, score, table)}


@pytest.mark.parametrize("seed", range(4))
def test_the_figures_are_those_of_fairlearn(seed):
    label, score, table = rows(seed=seed, groups=3, favoured=0.1)
    of = {"sensitive_features": table["origin"].to_pandas().fillna("missing")}
    found = figures(ruled(), label, score, table)
    decided = score >= 0.5
    assert found["parity difference"].value == pytest.approx(demographic_parity_difference(label, decided, **of))
    assert found["odds difference"].value == pytest.approx(equalized_odds_difference(label, decided, **of))
    assert found["impact ratio"].value == pytest.approx(demographic_parity_ratio(label, decided, **of))


def test_a_figure_worked_by_hand():
    label = np.array([1.0, 0.0] * 20)
    score = np.array([0.9] * 20 + [0.9, 0.9, 0.9, 0.1] * 5)  # all of a; of b all positives and half of the negatives
    table = pa.table({"origin": ["a"] * 20 + ["b"] * 20})
    policy = ruled(min_rows=20)
    policy = policy.model_copy(update={"gates": policy.gates.model_copy(update={"min_class_rows": 10})})
    found = figures(policy, label, score, table)
    values = [round(each.value, 6) for each in found.values()]
    assert (list(found), values) == (["parity difference", "odds difference", "impact ratio"], [0.25, 0.5, 0.75])
    assert [group.selected for group in found["impact ratio"].groups] == [1.0, 0.75]


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Two groups whose shares differ by 0.2 exactly."""
    held = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        group = random.integers(0, 2, 800)
        decided = random.random(800) < np.where(group == 0, 0.6, 0.4)
        table = pa.table({"origin": group.astype(str)})
        found = figures(ruled(), np.resize([0.0, 1.0], 800), decided.astype(float), table)["parity difference"]
        held += found.low <= 0.2 <= found.high
    assert 0.9 <= held / 150 <= 0.99


def verdicts(policy, *data):
    label, score, table = data
    found = measure(policy, label, score, table=table)
    return found, {each.name: each for each in found.verdicts}


def test_fair_decisions_pass_and_unfair_ones_are_rejected_each_figure_in_a_sentence():
    found, fair = verdicts(ruled(max_parity_difference=0.15, max_odds_difference=0.15), *rows())
    assert found.outcome == "passed"
    assert "origin" in fair["impact ratio of origin"].sentence
    found, unfair = verdicts(ruled(), *rows(favoured=0.3))
    failed = {name for name, each in unfair.items() if each.outcome == "rejected"}
    assert failed == {f"{name} of origin" for name in ("parity difference", "odds difference", "impact ratio")}
    assert unfair["loss"].passed, "every gate is held, whichever fails"
    said = unfair["impact ratio of origin"].sentence
    assert "95 % interval" in said
    assert "must be at least 0.8; decided positively are between" in said
    assert metrics(ruled(), found)["impact_ratio_origin"] < 0.8
    assert "Fairness" in page(ruled(), found)


def test_an_equal_treatment_that_looks_unfair_by_chance_is_hardly_ever_condemned():
    seen = [figures(ruled(), *rows(count=400, seed=seed)) for seed in range(40)]
    shown = [each for found in seen for each in found.values() if each.shown and not each.within]
    chance = [each for found in seen for each in found.values() if not each.within]
    assert len(shown) <= 3 < 20 < len(chance)


def test_groups_that_are_too_small_are_told_and_decide_nothing():
    label, score, _ = rows(count=500)
    found, seen = verdicts(ruled(), label, score, pa.table({"origin": ["a"] * 450 + ["b"] * 50}))
    assert found.outcome == "inconclusive"
    assert "1 of 2 groups have 100 rows" in seen["impact ratio of origin"].sentence
    assert found.rows_needed == 500
    alone, _ = verdicts(ruled(), label, score, pa.table({"origin": ["a"] * 500}))
    assert alone.reasons[-1] == "nothing is decided: more rows would not tell; change the limit under gates"


def test_without_protected_columns_nothing_is_said():
    assert not [name for name in verdicts(ruled(columns=[]), *rows())[1] if " of " in name]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            {"gates": {"fairness": {"columns": ["religion"]}}},
            "'religion' must be a category or boolean feature, or one",
        ),
        ({"gates": {"fairness": {"columns": ["x"]}}}, "'x' is of type number: groups need a category or a boolean"),
        ({"gates": {"fairness": {"columns": ["sex", "sex"]}}}, "'sex' is given twice"),
        (
            {"gates": {"fairness": {"columns": ["origin"]}}, "data": {"source": {"format": "log"}}},
            "'origin' is no feature, and the prediction log holds features alone: it lacks the column",
        ),
        (
            {"gates": {"fairness": {"columns": ["sex"]}}, "model": MODEL | {"task": "regression"}},
            "belongs to task binary",
        ),
    ],
)
def test_a_protected_column_that_cannot_be_judged_is_refused(rules, said):
    table = {"source": {"format": "csv", "location": "t.csv"}, "time_column": "t"}
    with pytest.raises(PolicyError, match=said):
        policies.parse({"model": MODEL, "data": table} | rules)


def test_of_many_groups_that_are_treated_alike_chance_condemns_nobody():
    random = np.random.default_rng(1)
    label, score = np.resize([0.0, 1.0], 10_000), np.where(random.random(10_000) < 0.2, 0.9, 0.1)
    table = pa.table({"origin": random.integers(0, 100, 10_000).astype(str)})
    found = figures(ruled(min_rows=50), label, score, table)
    assert not found["impact ratio"].within, "the farthest two of a hundred look unlike"
    assert not any(each.shown for each in found.values())
