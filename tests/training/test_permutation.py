"""What each feature adds: right beside scikit-learn's, with honest intervals, at a bounded cost, for every task."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import permutation_importance

from kedge import policy as policies
from kedge.training import fit_challenger
from kedge.training.permutation import MAX_ROWS, REPEATS, permutation
from tests.training import rows

SQUARED = rows.policy(task="regression")
NAMES = ["used", "idle"]


class Slopes(RegressorMixin, BaseEstimator):
    """A linear model as it is: also of a column that says nothing, as an overfitted one is."""

    def fit(self, matrix, label):
        self.fitted_ = True
        return self

    def predict(self, matrix):
        return matrix[:, 0] + 0.5 * matrix[:, 1]


def drawn(seed, count=300):
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, 2)).astype(np.float32)
    return matrix, matrix[:, 0] + random.normal(size=count)


def test_it_is_scikit_learns_by_the_same_loss():
    matrix, label = drawn(0, 2000)
    ours = permutation(SQUARED, Slopes().predict, matrix, NAMES, label)
    theirs = permutation_importance(
        Slopes().fit(matrix, label), matrix, label, scoring="neg_mean_squared_error", n_repeats=REPEATS, random_state=1
    )
    seen = [ours.features[name].value for name in NAMES]
    assert seen == pytest.approx(theirs.importances_mean.tolist(), abs=0.1)
    assert seen[0] > 1.8


def test_intervals_hold_the_truth_and_what_adds_nothing_is_named():
    found = [permutation(SQUARED, Slopes().predict, matrix, NAMES, label) for matrix, label in map(drawn, range(80))]
    held = np.mean([each.features["used"].low <= 2 <= each.features["used"].high for each in found])
    named = np.mean(["idle" in each.idle for each in found])
    assert held >= 0.85  # 95 % intervals from 17 blocks
    assert named >= 0.88  # 95 %
    assert not any("used" in each.idle for each in found)


def test_by_the_primary_metric_and_by_the_loss_where_it_is_not_defined():
    asked = policies.parse({**rows.policy().to_dict(), "metrics": [{"name": "auc", "primary": True}]})
    matrix, label = drawn(0)
    chance = lambda each: 1 / (1 + np.exp(-each[:, 0]))  # noqa: E731
    by_auc = permutation(asked, chance, matrix, NAMES, (label > 0).astype(float))
    assert by_auc.metric == "auc"
    assert 0.2 < by_auc.features["used"].value < 0.5
    assert by_auc.idle == ["idle"]
    assert by_auc.features["idle"].value == by_auc.features["idle"].high == 0
    assert permutation(asked, chance, matrix, NAMES, np.ones(300)).metric == "loss"


@pytest.mark.parametrize(("columns", "most"), [(2, MAX_ROWS), (400, 500)])
def test_the_rows_scored_are_bounded(columns, most):
    scored = []

    def predict(matrix):
        scored.append(len(matrix))
        return matrix[:, 0].astype(float)

    matrix = np.zeros((20_000, columns), np.float32)
    found = permutation(SQUARED, predict, matrix, [str(place) for place in range(columns)], np.zeros(20_000))
    assert found.rows == max(scored) == most
    assert len(scored) == 1 + REPEATS * columns


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "poisson"])
def test_every_task_finds_what_its_rows_were_made_of(task):
    table = rows.table(task=task)
    asked = rows.policy(task=task, train={"estimators": ["histogram"]})
    found = fit_challenger(asked, table.append_column("_time", table.column("at")))
    adds = found.permutation.features
    assert {"x0", "x1"} <= {name for name, effect in adds.items() if effect.shown}
    assert "x2" in found.permutation.idle
    assert adds["x0"].low < adds["x0"].value < adds["x0"].high
    assert found.importance["x0"] == pytest.approx(found.permutation.shares["x0"])  # it has no measure of its own
