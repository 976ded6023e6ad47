"""The measures that training, evaluation and monitoring share."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kedge.measure import calibration, logit, losses


def scores(seed: int, rows: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(size=rows) * 2
    label = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(float)
    return label, 1 / (1 + np.exp(-(1.7 * odds + 0.4)))


@pytest.mark.parametrize("seed", range(3))
def test_calibration_is_the_logistic_regression_on_the_log_odds(seed: int) -> None:
    label, score = scores(seed)
    fitted = LogisticRegression(C=1e9, tol=1e-8).fit(logit(score).reshape(-1, 1), label)
    assert calibration(label, score) == pytest.approx((fitted.intercept_[0], fitted.coef_[0, 0]), rel=2e-3, abs=2e-3)


def test_a_calibrated_model_stays_as_it_is_and_a_loss_never_grows() -> None:
    label, score = scores(0)
    intercept, slope = calibration(label, score)
    better = 1 / (1 + np.exp(-(intercept + slope * logit(score))))
    assert losses("binary", label, better).mean() < losses("binary", label, score).mean()
    assert calibration(label, better) == pytest.approx((0, 1), abs=0.01)


@pytest.mark.parametrize(
    "score",
    [
        np.array([0.0, 1.0] * 50),  # sure and right
        np.array([1.0, 0.0] * 50),  # sure and wrong
        np.full(100, 0.3),  # one score
        np.array([0.0, 1.0, 1.0, 0.0] * 25),  # sure, half wrong
    ],
)
def test_calibration_of_scores_without_a_maximum_is_finite(score: np.ndarray) -> None:
    assert np.isfinite(calibration(np.array([0.0, 1.0] * 50), score)).all()
