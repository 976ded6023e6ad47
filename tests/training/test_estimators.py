from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kedge import policy as policies
from kedge.bundle import Input, Signature, observed_categories
from kedge.bundle.estimators import ESTIMATORS
from kedge.training import estimators
from kedge.training.estimators import Rows, attempt
from tests.training import rows

ASKED = rows.policy()


def encoded(task: str = "binary", count: int = 800) -> tuple[Signature, Rows]:
    table = rows.table(count, task=task)
    asked = rows.policy(task=task)
    signature = Signature.of(asked.model, observed_categories(asked.model, table))
    label = np.asarray(table.column("y").to_numpy(), dtype=float)
    return signature, Rows(signature.encode(table), label, np.arange(count))


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("name", [*ESTIMATORS])
def test_selection_loss_is_the_mean_loss_of_the_newer_rows(name: str, task: str) -> None:
    signature, all_rows = encoded(task)
    asked = rows.policy(task=task)
    tried = attempt(name, asked, signature, all_rows)
    scores = estimators.score(asked, tried.fit(all_rows[:640]), signature, all_rows.matrix[640:])
    label = all_rows.label[640:]
    by_hand = (
        -(label * np.log(scores) + (1 - label) * np.log(1 - scores)) if task == "binary" else (label - scores) ** 2
    )
    assert tried.loss == pytest.approx(by_hand.mean(), rel=1e-5)


def test_trees_stop_early_on_noise() -> None:
    signature, all_rows = encoded()
    noise = replace(all_rows, label=np.random.default_rng(3).permutation(all_rows.label))
    asked = rows.policy(train={"xgboost": {"trees": 300, "depth": 6, "learning_rate": 0.3, "early_stopping_rounds": 5}})
    model = attempt("xgboost", asked, signature, noise).fit(noise)
    assert model.num_boosted_rounds() < 50


@pytest.mark.parametrize("name", sorted(ESTIMATORS.keys() - {"histogram"}))
def test_importance_sums_to_one_and_finds_what_matters(name: str) -> None:
    signature, all_rows = encoded("regression")
    asked = rows.policy(task="regression")
    model = attempt(name, asked, signature, all_rows).fit(all_rows)
    shares = estimators.importance(name, model, signature)
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares) == list(signature.names)
    assert shares["x0"] == max(shares[name] for name in ("x0", "x2", "x3"))
    assert shares["x2"] < 0.1


@pytest.mark.parametrize("estimator", [*ESTIMATORS])
def test_any_name_that_a_derived_column_may_have_can_be_learned_from(estimator: str) -> None:
    names = ["country_Korea, Republic of", 'price: "net"', "{x}", "größe"]
    signature = Signature(tuple(Input(name=name, type="number") for name in names))
    matrix = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    table = Rows(matrix, (matrix[:, 0] > 0).astype(float), np.arange(300))
    candidate = attempt(estimator, rows.policy(), signature, table)
    assert np.isfinite(candidate.loss)
    assert set(estimators.importance(estimator, candidate.model, signature)) == set(names)


def test_a_feature_without_any_value_is_no_obstacle() -> None:
    signature, all_rows = encoded()
    all_rows.matrix[:, 2] = np.nan
    for name in ESTIMATORS:
        model = attempt(name, ASKED, signature, all_rows).fit(all_rows)
        assert np.isfinite(estimators.score(ASKED, model, signature, all_rows.matrix)).all()


def test_calibration_finds_the_line_scores_were_bent_by() -> None:
    rng = np.random.default_rng(0)
    true_logit = rng.normal(size=20_000)
    label = (rng.random(20_000) < 1 / (1 + np.exp(-true_logit))).astype(float)
    bent = 1 / (1 + np.exp(-(true_logit - 0.5) / 0.5))  # so that true = 0.5 + 0.5 * logit(bent)
    found = estimators.calibration(label, bent)
    assert found["calibration_intercept"] == pytest.approx(0.5, abs=0.05)
    assert found["calibration_slope"] == pytest.approx(0.5, abs=0.05)


def test_calibration_of_one_class_is_left_out() -> None:
    assert estimators.calibration(np.ones(5), np.full(5, 0.9)) == {}


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_many_categories_stay_sparse_in_the_linear_baseline(task: str) -> None:
    made = {"name": "m", "task": task, "target": "y", "features": {"a": {"type": "category"}, "x": {"type": "number"}}}
    asked = policies.parse({"model": made, "data": {"source": {"format": "log"}}})
    names = tuple(f"c{code}" for code in range(200))
    signature, random = Signature.of(asked.model, {"a": names}), np.random.default_rng(0)
    matrix = np.column_stack([random.integers(0, 200, 4000), random.standard_normal(4000)]).astype(np.float32)
    label = (matrix[:, 0] > 100).astype(float)
    fitted = attempt("linear", asked, signature, Rows(matrix, label, np.arange(4000))).fit(
        Rows(matrix, label, np.arange(4000))
    )
    spread = fitted.named_steps["columns"].transform(matrix)
    assert spread.shape == (4000, 201)
    assert spread.nnz == 2 * 4000  # of 800,000: a code and a number a row
