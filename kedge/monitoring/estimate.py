"""Expected loss of rows whose outcome is not known yet, from the scores alone. It warns; it never acts alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from kedge import decision, measure
from kedge.measure import Floats
from kedge.monitoring.performance import block_mean, chance_above, interval, relative_increase
from kedge.policy import Model
from kedge.records import Estimate, Mean, Reference
from kedge.tables.scores import finite


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From a score to the chance that the row is positive: ``1 / (1 + exp(-(intercept + slope * logit(score))))``.

    (0, 1) leaves scores as they are. J. Platt (1999), Probabilistic outputs for support vector machines; on the logit
    of the score, so that a calibrated model has slope 1. Of several classes the slope is the inverse of a temperature,
    and there is no intercept.
    """

    intercept: float = 0.0
    slope: float = 1.0
    intercept_error: float = 0.0
    slope_error: float = 0.0
    correlation: float = 0.0
    """Of the sampling errors of both; errors of 0: they are not known, or nothing was fitted."""
    loss_deviation: float | None = None
    """Standard deviation, over the rows it was fitted to, of what a row's loss is expected to be; None: not known."""

    @property
    def covariance(self) -> Floats:
        """Of the sampling errors of intercept and slope, shape (2, 2)."""
        mixed = self.correlation * self.intercept_error * self.slope_error
        return np.array([[self.intercept_error**2, mixed], [mixed, self.slope_error**2]])

    def apply(self, scores: Floats) -> Floats:
        """Chances, shape (n,), strictly between 0 and 1.

        >>> Calibration().apply(np.array([0.2, 0.5])).round(6).tolist()
        [0.2, 0.5]
        """
        return measure.calibrated(scores, self.intercept, self.slope)


def recorded(metrics: Mapping[str, float]) -> Calibration | None:
    """The calibration a bundle was given when it was made, on rows not trained on; None if it has none.

    Earlier versions gave it without its errors.
    """
    try:
        fitted = Calibration(intercept=metrics["calibration_intercept"], slope=metrics["calibration_slope"])
    except KeyError:
        return None
    if "calibration_slope_error" not in metrics:
        return fitted
    return replace(
        fitted,
        intercept_error=metrics["calibration_intercept_error"],
        slope_error=metrics["calibration_slope_error"],
        correlation=metrics["calibration_correlation"],
        loss_deviation=metrics["calibrated_loss_deviation"],
    )


def expect(
    model: Model,
    scores: Floats,
    calibration: Calibration | None,
    reference: Reference | None,
    *,
    min_rows: int,
    level: float,
    min_increase: float,
) -> Estimate | None:
    """Estimate the window's loss and share of wrong decisions from its scores (confidence-based estimation, CBPE).

    A row of which the chance to be positive is c and the score p costs, on average, h = -(c ln p + (1 - c) ln(1 - p))
    nats, and its decision is wrong with chance 1 - c if it is positive, else c. Both are averaged over the window. Of
    several classes h = -sum over k of c_k ln p_k with chances c_k proportional to p_k to the power b, see
    :func:`kedge.measure.temperature`, and a decision for k is wrong with chance 1 - c_k.

    Their standard error adds what the calibration (a, b) may be off: error² = error_window² + g' C g, with C the
    covariance of (a, b) and g = -mean of c (1 - c) logit p (1, logit p), the gradient of the mean of h. The rise over
    the reference's loss has the error of the window, of the m rows of the reference, and of the calibration as far as
    the window's rows lean on it otherwise than the reference's do:

        variance = error_window² + var(h over the reference) / m + (g - g_ref)' C (g - g_ref)

    The calibration is fitted on the reference's rows, where the estimate therefore is the loss itself (a fit of the
    greatest likelihood has sum (y - c) logit p = 0): taking both as independent would count their scatter twice.
    Without a calibration the second term is var(loss) / m, and the third is none. Rows of the reference are taken to
    depend on their neighbours as the window's do; and to scatter as they do, where a bundle does not say.

    Args:
        model: A regression has no such estimate: None is returned.
        scores: Shape (n,), of several classes (n, classes), in time order; what is not finite is left out.
        calibration: From score to chance; None: scores are taken as chances, and the estimate says so.
        reference: What the loss is compared with.
        min_rows: Fewer rows give no verdict.
        level: One-sided level at which the loss counts as risen.
        min_increase: Effect floor, as a share of the reference loss.

    References:
        NannyML's documentation, "Confidence-based Performance Estimation"; C. Guo, G. Pleiss, Y. Sun, K. Weinberger
        (2017), On calibration of modern neural networks, ICML.
    """
    if not model.class_names:
        return None
    good = finite(scores)
    scores = scores if good.all() else scores[good]
    rows, calibrated = len(scores), calibration is not None
    if rows < min_rows:
        return Estimate(verdict="too few rows", rows=rows, calibrated=calibrated)
    fitted = calibration or Calibration()
    expected = _expected(model, scores, fitted)
    costs, at_loss = expected.loss, expected.loss_gradient
    window = block_mean(costs)
    loss = _with_calibration(window, at_loss, fitted)
    wrong = _with_calibration(block_mean(expected.wrong), expected.wrong_gradient, fitted)
    if reference is None:
        return Estimate(verdict="no reference", rows=rows, calibrated=calibrated, loss=loss, wrong=wrong)
    increase = relative_increase(loss.value, reference.loss)
    scatter, dependence = float(np.var(costs)), 1.0
    if scatter > 0:
        dependence = window.error**2 * rows / scatter
    if not calibrated:
        scatter += expected.variance
    elif fitted.loss_deviation is not None:
        scatter = fitted.loss_deviation**2
    variance = window.error**2 + dependence * scatter / reference.rows
    variance += _lean(reference, fitted, at_loss)
    p_value = chance_above(float(loss.value - reference.loss), math.sqrt(variance), window.blocks)
    return Estimate(
        verdict="estimated",
        rows=rows,
        calibrated=calibrated,
        loss=loss,
        wrong=wrong,
        increase=increase,
        p_value=p_value,
        risen=increase > 0 and increase >= min_increase and p_value <= level,
    )


