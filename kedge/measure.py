"""The loss of a row: one definition for training, evaluation and monitoring."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEAREST = float(np.finfo(np.float64).eps)
"""Probabilities nearer than this to 0 or 1 are moved there before their logarithm is taken, as scikit-learn does."""

BLOCK = 65_536
"""Rows that are computed at a time: what is needed on the way is of no more."""
MAX_LOGIT = 15.0
"""Surer than one in three million no score is taken to be where log-odds are scaled: one such row would fix the fit."""
MAX_STEPS = 50
SMALL_STEP = 1e-7


QUANTILE = re.compile(r"quantile\((0?\.\d+)\)")
UNITS = {
    "binary": "mean log loss, nats", "multiclass": "mean log loss, nats", "squared": "mean squared error",
    "absolute": "mean absolute error", "poisson": "mean Poisson deviance",
}  # fmt: skip


def losses(objective: str, label: Floats, score: Floats) -> Floats:
    """Loss of each row, shape (n,).

    Of classes the log loss in nats, minus the logarithm of the probability of the class that came true. Of a number y
    with the score s ``squared``: (y - s)²; ``absolute``: |y - s|; ``poisson``, the deviance of counts y >= 0:
    2 (y ln(y / s) - y + s); ``quantile(a)``: max(a (y - s), (a - 1) (y - s)), the pinball loss.

    Args:
        objective: ``binary``, ``multiclass`` or what a regression minimises; ``regression`` is ``squared``.
        label: Shape (n,): 0 or 1, the place of the class, or the number.
        score: Shape (n,), of several classes the probability of each, shape (n, classes).

    >>> losses("binary", np.array([1.0, 0.0]), np.array([0.5, 0.2])).round(4).tolist()
    [0.6931, 0.2231]
    >>> losses("multiclass", np.array([2.0]), np.array([[0.2, 0.3, 0.5]])).round(4).tolist()
    [0.6931]
    >>> losses("regression", np.array([1.0]), np.array([3.0])).tolist()
    [4.0]
    >>> losses("quantile(0.9)", np.array([1.0, 3.0]), np.array([3.0, 1.0])).round(4).tolist()
    [0.2, 1.8]
    """
    return by_block(lambda *rows: _losses(objective, *rows), label, np.asarray(score, dtype=np.float64))


def by_block(of_rows: Callable[..., Floats], *columns: Floats) -> Floats:
    """A figure of each row, shape (n,), some rows at a time: millions of rows need memory for its values alone.

    >>> by_block(np.add, np.array([1.0, 2.0]), np.array([0.5, 0.5])).tolist()
    [1.5, 2.5]
    """
    found = np.empty(len(columns[0]))
    for begin in range(0, len(found), BLOCK):
        block = slice(begin, begin + BLOCK)
        found[block] = of_rows(*(column[block] for column in columns))
    return found


def _losses(objective: str, label: Floats, score: Floats) -> Floats:
    if objective == "binary":
        held = np.clip(score, NEAREST, 1 - NEAREST)
        return np.asarray(-(label * np.log(held) + (1 - label) * np.log1p(-held)), dtype=np.float64)
    if objective == "multiclass":
        return np.asarray(-np.log(np.clip(_of_label(label, score), NEAREST, 1.0)), dtype=np.float64)
    if objective == "absolute":
        return np.abs(label - score)
    if objective == "poisson":
        held = np.maximum(score, NEAREST)
        ratio = np.where(label > 0, label, 1.0) / held
        return np.maximum(2 * (label * np.log(ratio) - label + held), 0.0)
    level = quantile_of(objective)
    if level is not None:
        return np.maximum(level * (label - score), (level - 1) * (label - score))
    return squared_errors(label, score)


def _of_label(label: Floats, score: Floats) -> Floats:
    """The probability of each row's own class."""
    return score[np.arange(len(label)), label.astype(np.int64)]


def quantile_of(objective: str) -> float | None:
    """Which quantile an objective estimates; None: none.

    >>> quantile_of("quantile(0.9)"), quantile_of("squared")
    (0.9, None)
    """
    found = QUANTILE.fullmatch(objective)
    return float(found[1]) if found else None


def unit(objective: str) -> str:
    """What a mean of :func:`losses` is, in words."""
    level = quantile_of(objective)
    return UNITS.get(objective, UNITS["squared"]) if level is None else f"mean pinball loss at {level:g}"


def best_constant(objective: str, label: Floats, classes: int = 2) -> Floats:
    """The one score that has the least mean loss on rows: the mean, of classes the share of each, the median, or the
    quantile; shape (), of several classes (classes,).

    >>> float(best_constant("absolute", np.array([1.0, 2.0, 9.0]))), float(best_constant("squared", np.array([1.0, 5])))
    (2.0, 3.0)
    >>> best_constant("multiclass", np.array([0.0, 1.0, 1.0, 1.0]), 3).tolist()
    [0.25, 0.75, 0.0]
    """
    if objective == "multiclass":
        return np.bincount(label.astype(np.int64), minlength=classes) / len(label)
    level = 0.5 if objective == "absolute" else quantile_of(objective)
    return np.asarray(label.mean() if level is None else np.quantile(label, level), dtype=np.float64)


