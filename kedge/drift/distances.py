"""How far apart are two samples? Each distance comes with what it is when nothing has changed.

Distances of samples are above zero even without drift. With m reference and n current rows, s = 1/m + 1/n, and k bins,
the chi-square law X = chi2(k - 1) gives all of them that are smooth in the shares: PSI is about s X, Kullback-Leibler
s X / 2, the squares of Hellinger and Jensen-Shannon s X / 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_GROUPS = 16
ROWS_A_GROUP = 20
FAR = 3.0
"""Values further beyond the outer edges than so many times the distance between these edges count as lying there."""


@dataclass(frozen=True)
class NoDrift:
    """What a distance is when nothing has changed: its mean (the bias) and the middle 95 % of its values."""

    mean: float
    low: float
    high: float


def grouped(reference: Any, current: Any) -> tuple[Floats, Floats]:
    """Join neighbouring bins into at most 16 groups of about equal pooled mass, with 20 rows of either sample each.

    Shares of thin bins say more about chance than about drift. A bin is never split.
    """
    r, c = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    pooled = r + c
    if not pooled.sum():
        return r[:1], c[:1]
    wanted = max(2, min(MAX_GROUPS, int(min(r.sum(), c.sum())) // ROWS_A_GROUP))
    middle = (np.cumsum(pooled) - pooled / 2) / pooled.sum()
    group = np.minimum((middle * wanted).astype(int), wanted - 1)
    joined = np.zeros((2, wanted))
    np.add.at(joined[0], group, r)
    np.add.at(joined[1], group, c)
    kept = joined.sum(axis=0) > 0
    return joined[0][kept], joined[1][kept]


def psi(reference: Any, current: Any) -> float:
    """Population stability index, in nats.

    With shares r and c, sum((c - r) ln(c / r)): Jeffreys' divergence, symmetric, zero only when the shares agree. Half
    a row is added to every cell, so a cell empty on one side gives a large number, not infinity. Without drift its mean
    is (k - 1) s.

    References:
        H. Jeffreys (1946), Proc. R. Soc. Lond. A 186, 453-461; the bias: B. Yurdakul, J. Naranjo (2020), J. Risk Model
        Validation 14(4), 89-100.

    >>> round(psi([500, 500], [600, 400]), 4)
    0.0405
    """
    r, c = _shares(reference), _shares(current)
    return float(((c - r) * np.log(c / r)).sum())


def debiased_psi(reference: Any, current: Any) -> tuple[float, float]:
    """PSI less its mean without drift, (k - 1) s, and the standard error of that.

    The standard error is that of a noncentral chi-square: s sqrt(2 (k - 1) + 4 PSI / s). The debiased index can be
    below zero; zero means no more difference than chance makes.

    Returns:
        The debiased index and its standard error, in nats.
    """
    s, cells = _scale(reference, current), len(np.atleast_1d(reference))
    value = psi(reference, current) - (cells - 1) * s
    return value, s * math.sqrt(2 * (cells - 1) + 4 * max(value, 0.0) / s)


def kullback_leibler(reference: Any, current: Any) -> float:
    """Information lost when the reference stands for the current shares: sum(c ln(c / r)), in nats.

    Not symmetric; zero only when the shares agree. Half a row is added to every cell.

    References:
        S. Kullback, R. Leibler (1951), Ann. Math. Stat. 22, 79-86.
    """
    r, c = _shares(reference), _shares(current)
    return float((c * np.log(c / r)).sum())


def jensen_shannon(reference: Any, current: Any) -> float:
    """Jensen-Shannon distance: the root of the mean divergence of both from their mixture; 0 to sqrt(ln 2) = 0.833.

    Symmetric, a metric, zero only when the shares agree; the same as ``scipy.spatial.distance.jensenshannon``.

    References:
        J. Lin (1991), IEEE Trans. Inf. Theory 37, 145-151; D. Endres, J. Schindelin (2003), ibid. 49, 1858-1860.
    """
    r, c = _shares(reference, 0), _shares(current, 0)
    middle = (r + c) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(r > 0, r * np.log(r / middle), 0) + np.where(c > 0, c * np.log(c / middle), 0)
    return math.sqrt(max(0.0, float(terms.sum()) / 2))


def hellinger(reference: Any, current: Any) -> float:
    """Hellinger distance: sqrt(sum((sqrt c - sqrt r)^2) / 2); 0 when the shares agree, 1 when they share nothing.

    References:
        E. Hellinger (1909), J. reine angew. Math. 136, 210-271.
    """
    r, c = _shares(reference, 0), _shares(current, 0)
    return math.sqrt(float(((np.sqrt(c) - np.sqrt(r)) ** 2).sum()) / 2)


def kolmogorov_smirnov(reference: Any, current: Any) -> float:
    """Largest difference between the two distribution functions at the edges; 0 when they agree, 1 when disjoint.

    On binned values it is a lower bound of the statistic on the values themselves, short of it by at most the largest
    share any bin has in either sample (about 1/64 on a fresh reference's edges); exact if each bin is one value.

    References:
        N. Smirnov (1939), Bull. Math. Univ. Moscou 2(2), 3-14.
    """
    return float(np.abs(np.cumsum(_shares(reference, 0)) - np.cumsum(_shares(current, 0))).max())


def wasserstein(
    reference: Any,
    current: Any,
    edges: Floats,
    reference_range: tuple[float, float],
    current_range: tuple[float, float],
) -> float:
    """Mean distance a value would have to move: the area between the distribution functions, in the column's unit.

    Values are taken as spread evenly within their bin, and values further out than three times the distance between
    the quantiles 1/64 and 63/64 beyond them as lying there: one absurd value must not decide.

    Args:
        reference, current: Row counts, one more than there are edges.
        edges: Ascending; first and last the reference's extremes, the others its bins' edges.
        reference_range, current_range: Smallest and largest value of each sample.

    References:
        S. Vallender (1974), Theory Probab. Appl. 18, 784-786.
    """
    inner = edges[1:-1] if len(edges) > 3 else edges
    reach = FAR * float(inner[-1] - inner[0])
    lowest, highest = float(inner[0]) - reach, float(inner[-1]) + reach
    curves = []
    for counts, (low, high) in ((reference, reference_range), (current, current_range)):
        places = np.array([min(low, edges[0]), *edges, max(high, edges[-1])]).clip(lowest, highest)
        curves.append((places, np.concatenate([[0.0], np.cumsum(_shares(counts, 0))])))
    nodes = np.sort(np.concatenate([curves[0][0], curves[1][0]]))
    before, after = (np.interp(nodes, *curve) for curve in curves)
    return _area(nodes, after - before)


def wasserstein_of_atoms(reference: Any, current: Any, values: Floats) -> float:
    """:func:`wasserstein` where each bin holds one value."""
    difference = np.abs(np.cumsum(_shares(reference, 0)) - np.cumsum(_shares(current, 0)))
    return float((difference[:-1] * np.diff(values)).sum())


def psi_without_drift(cells: int, m: int, n: int) -> NoDrift:
    """PSI when nothing has changed: s chi2(k - 1)."""
    return _chi_square(cells, m, n, lambda x, s: s * x)


def kullback_leibler_without_drift(cells: int, m: int, n: int) -> NoDrift:
    """Kullback-Leibler divergence when nothing has changed: s chi2(k - 1) / 2."""
    return _chi_square(cells, m, n, lambda x, s: s * x / 2)


def root_distance_without_drift(cells: int, m: int, n: int) -> NoDrift:
    """Hellinger and Jensen-Shannon distance when nothing has changed: sqrt(s chi2(k - 1) / 8)."""
    return _chi_square(cells, m, n, lambda x, s: math.sqrt(s * x / 8))


def kolmogorov_smirnov_without_drift(m: int, n: int) -> NoDrift:
    """Kolmogorov-Smirnov distance of continuous values when nothing has changed: sqrt(s) times Kolmogorov's law.

    Its mean is sqrt(pi / 2) ln 2 = 0.8687, its 2.5 and 97.5 % points 0.4806 and 1.4802. On bins, a little less.
    """
    root = math.sqrt(1 / m + 1 / n)
    return NoDrift(0.8687 * root, 0.4806 * root, 1.4802 * root)


def _chi_square(cells: int, m: int, n: int, scaled: Callable[[float, float], float]) -> NoDrift:
    degrees, s = max(cells - 1, 1), 1 / m + 1 / n
    return NoDrift(*(scaled(x, s) for x in (degrees, _quantile(degrees, -1.959964), _quantile(degrees, 1.959964))))


def _quantile(degrees: int, z: float) -> float:
    """Chi-square quantile (E. Wilson, M. Hilferty (1931), PNAS 17, 684-688): within 2 % from 5 degrees on."""
    return float(degrees * max(0.0, 1 - 2 / (9 * degrees) + z * math.sqrt(2 / (9 * degrees))) ** 3)


def _area(nodes: Floats, difference: Floats) -> float:
    """Integral of the absolute value of a curve that is straight between its nodes."""
    width, a, b = np.diff(nodes), difference[:-1], difference[1:]
    crossing = a * b < 0
    straight = (np.abs(a) + np.abs(b)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = (a * a + b * b) / (2 * (np.abs(a) + np.abs(b)))
    return float((width * np.where(crossing, crossed, straight)).sum())


def _scale(reference: Any, current: Any) -> float:
    return 1 / float(np.sum(reference)) + 1 / float(np.sum(current))


def _shares(counts: Any, added: float = 0.5) -> Floats:
    values = np.asarray(counts, np.float64) + added
    return np.asarray(values / values.sum())