@dataclass(frozen=True)
class _Expected:
    """Of each row, shape (n,), and how the mean changes with intercept and slope, shape (2,)."""

    loss: Floats
    variance: float
    """Mean over the rows: of the loss, where the outcome is not known."""
    loss_gradient: Floats
    wrong: Floats
    wrong_gradient: Floats


def _expected(model: Model, scores: Floats, fitted: Calibration) -> _Expected:
    """Some rows at a time, so that millions of them need memory for two figures a row."""
    of_rows, rows = (_of_classes if scores.ndim > 1 else _of_two), len(scores)
    loss, wrong, means = np.empty(rows), np.empty(rows), np.zeros(5)
    for begin in range(0, rows, measure.BLOCK):
        block = slice(begin, begin + measure.BLOCK)
        part = of_rows(model, scores[block], fitted)
        loss[block], wrong[block] = part.loss, part.wrong
        share = len(part.loss) / rows
        means += share * np.array([part.variance, *part.loss_gradient, *part.wrong_gradient])
    return _Expected(loss, float(means[0]), means[1:3], wrong, means[3:5])


def _of_two(model: Model, scores: Floats, fitted: Calibration) -> _Expected:
    chance, odds = fitted.apply(scores), measure.logit(scores)
    positive = scores >= model.threshold

    def gradient(change: Floats) -> Floats:
        """Of the mean of a figure that changes so much with the chance."""
        bent = chance * (1 - chance) * change
        return np.array([bent.mean(), (bent * odds).mean()])

    return _Expected(
        loss=measure.losses("binary", chance, scores),
        variance=float(np.mean(chance * (1 - chance) * odds**2)),
        loss_gradient=gradient(-odds),
        wrong=np.where(positive, 1 - chance, chance),
        wrong_gradient=gradient(np.where(positive, -1.0, 1.0)),
    )


def _of_classes(model: Model, scores: Floats, fitted: Calibration) -> _Expected:
    """With chances c_k proportional to p_k ** b, d c_k / d b = c_k (ln p_k - sum over j of c_j ln p_j)."""
    chance, logs = measure.tempered(scores, fitted.slope), measure.log_chances(scores)
    loss, variance = measure.moments(chance, -np.log(np.clip(scores, measure.NEAREST, 1.0)))
    mean, spread = measure.moments(chance, logs)
    rows, decided = np.arange(len(scores)), decision.decide(model, scores).astype(np.int64)
    own = chance[rows, decided]
    return _Expected(
        loss=loss,
        variance=float(np.mean(variance)),
        loss_gradient=np.array([0.0, -float(spread.mean())]),
        wrong=1 - own,
        wrong_gradient=np.array([0.0, float(np.mean(-own * (logs[rows, decided] - mean)))]),
    )


def _with_calibration(window: Mean, gradient: Floats, fitted: Calibration) -> Mean:
    return interval(window.value, math.sqrt(window.error**2 + gradient @ fitted.covariance @ gradient), window.blocks)


def _lean(reference: Reference, fitted: Calibration, gradient: Floats) -> float:
    """(g - g_ref)' C (g - g_ref), where g_ref = -C⁻¹ (0, 1)' / m on the m rows that it was fitted to."""
    if not fitted.slope_error:
        return 0.0
    rows, information = reference.rows, 1 / (fitted.slope_error**2 * (1 - fitted.correlation**2))
    square = gradient @ fitted.covariance @ gradient + 2 * gradient[1] / rows + information / rows**2
    return max(float(square), 0.0)
