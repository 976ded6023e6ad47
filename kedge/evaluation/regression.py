"""How far a regression is off: RMSE, MAE, R², and where over the predicted values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kedge.evaluation.curves import BINS
from kedge.measure import Floats, squared_errors

OUTER = 0.1
"""Share of a bin's residuals below its ``low``, and above its ``high``."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How well predicted values agree with the actual ones."""

    rmse: float
    """Root of the mean squared error, in the target's unit: large errors count more."""
    mae: float
    """Mean absolute error, in the target's unit."""
    r_squared: float | None
    """1: every row is exact; 0: no better than the mean of these rows; below 0: worse. None where all labels are equal,
    so that there is nothing to explain."""


def fit(label: Floats, score: Floats) -> Fit:
    """RMSE, MAE and R² of predicted values.

    With n rows, labels y of mean m and predicted values s, RMSE = sqrt(sum((y - s)²) / n), MAE = sum(|y - s|) / n and
    R² = 1 - sum((y - s)²) / sum((y - m)²). m is the mean of these rows, which no model knew: the mean of the training
    rows said for every row has an R² of at most 0.

    Args:
        label: What came true, shape (n,), n at least 1.
        score: What was predicted, shape (n,).

    >>> fit(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0]))
    Fit(rmse=1.7320508075688772, mae=1.0, r_squared=-3.5)
    """
    squared = squared_errors(label, score)
    constant = label.min() == label.max()
    return Fit(
        rmse=float(np.sqrt(squared.mean())),
        mae=float(np.abs(label - score).mean()),
        r_squared=None if constant else float(1 - squared.sum() / np.square(label - label.mean()).sum()),
    )


@dataclass(frozen=True, kw_only=True)
class ResidualBin:
    """Rows with predicted values next to each other; a residual is actual - predicted, above 0 if said too low."""

    rows: int
    mean_score: float
    mean: float
    low: float
    """A tenth of the residuals lies below."""
    high: float
    """A tenth of the residuals lies above."""


def residuals(label: Floats, score: Floats) -> list[ResidualBin]:
    """Ten bins of equally many rows by predicted value: a good model's mean residual is near 0 in each.

    A slope or a bend is something the features say and the model does not; a spread that grows means that large values
    are predicted less well.

    >>> [bin.mean for bin in residuals(np.array([1.0, 5.0]), np.array([1.5, 3.0]))]
    [-0.5, 2.0]
    """
    order = np.argsort(score, kind="stable")
    return [_bin(label[part], score[part]) for part in np.array_split(order, min(BINS, len(order)))]


def _bin(label: Floats, score: Floats) -> ResidualBin:
    residual = label - score
    low, high = np.quantile(residual, [OUTER, 1 - OUTER]).tolist()
    return ResidualBin(rows=len(score), mean_score=float(score.mean()), mean=float(residual.mean()), low=low, high=high)
