"""Which of several classes is decided for. Needs no library: servers and collectors decide too."""

from __future__ import annotations

from collections.abc import Sequence

Score = float | list[float]
"""Of one row; of several classes the probability of each."""


def choose(chances: Sequence[float], costs: Sequence[Sequence[float]] | None = None) -> int:
    """The place of the likeliest class or, with a matrix of costs, of that with the least expected cost; the first of
    equal ones.

    Args:
        chances: Of each class.
        costs: A row for each class that is true, in it the cost of deciding for each.

    >>> choose([0.2, 0.5, 0.3]), choose([0.2, 0.5, 0.3], [[0, 1, 1], [1, 0, 1], [9, 9, 0]])
    (1, 2)
    """
    if costs is None:
        return max(range(len(chances)), key=chances.__getitem__)
    spent = [0.0] * len(chances)
    for chance, row in zip(chances, costs, strict=True):
        spent = [total + chance * cost for total, cost in zip(spent, row, strict=True)]
    return min(range(len(spent)), key=spent.__getitem__)
