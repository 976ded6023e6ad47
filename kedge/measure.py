"""The loss of a row: one definition for training, evaluation and monitoring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEAREST = float(np.finfo(np.float64).eps)
"""Probabilities nearer than this to 0 or 1 are moved there before their logarithm is taken, as scikit-learn does."""

MAX_LOGIT = 15.0
"""Surer than one in three million no score is taken to be where log-odds are scaled: one such row would fix the fit."""
MAX_STEPS = 50
SMALL_STEP = 1e-7


def losses(task: str, label: Floats, score: Floats) -> Floats:
    """Loss of each row, shape (rows,): log loss in nats, ``-(y ln p + (1 - y) ln(1 - p))``, or the squared error.

    >>> losses("binary", np.array([1.0, 0.0]), np.array([0.5, 0.2])).round(4).tolist()
    [0.6931, 0.2231]
    >>> losses("regression", np.array([1.0]), np.array([3.0])).tolist()
    [4.0]
    """
    if task == "regression":
        return squared_errors(label, score)
    held = np.clip(np.asarray(score, dtype=np.float64), NEAREST, 1 - NEAREST)
    return np.asarray(-(label * np.log(held) + (1 - label) * np.log1p(-held)), dtype=np.float64)


def squared_errors(label: Floats, score: Floats) -> Floats:
    """Squared error of each row, shape (rows,); of a probability it is the Brier score, proper and at most 1.

    >>> squared_errors(np.array([1.0, 0.0]), np.array([0.5, 0.2])).round(4).tolist()
    [0.25, 0.04]
    """
    return np.asarray((label - score) ** 2, dtype=np.float64)


def wrong(label: Floats, score: Floats, threshold: float) -> NDArray[np.bool_]:
    """Rows of a binary model whose decision, ``score >= threshold``, differs from the label."""
    return np.asarray((score >= threshold) != (label > 0.5))


def decision_costs(
    label: Floats, score: Floats, threshold: float, false_positive: float, false_negative: float
) -> Floats:
    """What the decision on each row of a binary model cost, shape (rows,): nothing where it was right.

    >>> decision_costs(np.array([1.0, 0.0, 0.0]), np.array([0.4, 0.6, 0.4]), 0.5, 1.0, 20.0).tolist()
    [20.0, 1.0, 0.0]
    """
    return np.where(wrong(label, score, threshold), np.where(label > 0.5, false_negative, false_positive), 0.0)


def calibration(label: Floats, score: Floats) -> tuple[float, float]:
    """Intercept a and slope b of ``P(positive) = 1 / (1 + exp(-(a + b logit(score))))``, of the greatest likelihood.

    A calibrated model has (0, 1), an over-confident one a slope below 1. Newton's method, each step halved until the
    likelihood grows. A pull of the slope towards 1 that weighs as much as one row keeps it finite where the scores part
    the classes without an error, or are all the same.

    Args:
        label: 0 or 1, shape (n,), both among them.
        score: Probabilities, shape (n,).

    References:
        J. Platt (1999), Probabilistic outputs for support vector machines; on the logit, so that (0, 1) is no change.

    >>> score = np.array([0.1, 0.9] * 10)
    >>> label = np.array([0.0, 1.0] * 7 + [1.0, 0.0] * 3)
    >>> [round(abs(value), 2) for value in calibration(label, score)]  # right in 70 %, sure of 90 %
    [0.0, 0.41]
    """
    odds = logit(score)

    def objective(at: Floats) -> float:
        raw = at[0] + at[1] * odds
        return float(np.sum(np.logaddexp(0.0, raw) - label * raw) + (at[1] - 1) ** 2 / 2)

    found = np.array([0.0, 1.0])
    value = objective(found)
    for _ in range(MAX_STEPS):
        chance = 1 / (1 + np.exp(-(found[0] + found[1] * odds)))
        off, weight = chance - label, np.maximum(chance * (1 - chance), 1e-12)
        bend = np.sum(weight * odds)  # sums, not products: for these BLAS starts threads that cost more than they save
        curvature = np.array([[weight.sum(), bend], [bend, np.sum(weight * odds**2) + 1]])
        step = np.linalg.solve(curvature, np.array([off.sum(), np.sum(off * odds) + found[1] - 1]))
        while (lower := objective(found - step)) > value and np.abs(step).max() > SMALL_STEP:
            step = step / 2
        if lower <= value:
            found, value = found - step, lower
        if np.abs(step).max() <= SMALL_STEP:
            break
    return float(found[0]), float(found[1])


def calibrated(score: Floats, intercept: float, slope: float) -> Floats:
    """Chances by a calibration, shape (n,), strictly between 0 and 1."""
    return np.asarray(1 / (1 + np.exp(-(intercept + slope * logit(score)))), dtype=np.float64)


def calibration_covariance(score: Floats, intercept: float, slope: float) -> Floats:
    """Covariance of the sampling errors of :func:`calibration`'s intercept and slope, shape (2, 2).

    The inverse of the information: of sum c (1 - c) x x' over the rows, x = (1, logit(score)), c the calibrated chance,
    with the row that pulls at the slope.

    >>> calibration_covariance(np.array([0.1, 0.9] * 50), 0.0, 1.0).diagonal().round(3).tolist()
    [0.111, 0.022]
    """
    odds, chance = logit(score), calibrated(score, intercept, slope)
    weight = np.maximum(chance * (1 - chance), 1e-12)
    bend = np.sum(weight * odds)
    information = np.array([[weight.sum(), bend], [bend, np.sum(weight * odds**2) + 1]])
    return np.asarray(np.linalg.inv(information), dtype=np.float64)


def logit(score: Floats) -> Floats:
    """Log-odds of probabilities, shape (n,), held within ``MAX_LOGIT`` of 0."""
    held = np.clip(np.asarray(score, dtype=np.float64), NEAREST, 1 - NEAREST)
    return np.asarray(np.clip(np.log(held) - np.log1p(-held), -MAX_LOGIT, MAX_LOGIT), dtype=np.float64)
