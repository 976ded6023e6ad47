"""How well scores rank and how honest they are: ROC, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kedge.measure import Floats, strided
from kedge.metrics import area

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Roc:
    """Points of the receiver operating characteristic from (0, 0) to (1, 1), and the area below it."""

    false_positive_rate: Floats
    true_positive_rate: Floats
    threshold: Floats
    """Scores from this one on count as positive; the first lies above every score."""
    area: float


def roc(label: Floats, score: Floats, *, most: int = 200) -> Roc | None:
    """The ROC curve; the area is the chance that a positive row scores above a negative one, ties counting half.

    Args:
        label: 0 or 1, shape (n,).
        score: Shape (n,).
        most: Points kept for drawing, about; the area is that of all.

    Returns:
        None where only one class is present.

    >>> round(roc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8])).area, 4)
    0.75
    """
    below = area(label > 0.5, score)
    if below is None:
        return None
    from sklearn.metrics import roc_curve

    rates = roc_curve(label, score, drop_intermediate=False)
    rates[2][0] = score.max() + 1.0  # sklearn's is infinite, which JSON does not know
    kept = strided(len(rates[0]), most)
    return Roc(
        false_positive_rate=rates[0][kept], true_positive_rate=rates[1][kept], threshold=rates[2][kept], area=below
    )


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Rows with scores next to each other."""

    rows: int
    mean_score: float
    positive_share: float


def calibration(label: Floats, score: Floats) -> list[CalibrationBin]:
    """Ten bins of equally many rows by score: a calibrated model's mean score is the share of positives in each.

    >>> [bin.positive_share for bin in calibration(np.array([0.0, 1.0]), np.array([0.2, 0.9]))]
    [0.0, 1.0]
    """
    order = np.argsort(score, kind="stable")
    return [
        CalibrationBin(rows=len(part), mean_score=float(score[part].mean()), positive_share=float(label[part].mean()))
        for part in np.array_split(order, min(BINS, len(order)))
    ]
