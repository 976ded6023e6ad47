"""Several models are served as one that adds up their raw scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost
from scipy.special import expit, logit

from kedge import bundle
from kedge.bundle.committee import Committee
from kedge.errors import BundleError
from tests.bundle import models
from tests.bundle.test_predictor import SIGNATURE, random_rows

WEIGHTS = (0.7, 0.25, 0.05)


def table(matrix, label=None):
    return xgboost.DMatrix(
        matrix, label, feature_names=list(SIGNATURE.names), feature_types=SIGNATURE.feature_types,
        enable_categorical=True,
    )  # fmt: skip


def boosters(task):
    return [models.booster(task, 30, 4), models.booster(task, 12, 6), models.booster(task, 1, 1)]


def margins(booster, rows):
    return booster.predict(table(rows), output_margin=True)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_margin_of_merged_trees_is_the_weighted_sum_of_the_margins(task):
    members, rows = boosters(task), random_rows(20_000)
    wanted = sum(weight * margins(member, rows).astype(float) for member, weight in zip(members, WEIGHTS, strict=True))
    merged = bundle.merge(members, WEIGHTS)
    assert np.isnan(rows).any(axis=0).all()
    assert merged.num_boosted_rounds() == 43
    assert np.abs(margins(merged, rows) - wanted).max() < 1e-5


def test_base_rates_near_certainty_add_up_too():
    """In 32 bits 0.9999 is too coarse for its log-odds."""
    rows = random_rows(20_000)
    label = np.ones(len(rows))
    label[:4] = 0
    one = xgboost.train({"objective": "binary:logistic", "max_depth": 1}, table(rows, label), 2)
    half = bundle.merge([one, one], (0.5, 0.5))
    assert json.loads(one.save_config())["learner"]["learner_model_param"]["base_score"].strip("[]") > "9.99"
    assert np.abs(margins(half, rows) - margins(one, rows)).max() < 1e-5


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_merged_trees_are_served_like_one_model_of_them_and_explain_themselves(tmp_path, task):
    members, rows = boosters(task), random_rows(5000)
    made = models.written(tmp_path / "made", task=task, model=bundle.merge(members, WEIGHTS))
    predictor = made.load_model()
    raw = sum(weight * margins(member, rows).astype(float) for member, weight in zip(members, WEIGHTS, strict=True))
    assert predictor.quick
    assert predictor.score(rows) == pytest.approx(expit(raw) if task == "binary" else raw, abs=1e-5)
    assert [predictor.score_row(row.tobytes()) for row in rows[:50]] == predictor.score(rows[:50]).tolist()
    parts = [member.predict(table(rows), pred_contribs=True) for member in members]
    assert predictor.contributions(rows) == pytest.approx(np.average(parts, axis=0, weights=WEIGHTS), abs=1e-4)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_committee_of_linear_models_is_served_as_its_terms(tmp_path, task):
    first, second = models.linear(task), models.linear(task, 500)
    made = models.written(
        tmp_path / "made", kind="sklearn", task=task, model=bundle.merge([first, second], (0.75, 0.25))
    )
    predictor, rows = bundle.open_bundle(made.folder).load_model(), random_rows(5000)
    first_raw, second_raw = (
        m.decision_function(rows) if task == "binary" else m.predict(rows) for m in (first, second)
    )
    raw = 0.75 * first_raw + 0.25 * second_raw
    assert predictor.quick
    assert predictor.score(rows) == pytest.approx(expit(raw) if task == "binary" else raw, rel=1e-6, abs=1e-6)
    assert predictor.contributions(rows).sum(axis=1) == pytest.approx(raw, rel=1e-5, abs=1e-5)


def test_a_committee_that_is_not_linear_is_served_as_it_is(tmp_path):
    from sklearn.svm import SVC

    label = models.outcomes(models.payments(), "binary")
    full = np.nan_to_num(SIGNATURE.encode(models.payments()))
    members = [SVC(gamma=gamma).fit(full[:300], label[:300]) for gamma in (1e-3, 1e-2)]
    golden = models.payments().slice(0, 500).drop_null()
    made = models.written(tmp_path / "made", kind="sklearn", model=bundle.merge(members, (0.5, 0.5)), golden=golden)
    predictor = bundle.open_bundle(made.folder).load_model()
    wanted = expit(0.5 * members[0].decision_function(full) + 0.5 * members[1].decision_function(full))
    assert not predictor.quick
    assert predictor.score(full.astype(np.float32)) == pytest.approx(wanted, abs=1e-6)


def test_one_member_is_the_model_itself():
    member = models.booster()
    assert bundle.merge([member], [1.0]) is member


def test_boosters_of_several_kinds_are_refused():
    with pytest.raises(BundleError, match="binary:logistic, reg:squarederror cannot be added up"):
        bundle.merge([models.booster("binary"), models.booster("regression")], (0.5, 0.5))


def test_a_committee_asks_its_members_for_probabilities_in_log_odds():
    members = [models.linear("binary"), models.linear("binary", 500)]
    rows = SIGNATURE.encode(models.payments())
    both = Committee(members, (0.5, 0.5)).predict_proba(rows)
    odds = [logit(member.predict_proba(rows)[:, 1]) for member in members]
    assert both[:, 1] == pytest.approx(expit(np.mean(odds, axis=0)))
    assert both.sum(axis=1) == pytest.approx(1)
