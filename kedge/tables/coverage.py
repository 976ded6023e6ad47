"""Whether the outcomes that are known stand for all predictions that are due."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kedge.policy import Policy
from kedge.records.cohort import Coverage

Floats = NDArray[np.float64]

MAX_BUCKETS, MIN_BUCKET_ROWS = 10, 20
"""Coverage is told for tenths of the rows by score; for fewer parts where a tenth has fewer rows."""
EVEN = 0.5
"""Least coverage of a part by score, over that of the part covered best."""
MIN_EXPECTED = 20.0
"""Outcomes of a class, by the scores, of which not one is known by chance once in e^20 times."""
CHANCE = 3.09
"""Normal quantile of 0.999: coverage is uneven if parts differ by more than one time in a thousand by chance."""


def of(covered: NDArray[np.bool_], more: Coverage | None = None) -> Coverage:
    """Of rows, shape (n,), and of those counted before."""
    predicted, labelled = (more.predicted, more.labelled) if more is not None else (0, 0)
    return Coverage(predicted=predicted + len(covered), labelled=labelled + int(covered.sum()))


def by_score(scores: Floats, covered: NDArray[np.bool_]) -> dict[str, Coverage]:
    """Of parts of the rows, equal in size, from the lowest scores to the highest; of several classes by the highest
    probability.

    Args:
        scores: Shape (n,) or (n, classes), finite.
        covered: Shape (n,): which rows have an outcome.
    """
    parts: dict[str, Coverage] = {}
    scores = scores if scores.ndim == 1 else scores.max(axis=1)
    order = np.argsort(scores, kind="stable")
    for part in np.array_split(order, max(1, min(MAX_BUCKETS, len(order) // MIN_BUCKET_ROWS))):
        if len(part):
            name = f"{scores[part[0]]:.3g} to {scores[part[-1]]:.3g}"  # several parts have one where scores repeat
            parts[name] = of(covered[part], parts.get(name))
    return parts


def incomplete(
    policy: Policy,
    scores: Floats,
    labels: Floats,
    predicted: int | None = None,
    parts: Mapping[str, Coverage] | None = None,
) -> str:
    """Why outcomes do not stand for all rows that are due, in words; empty: they may.

    Fewer than ``labels.min_coverage`` of them have one; or the parts by score are unevenly covered; or some have none,
    and none of those known is of a class of which the scores expect ``MIN_EXPECTED``.

    Args:
        policy: With ``min_coverage`` 0 it asks to judge whatever there is.
        scores: Shape (n,) or (n, classes), finite.
        labels: Shape (n,), NaN where no outcome is known.
        predicted: Rows that are due, where the arrays hold only those with an outcome.
        parts: Of :func:`by_score` of these rows, where it was asked already.
    """
    known, least = np.isfinite(labels), policy.labels.min_coverage
    predicted, covered = len(scores) if predicted is None else predicted, int(known.sum())
    if not predicted or not least:
        return ""
    if covered < least * predicted:
        return (
            f"{covered:,} of {predicted:,} rows that are due have an outcome ({covered / predicted:.1%}); "
            f"labels.min_coverage is {least:.0%}"
        )
    parts = {} if known.all() else parts or by_score(scores, known)
    if uneven(list(parts.values())):
        low, high = (choose(parts.items(), key=lambda item: item[1].share) for choose in (min, max))
        return (
            f"{low[1].share:.0%} of the rows with scores of {low[0]} have an outcome, {high[1].share:.0%} of those of "
            f"{high[0]}: outcomes of one class are missing or come later"
        )
    names = policy.model.class_names
    if names and covered < predicted:
        sums = scores.sum(axis=0, where=known[:, np.newaxis] if scores.ndim > 1 else known)
        for place, expected in enumerate(sums.tolist() if scores.ndim > 1 else [covered - sums, sums]):
            if expected >= MIN_EXPECTED and not (labels[known] == place).any():
                return (
                    f"none of the {covered:,} outcomes known is {names[place]}, where the scores expect {expected:,.0f}"
                )
    return ""


def uneven(parts: Sequence[Coverage]) -> bool:
    """Whether the worst covered part has less than half the coverage of the best, and the parts differ by more than
    chance.

    Chance: with shares c_b of n_b rows and c of all, chi² = sum of n_b (c_b - c)² / (c (1 - c)) against its 99.9 %
    quantile at B - 1 degrees of freedom, by the cube-root approximation of E. B. Wilson and M. M. Hilferty (PNAS 17,
    1931).

    >>> uneven([Coverage(predicted=100, labelled=30), Coverage(predicted=100, labelled=90)])
    True
    """
    shares = [part.share for part in parts]
    if len(parts) < 2 or min(shares) >= EVEN * max(shares):
        return False
    share = sum(part.labelled for part in parts) / sum(part.predicted for part in parts)
    spread = sum(part.predicted * (part.share - share) ** 2 for part in parts) / (share * (1 - share))
    freedom = len(parts) - 1
    ninth = 2 / (9 * freedom)
    return bool(spread > freedom * (1 - ninth + CHANCE * math.sqrt(ninth)) ** 3)
