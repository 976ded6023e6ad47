import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from kedge.measure import losses
from kedge.monitoring.estimate import Calibration, expect, recorded
from kedge.monitoring.performance import Reference
from kedge.policy import Model
from kedge.training.estimators import calibration

MODEL = Model.model_validate({"name": "m", "target": "y", "features": {"x": {"type": "number"}}})
RULE = {"min_rows": 20, "level": 0.01, "min_increase": 0.1}


def test_expected_loss_and_wrong_rows_worked_by_hand():
    scores = np.array([0.2, 0.9] * 50)
    found = expect(MODEL, scores, None, None, **RULE)
    entropy = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (0.2, 0.9)]
    assert found.loss.value == pytest.approx(np.mean(entropy))
    assert found.wrong.value == pytest.approx((0.2 + 0.1) / 2)
    assert (found.verdict, found.calibrated, found.risen) == ("no reference", False, None)


def test_a_shift_to_harder_rows_raises_the_estimate_to_what_labels_would_say():
    random = np.random.default_rng(1)
    easy, hard = random.beta(0.3, 0.3, 4000), random.beta(4, 4, 4000)
    realised = {}
    for name, scores in (("easy", easy), ("hard", hard)):
        labels = random.random(4000) < scores
        realised[name] = -np.mean(np.where(labels, np.log(scores), np.log1p(-scores)))
    reference = Reference(loss=realised["easy"], rows=4000)
    same = expect(MODEL, random.beta(0.3, 0.3, 4000), None, reference, **RULE)
    other = expect(MODEL, hard, None, reference, **RULE)
    assert same.risen is False
    assert other.risen is True
    assert other.loss.value == pytest.approx(realised["hard"], rel=0.03)


def test_a_calibration_turns_an_overconfident_models_estimate_into_what_labels_say():
    random = np.random.default_rng(2)
    truth = random.beta(2, 3, 20_000)
    log_odds = np.log(truth / (1 - truth))
    scores = 1 / (1 + np.exp(-2.5 * log_odds))  # far too sure
    labels = random.random(20_000) < truth
    fitted = LogisticRegression(C=np.inf).fit((2.5 * log_odds)[:, None], labels)
    calibration = Calibration(intercept=float(fitted.intercept_[0]), slope=float(fitted.coef_[0, 0]))
    realised = -np.mean(np.where(labels, np.log(scores), np.log1p(-scores)))
    raw = expect(MODEL, scores, None, None, **RULE)
    held = expect(MODEL, scores, calibration, None, **RULE)
    assert abs(held.loss.value / realised - 1) < 0.03
    assert raw.loss.value < 0.7 * realised
    assert held.calibrated is True


def test_the_calibration_is_read_from_the_bundles_metrics():
    assert recorded({"calibration_intercept": 0.1, "calibration_slope": 0.8}) == Calibration(intercept=0.1, slope=0.8)
    assert recorded({"calibration_slope": 0.8}) is None


def test_scores_of_zero_and_one_have_an_estimate():
    found = expect(MODEL, np.array([0.0, 1.0] * 50), None, None, **RULE)
    assert found.loss.value == pytest.approx(0, abs=2e-5)
    assert found.wrong.value == pytest.approx(0, abs=2e-5)


def test_too_few_rows_give_no_verdict_and_a_regression_no_estimate():
    assert expect(MODEL, np.full(19, 0.5), None, Reference(loss=0.1, rows=9), **RULE).verdict == "too few rows"
    regression = MODEL.model_copy(update={"task": "regression"})
    assert expect(regression, np.full(100, 0.5), None, None, **RULE) is None


def drawn(random, rows, centre, spread):
    """Scores of a model that is too sure (slope 0.7), with their outcomes."""
    odds = random.normal(centre, spread, rows)
    return expit(odds), (random.random(rows) < expit(0.3 + 0.7 * odds)).astype(float)


def true_loss(centre, spread):
    scores, _ = drawn(np.random.default_rng(0), 2_000_000, centre, spread)
    chance = Calibration(intercept=0.3, slope=0.7).apply(scores)
    return float(-np.mean(chance * np.log(scores) + (1 - chance) * np.log1p(-scores)))


@pytest.mark.parametrize(("centre", "spread"), [(-2.0, 1.5), (-1.3, 1.9688)])
def test_intervals_cover_and_false_calls_stay_at_the_level_though_the_calibration_is_estimated(centre, spread):
    """Of windows like the reference, and of others with the same loss."""
    covered, called, truth = 0, 0, true_loss(centre, spread)
    assert truth == pytest.approx(true_loss(-2.0, 1.5), abs=0.002)
    for seed in range(200):
        random = np.random.default_rng([seed, 8])
        scores, labels = drawn(random, 500, -2.0, 1.5)
        reference = Reference(loss=float(losses("binary", labels, scores).mean()), rows=500)
        fitted = recorded(calibration(labels, scores))
        window, _ = drawn(random, 2000, centre, spread)
        found = expect(MODEL, window, fitted, reference, min_rows=20, level=0.05, min_increase=0.0)
        covered += found.loss.low <= truth <= found.loss.high
        called += found.p_value <= 0.05
    assert covered >= 182  # of 190 expected; without the calibration's scatter some 30
    assert called <= 20  # of 10 expected


def test_a_calibration_of_an_older_bundle_is_read_without_its_errors():
    old = {"calibration_intercept": 0.1, "calibration_slope": 0.8}
    assert recorded(old).covariance.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    scores = np.array([0.2, 0.9] * 500)
    found = expect(MODEL, scores, recorded(old), Reference(loss=0.3, rows=500), **RULE)
    assert found.verdict == "estimated"
    assert 0 <= found.p_value <= 1
