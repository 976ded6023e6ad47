"""Two models on the same rows: is the difference more than chance?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtr, stdtrit

from kedge.measure import Floats

MAX_BLOCKS = 30
"""More blocks buy hardly any power, longer ones see longer dependence."""
LEVEL = 0.95


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


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Rows on which exactly one of two models decided wrongly."""

    only_champion_wrong: int
    only_challenger_wrong: int
    p_value: float
    """Two-sided, exact."""


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


def mcnemar(champion_wrong: NDArray[np.bool_], challenger_wrong: NDArray[np.bool_]) -> McNemar:
    """Exact test that two models decide wrongly equally often, on rows where one of them does and the other does not.

    With b and c such rows, p = min(1, 2 P(X <= min(b, c))), X binomial of b + c trials with chance 1/2. It takes rows
    for independent, so it is reported beside the paired test and decides nothing.

    References:
        Q. McNemar (1947), Psychometrika 12, 153-157.

    >>> mcnemar(np.array([True] * 6 + [False] * 4), np.array([False] * 9 + [True])).p_value
    0.125
    """
    champion = int(np.sum(champion_wrong & ~challenger_wrong))
    challenger = int(np.sum(challenger_wrong & ~champion_wrong))
    both = champion + challenger
    p_value = min(1.0, 2 * float(bdtr(min(champion, challenger), both, 0.5))) if both else 1.0
    return McNemar(only_champion_wrong=champion, only_challenger_wrong=challenger, p_value=p_value)


def _one_sided(mean: float, error: float, freedom: int) -> float:
    if error == 0:  # every block agrees to the last bit
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(freedom, -mean / error))
