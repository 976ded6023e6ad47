"""Two models on the same rows: is the difference more than chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from kedge.measure import Floats

MAX_BLOCKS = 30
"""More blocks buy hardly any power, longer ones see longer dependence."""
LEVEL = 0.95
NINE_IN_TEN = 1.2816
"""Of normal errors nine in ten are below so many standard errors."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Mean difference champion - challenger of the loss, positive if the challenger is better."""

    improvement: float
    low: float
    high: float
    """Two-sided 95 % interval."""
    p_value: float
    """One-sided: chance of such an improvement, or a larger one, if the challenger were no better."""
    blocks: int
    rows: int

    def rows_to_show(self, difference: float, level: float) -> float:
        """With so many rows a difference this large is shown at this one-sided level nine times in ten.

        n (t + 1.28)² error² / difference², with the error and t of these n rows.
        """
        error = (self.high - self.low) / 2 / float(stdtrit(self.blocks - 1, (1 + LEVEL) / 2))
        reach = float(stdtrit(self.blocks - 1, 1 - level)) + NINE_IN_TEN
        return self.rows * (reach * error / difference) ** 2 if difference > 0 else math.inf


def paired(champion: Floats, challenger: Floats) -> Paired:
    """Test on the loss of each row that the challenger's is lower, allowing for dependence between neighbours.

    Rows near in time err alike, so a test that takes them for independent finds progress in noise. The differences
    d = champion - challenger are cut into B = min(30, floor(sqrt(n))) blocks of nearly equal length in time order. With
    block means m_b over n_b rows and overall mean m, error² = sum(n_b (m_b - m)²) / (n (B - 1)), and t = m / error has
    Student's t distribution of B - 1 degrees of freedom. With blocks of one length this is the t-test on their means.
    Dependence that reaches over much more than a block is not seen.

    Args:
        champion, challenger: Losses, shape (n,), in time order, n at least 4.

    Raises:
        ValueError: shapes differ, or there are fewer than 4 rows.

    References:
        B. Schmeiser (1982), Batch size effects in the analysis of simulation output, Operations Research 30, 556-568.

    >>> found = paired(np.array([1.0, 3.0, 2.0, 4.0]), np.zeros(4))
    >>> found.improvement, found.blocks, round(found.p_value, 4)
    (2.5, 2, 0.0628)
    """
    if champion.shape != challenger.shape or len(champion) < 4:
        raise ValueError(f"need the losses of the same rows, at least 4; got {champion.shape}, {challenger.shape}")
    difference = champion - challenger
    count = len(difference)
    blocks = min(MAX_BLOCKS, math.isqrt(count))
    starts = np.arange(blocks) * count // blocks
    sizes = np.diff(np.append(starts, count))
    mean = float(difference.mean())
    spread = np.add.reduceat(difference, starts) / sizes - mean
    error = math.sqrt(float(np.sum(sizes * np.square(spread))) / (count * (blocks - 1)))
    reach = float(stdtrit(blocks - 1, (1 + LEVEL) / 2)) * error
    return Paired(
        improvement=mean,
        low=mean - reach,
        high=mean + reach,
        p_value=_one_sided(mean, error, blocks - 1),
        blocks=blocks,
        rows=count,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that calling those at most ``a`` makes any false call with chance at most ``a``.

    Sorted upwards, the k-th of m is multiplied by m - k + 1, and none is below the one before. Valid however the tests
    depend on each other.

    References:
        S. Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65-70.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def _one_sided(mean: float, error: float, freedom: int) -> float:
    if error == 0:  # every block agrees to the last bit
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(freedom, -mean / error))