def repeated(score: Floats, rows: int) -> Floats:
    """One score for so many rows, shape (rows,) or (rows, classes)."""
    return np.broadcast_to(score, (rows, *np.shape(score)))


def constant_loss(objective: str, label: Floats, classes: int = 2) -> float:
    """Mean loss of the best constant on these rows."""
    constant = repeated(best_constant(objective, label, classes), len(label))
    return float(losses(objective, label, constant).mean())


def bounded_losses(objective: str, label: Floats, score: Floats) -> Floats:
    """The loss that a release compares, shape (n,): of classes the Brier score, between 0 and 1, half the sum of the
    squared errors of all classes' probabilities; of a number :func:`losses`.

    >>> bounded_losses("multiclass", np.array([0.0]), np.array([[0.0, 1.0, 0.0]])).tolist()
    [1.0]
    """
    if objective == "binary":
        return squared_errors(label, score)
    if objective == "multiclass":
        own = _of_label(label, score)
        return np.asarray((np.square(score).sum(axis=1) - own**2 + (1 - own) ** 2) / 2, dtype=np.float64)
    return losses(objective, label, score)


def squared_errors(label: Floats, score: Floats) -> Floats:
    """Squared error of each row, shape (rows,); of a probability it is the Brier score, proper and at most 1.

    >>> squared_errors(np.array([1.0, 0.0]), np.array([0.5, 0.2])).round(4).tolist()
    [0.25, 0.04]
    """
    return np.asarray((label - score) ** 2, dtype=np.float64)


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


def temperature(label: Floats, score: Floats) -> tuple[float, float]:
    """Slope b of chances c_k proportional to ``p_k ** b`` of the greatest likelihood, and its standard error.

    Calibrated probabilities p have 1, over-confident ones less. Newton's method on the one number; a pull towards 1
    that weighs as much as one row keeps it finite. Where it is fitted, the mean of ``-sum_k c_k ln p_k`` over the rows
    is their mean log loss.

    Args:
        label: The place of each row's class, shape (n,).
        score: Probabilities, shape (n, classes).

    References:
        C. Guo, G. Pleiss, Y. Sun, K. Weinberger (2017), On calibration of modern neural networks, ICML.

    >>> score = np.array([[0.9, 0.05, 0.05]] * 10)
    >>> slope, error = temperature(np.array([0.0] * 7 + [1.0, 2.0, 1.0]), score)  # sure of 90 %, right in 70 %
    >>> 0 < slope < 1
    True
    """
    logs = log_chances(score)
    own = _of_label(label, logs)

    def objective(at: float) -> float:
        return float(np.sum(np.logaddexp.reduce(at * logs, axis=1) - at * own)) + (at - 1) ** 2 / 2

    slope, information = 1.0, 1.0
    value = objective(slope)
    for _ in range(MAX_STEPS):
        mean, spread = moments(tempered(score, slope), logs)
        information = float(spread.sum()) + 1
        step = (float(np.sum(mean - own)) + slope - 1) / information
        while (lower := objective(slope - step)) > value and abs(step) > SMALL_STEP:
            step /= 2
        if lower <= value:
            slope, value = slope - step, lower
        if abs(step) <= SMALL_STEP:
            break
    return slope, information**-0.5


def log_chances(score: Floats) -> Floats:
    """Logarithms of probabilities, held above ``-MAX_LOGIT``."""
    return np.asarray(np.log(np.maximum(score, np.exp(-MAX_LOGIT))), dtype=np.float64)


def tempered(score: Floats, slope: float) -> Floats:
    """Chances by :func:`temperature`, shape (n, classes)."""
    logs = slope * log_chances(score)
    return np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))


def moments(chance: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of each row's values, both shape (n, classes), by the chances of its classes; shape (n,)."""
    mean = np.sum(chance * values, axis=1)
    return mean, np.sum(chance * (values - mean[:, np.newaxis]) ** 2, axis=1)


def logit(score: Floats) -> Floats:
    """Log-odds of probabilities, shape (n,), held within ``MAX_LOGIT`` of 0."""
    held = np.clip(np.asarray(score, dtype=np.float64), NEAREST, 1 - NEAREST)
    return np.asarray(np.clip(np.log(held) - np.log1p(-held), -MAX_LOGIT, MAX_LOGIT), dtype=np.float64)


def strided(rows: int, most: int) -> NDArray[np.int64]:
    """Places of at most so many rows at equal distances, the first and the last among them.

    >>> strided(100, 4).tolist(), strided(2, 4).tolist()
    ([0, 33, 66, 99], [0, 1])
    """
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64))


def outcomes(table: Any, target: str) -> Floats:
    """The outcomes of an Arrow table's rows, shape (n,)."""
    return np.asarray(table.column(target).to_numpy(), dtype=np.float64)
