"""The loss of a row: one definition for training, evaluation and monitoring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEAREST = float(np.finfo(np.float64).eps)
"""Probabilities nearer than this to 0 or 1 are moved there before their logarithm is taken, as scikit-learn does."""


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


def holdout_start(rows: int, share: float) -> int:
    """Index of the first holdout row of ``rows`` rows in time order: the newest ``share``, at least one row.

    >>> holdout_start(1000, 0.2)
    800
    """
    return rows - max(1, round(rows * share))
