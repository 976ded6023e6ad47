"""How much less rows that depend on each other say than as many independent ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np

from kedge.drift.columns import Categories, Column, Numbers
from kedge.drift.profile import Profile
from kedge.drift.significance import COMPONENTS, Floats, orthonormal_scores
from kedge.errors import DataError

MIN_BLOCKS = 8
"""Fewer say too little about how much windows vary on their own."""


def design_effects(blocks: Sequence[Profile]) -> dict[str, float]:
    """How much more sums over dependent rows vary than over independent ones, by column; at least 1.

    Rows of a stream resemble their neighbours, so a window of n rows says less than n independent ones, and tests that
    do not know raise false alarms. Quiet stretches of the reference are cut into blocks as long as a window. Each
    component of the smooth test of a block against the others has mean 1 for independent rows; the mean found, of the
    first component or of all, whichever is larger, is the design effect. Passed to ``compare``, it divides them.

    For categories it is the mean of the chi-square over its degrees of freedom. With 20 blocks the estimate is good to
    about 16 %: to be safe it is raised by one standard error.

    Args:
        blocks: At least 8 profiles on one reference's edges, without drift among them.

    References:
        L. Kish (1965), Survey Sampling, sec. 8.2; blocks: H. Künsch (1989), Ann. Stat. 17, 1217-1241.

    Raises:
        DataError: there are fewer than 8 blocks, or they were counted on different references.
    """
    if len(blocks) < MIN_BLOCKS:
        raise DataError(
            f"{len(blocks)} blocks: at least {MIN_BLOCKS} are needed to see how much windows vary on their own"
        )
    whole = reduce(Profile.merge, blocks)
    return {
        name: _design_effect(column, [block.columns[name] for block in blocks])
        for name, column in whole.columns.items()
    }


def _design_effect(whole: Column, parts: Iterable[Column]) -> float:
    used = _cells(whole) > 0
    total = _cells(whole)[used]
    degrees = len(total) - 1
    if degrees < 1:
        return 1.0
    if isinstance(whole, Numbers):
        degrees = min(COMPONENTS, degrees)
        scores = orthonormal_scores(total, degrees)
    else:
        scores = np.eye(degrees + 1) / np.sqrt(total / total.sum())
    counts = [_cells(part)[used] for part in parts]
    found = [_components(part, total, scores) for part in counts if 0 < part.sum() < total.sum()]
    if not found:
        return 1.0
    components = np.mean(found, axis=0)
    mean = components.sum() / degrees
    if isinstance(whole, Numbers):  # neighbours resemble each other in level more than in spread or tails
        mean = max(mean, components[0])
    return max(1.0, float(mean) * (1 + math.sqrt(2 / (degrees * len(found)))))


def _components(counts: Floats, total: Floats, scores: Floats) -> Floats:
    """Squared components of the smooth test of a part against the rest, each of mean 1 for independent rows."""
    n, rest = counts.sum(), total.sum() - counts.sum()
    sums = (counts - n * total / total.sum()) @ scores
    squared: Floats = sums**2 * (total.sum() - 1) / (n * rest)
    return squared


def _cells(column: Column) -> Floats:
    match column:
        case Numbers():
            return column.counts.astype(np.float64)
        case Categories():
            return np.append(column.counts, column.other + column.new).astype(np.float64)
        case _:
            return np.zeros(1)
