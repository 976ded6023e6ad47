"""Whether the outcomes that are known stand for all predictions that are due."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kedge.policy import Labels
from kedge.records.cohort import Coverage

MAX_BUCKETS, MIN_BUCKET_ROWS = 10, 20
"""Coverage is told for tenths of the rows by score; for fewer parts where a tenth has fewer rows."""
EVEN = 0.5
"""Least coverage of a part by score, over that of the part covered best."""
CHANCE = 3.09
"""Normal quantile of 0.999: coverage is uneven if parts differ by more than one time in a thousand by chance."""


def of(covered: NDArray[np.bool_], more: Coverage | None = None) -> Coverage:
    """Of rows, shape (n,), and of those counted before."""
    predicted, labelled = (more.predicted, more.labelled) if more is not None else (0, 0)
    return Coverage(predicted=predicted + len(covered), labelled=labelled + int(covered.sum()))


def by_score(scores: NDArray[np.float64], covered: NDArray[np.bool_]) -> dict[str, Coverage]:
    """Of parts of the rows, equal in size, from the lowest scores to the highest.

    Args:
        scores: Shape (n,), finite.
        covered: Shape (n,): which rows have an outcome.
    """
    parts: dict[str, Coverage] = {}
    order = np.argsort(scores, kind="stable")
    for part in np.array_split(order, max(1, min(MAX_BUCKETS, len(order) // MIN_BUCKET_ROWS))):
        if len(part):
            name = f"{scores[part[0]]:.3g} to {scores[part[-1]]:.3g}"  # several parts have one where scores repeat
            parts[name] = of(covered[part], parts.get(name))
    return parts


def incomplete(labels: Labels, predicted: int, covered: int, parts: dict[str, Coverage]) -> str:
    """Why outcomes do not stand for all rows that are due, in words; empty: they may.

    Args:
        labels: Of the policy; ``min_coverage`` 0 asks for whatever there is.
        predicted, covered: Rows that are due, and those with an outcome.
        parts: Of :func:`by_score`.
    """
    least = labels.min_coverage
    if not predicted or not least:
        return ""
    if covered < least * predicted:
        return (
            f"{covered:,} of {predicted:,} rows that are due have an outcome ({covered / predicted:.1%}); "
            f"labels.min_coverage is {least:.0%}"
        )
    if not uneven(list(parts.values())):
        return ""
    low, high = (choose(parts.items(), key=lambda item: item[1].share) for choose in (min, max))
    return (
        f"{low[1].share:.0%} of the rows with scores of {low[0]} have an outcome, {high[1].share:.0%} of those of "
        f"{high[0]}: outcomes of one class are missing or come later"
    )


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
