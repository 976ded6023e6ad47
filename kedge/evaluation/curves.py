"""How well scores rank and how honest they are: ROC, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kedge.measure import Floats

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
    positives = float(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # the last row of each distinct score
    caught = np.cumsum(label[order])[ends]
    alarms = ends + 1 - caught
    true_rate = np.concatenate([[0.0], caught / positives])
    false_rate = np.concatenate([[0.0], alarms / negatives])
    threshold = np.concatenate([[score.max() + 1.0], score[order][ends]])
    area = float(np.sum(np.diff(false_rate) * (true_rate[1:] + true_rate[:-1]) / 2))
    kept = np.unique(np.linspace(0, len(ends), min(most, len(ends) + 1)).round().astype(np.int64))
    return Roc(
        false_positive_rate=false_rate[kept],
        true_positive_rate=true_rate[kept],
        threshold=threshold[kept],
        area=area,
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
