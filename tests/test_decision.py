"""What is decided on a score, and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge import decision
from kedge.choice import choose
from kedge.policy import Model

FEATURES = {"x": {"type": "number"}}
UNEVEN = ((0.0, 1.0, 5.0), (2.0, 0.0, 1.0), (9.0, 1.0, 0.0))


def model(**given: Any) -> Model:
    return Model.model_validate({"name": "m", "target": "y", "features": FEATURES, **given})


def classes(matrix: Any = None) -> Model:
    return model(task="multiclass", classes=("a", "b", "c"), costs={"matrix": matrix} if matrix else {})


def test_a_decision_at_the_threshold_is_positive() -> None:
    quarter = model(costs={"false_positive": 1, "false_negative": 3})
    label, score = np.array([1.0, 0.0, 1.0]), np.array([0.25, 0.25, 0.2])
    assert decision.wrong(quarter, label, score).tolist() == [False, True, True]


def test_costs_add_up_to_those_of_the_confusion_matrix() -> None:
    rng = np.random.default_rng(1)
    score, label = rng.random(500), (rng.random(500) < 0.4).astype(float)
    decided = score >= 0.2
    false_positives, false_negatives = (decided & (label == 0)).sum(), (~decided & (label == 1)).sum()
    costs = decision.costs(model(costs={"false_positive": 1, "false_negative": 4}), label, score)
    assert costs.sum() == false_positives + 4 * false_negatives


def test_without_costs_the_likeliest_class_is_decided_for() -> None:
    score = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    assert decision.decide(classes(), score).tolist() == [1.0, 0.0]
    assert decision.costs(classes(), np.array([1.0, 2.0]), score).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("matrix", [None, UNEVEN])
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=20))
def test_servers_decide_as_evaluation_does(matrix: Any, rows: list[list[float]]) -> None:
    wanted = decision.decide(classes(matrix), np.array(rows)).tolist()
    assert [choose(row, matrix) for row in rows] == wanted


def test_the_matrix_says_which_mistake_is_dear() -> None:
    uneven = classes(UNEVEN)
    assert decision.decide(uneven, np.array([[0.6, 0.3, 0.1]])).tolist() == [1.0]  # 1.3 against 1.5 and 3.3
    assert (decision.dearest_mistake(uneven), decision.mean_mistake(uneven)) == (9.0, 19 / 6)
