"""How well one column alone tells the outcome: a feature that does so nearly always was written after it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.tables.columns import convert

BINS = 64
MAX_CODES = 1000
MIN_OF_CLASS = 20
"""Rows of either class; with fewer a column may tell them apart by chance."""

Floats = NDArray[np.float64]


def telling(column: pa.Array, outcome: Floats, *, numeric: bool, classes: bool) -> float | None:
    """How well a column alone tells the outcome of rows it did not learn from, 0 to 1.

    The mean outcome of each value (of numbers, of each of 64 quantiles; missing is one) is learned on half of the rows,
    drawn, and told of the others, and the other way round: ROC area for classes, share of variance for numbers.

    Args:
        column: The feature as the source holds it.
        outcome: Of each row; 0 and 1 for classes. NaN: not labelled.
        numeric: Whether the feature is a number.
        classes: Whether the outcome is a class.

    Returns:
        None: too few rows, or too many different values.
    """
    codes = _codes(column, numeric=numeric)
    known = np.isfinite(outcome)
    if codes is None or (classes and min((outcome == 1).sum(), (outcome == 0).sum()) < MIN_OF_CLASS):
        return None
    codes, outcome = codes[known], outcome[known]
    if len(outcome) < 2 * MIN_OF_CLASS or outcome.min() == outcome.max():
        return None
    scores = np.empty(len(outcome))
    drawn = np.random.default_rng(0).permutation(len(outcome))  # every second row of a table may hold the same
    for rows, others in ((drawn[::2], drawn[1::2]), (drawn[1::2], drawn[::2])):
        base = outcome[rows].mean()
        counts = np.bincount(codes[rows], minlength=int(codes.max()) + 1)
        sums = np.bincount(codes[rows], weights=outcome[rows], minlength=len(counts))
        scores[others] = np.where(counts > 0, sums / np.maximum(counts, 1), base)[codes[others]]
    if classes:
        return _roc_area(outcome, scores)
    return float(1 - ((outcome - scores) ** 2).mean() / outcome.var())


def telling_of_classes(column: pa.Array, outcome: Floats, classes: int, *, numeric: bool) -> float | None:
    """How well a column alone tells several classes apart: the least of how well it tells each from all others.

    None: too few rows of a class, or too many different values.
    """
    known = np.isfinite(outcome)
    each = [
        telling(column, np.where(known, outcome == place, np.nan), numeric=numeric, classes=True)
        for place in range(classes)
    ]
    found = [one for one in each if one is not None]
    return min(found) if len(found) == classes else None


def _codes(column: pa.Array, *, numeric: bool) -> NDArray[np.int64] | None:
    if numeric:
        values = convert(column, "number").values.to_numpy(zero_copy_only=False)
        known = values[np.isfinite(values)]
        edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if len(known) else np.empty(0)
        bins = np.searchsorted(edges, values) + np.searchsorted(edges, values, side="right")  # an edge is one itself
        return np.where(np.isfinite(values), bins, 2 * len(edges) + 1)
    encoded = convert(column, "category").values.dictionary_encode()
    if len(encoded.dictionary) > MAX_CODES:
        return None
    return np.asarray(encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False), np.int64)


def _roc_area(labels: Floats, scores: Floats) -> float:
    """Chance that a positive row has a higher score than a negative one; ties count half."""
    _, places = np.unique(scores, return_inverse=True)
    positives, negatives = (
        np.bincount(places, weights=labels == label, minlength=places.max() + 1) for label in (1, 0)
    )
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum()))
