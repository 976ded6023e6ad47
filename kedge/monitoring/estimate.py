"""Expected loss of rows whose outcome is not known yet, from the scores alone. It warns; it never acts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kedge import measure
from kedge.monitoring.performance import block_mean, chance_of_rise, relative_increase
from kedge.policy import Model
from kedge.policy.monitor import Performance as Limits
from kedge.records import Estimate, Reference

Floats = NDArray[np.float64]
NEAREST = 1e-12
"""Scores are held this far from 0 and 1 before their log-odds are taken."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From a score to the chance that the row is positive: ``1 / (1 + exp(-(intercept + slope * logit(score))))``.

    (0, 1) leaves scores as they are. J. Platt (1999), Probabilistic outputs for support vector machines; on the logit
    of the score, so that a calibrated model has slope 1.
    """

    intercept: float = 0.0
    slope: float = 1.0

    def apply(self, scores: Floats) -> Floats:
        """Chances, shape (n,), strictly between 0 and 1.

        >>> Calibration().apply(np.array([0.2, 0.5])).round(6).tolist()
        [0.2, 0.5]
        """
        return np.asarray(1 / (1 + np.exp(-(self.intercept + self.slope * _logit(scores)))), dtype=np.float64)


def recorded(metrics: Mapping[str, float]) -> Calibration | None:
    """The calibration a bundle was given when it was made, on rows not trained on; None if it has none."""
    try:
        return Calibration(intercept=metrics["calibration_intercept"], slope=metrics["calibration_slope"])
    except KeyError:
        return None


def expect(
    model: Model,
    scores: Floats,
    calibration: Calibration | None,
    reference: Reference | None,
    limits: Limits,
    min_rows: int,
) -> Estimate | None:
    """Estimate the window's loss and share of wrong decisions from its scores (confidence-based estimation, CBPE).

    A row of which the chance to be positive is c and the score p costs, on average, -(c ln p + (1 - c) ln(1 - p)) nats,
    and its decision is wrong with chance 1 - c if it is positive, else c. Both are averaged over the window. The loss
    counts as risen by the same two rules as a measured one: floor and chance.

    Args:
        model: A regression has no such estimate: None is returned.
        scores: Shape (n,), in time order; what is not finite is left out.
        calibration: From score to chance; None: scores are taken as chances, and the estimate says so.
        reference: What the loss is compared with.
        limits: From the policy.
        min_rows: Fewer rows give no verdict.

    References:
        NannyML's documentation, "Confidence-based Performance Estimation"; C. Guo, G. Pleiss, Y. Sun, K. Weinberger
        (2017), On calibration of modern neural networks, ICML.
    """
    if model.task != "binary":
        return None
    scores = scores[np.isfinite(scores)]
    rows, calibrated = len(scores), calibration is not None
    if rows < min_rows:
        return Estimate(verdict="too few rows", rows=rows, calibrated=calibrated)
    chance = (calibration or Calibration()).apply(scores)
    positive, negative = np.ones(rows), np.zeros(rows)
    cost = chance * measure.losses("binary", positive, scores)
    cost += (1 - chance) * measure.losses("binary", negative, scores)
    loss = block_mean(cost)
    wrong = block_mean(np.where(scores >= model.threshold, 1 - chance, chance))
    if reference is None:
        return Estimate(verdict="no reference", rows=rows, calibrated=calibrated, loss=loss, wrong=wrong)
    increase = relative_increase(loss.value, reference.loss)
    risen = increase >= limits.min_increase and chance_of_rise(loss, rows, reference) <= limits.alpha
    return Estimate(
        verdict="estimated",
        rows=rows,
        calibrated=calibrated,
        loss=loss,
        wrong=wrong,
        increase=increase,
        risen=increase > 0 and risen,
    )


def _logit(scores: Floats) -> Floats:
    held = np.clip(scores, NEAREST, 1 - NEAREST)
    return np.asarray(np.log(held) - np.log1p(-held), dtype=np.float64)
