"""Is the difference more than chance? Tests on counts, both samples random, and what to do with many of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPARSE = 10
"""Cells with a smaller expected count in the smaller sample are pooled: the chi-square law holds for the rest."""
COMPONENTS = 4

Floats = NDArray[np.float64]


def smooth_test(reference: Any, current: Any, *, design_effect: float = 1.0) -> float | None:
    """Test whether two binned samples of a number come from one distribution.

    Neyman's smooth test for two samples: with orthonormal polynomials h_1..h_4 of the pooled mid-rank, sum the squares
    of the current sample's mean scores, each divided by its variance when rows are dealt to the two samples by chance:
    v_j = (N - 1) / (n m) * (sum_k c_k h_j(k))^2. Shift, spread, skew and tails are each one component, so power is not
    spent on 63 directions nobody cares about. The p-value is twice the smaller of two: that of v_1 (the rank-sum test),
    chi-square with 1 degree of freedom, which finds a shift almost as surely as a t-test; and that of the sum of all
    components, chi-square with 4 (fewer for few bins).

    Args:
        reference, current: Row counts on the same bins, shape (k,).
        design_effect: Variance of a sum over dependent rows against independent ones; each v_j is divided by it.

    Returns:
        The p-value; None if either sample is empty or all rows are in one bin.

    References:
        J. Neyman (1937), Skand. Aktuarietidskr. 20, 149-199; J. Rayner, O. Thas, D. Best (2009), Smooth Tests of
        Goodness of Fit, 2nd ed., ch. 9 (two samples).

    >>> round(smooth_test([50, 50], [50, 50]), 3)
    1.0
    >>> round(smooth_test([50, 50], [35, 65]), 3)  # the 2 x 2 chi-square 4.604 * 199 / 200
    0.032
    """
    r, c = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    m, n = r.sum(), c.sum()
    pooled = r + c
    used = pooled > 0
    degrees = min(COMPONENTS, int(used.sum()) - 1)
    if not m or not n or degrees < 1:
        return None
    scores = orthonormal_scores(pooled[used], degrees)
    components = (m + n - 1) / (m * n) / design_effect * (c[used] @ scores) ** 2
    shift = chi_square_tail(float(components[0]), 1)
    return min(1.0, 2 * min(shift, chi_square_tail(float(components.sum()), degrees))) if degrees > 1 else shift


def orthonormal_scores(counts: Floats, degree: int) -> Floats:
    """Polynomials of the mid-rank of degree 1, 2, ... with mean 0, variance 1 under the counts; shape (k, degree)."""
    share = counts / counts.sum()
    middle = 2 * (np.cumsum(share) - share / 2) - 1
    weights = np.sqrt(share)
    basis = weights[:, None] * _legendre(middle, degree)
    orthogonal, _ = np.linalg.qr(basis)
    return np.asarray(orthogonal[:, 1:] / weights[:, None])


def _legendre(x: Floats, degree: int) -> Floats:
    """Legendre polynomials 0 to ``degree``, by (k + 1) P_(k+1) = (2 k + 1) x P_k - k P_(k-1)."""
    values = [np.ones_like(x), x]
    for k in range(1, degree):
        values.append(((2 * k + 1) * x * values[k] - k * values[k - 1]) / (k + 1))
    return np.stack(values[: degree + 1], axis=1)


def homogeneity_test(reference: Any, current: Any, *, design_effect: float = 1.0) -> float | None:
    """Test whether category shares are the same in two samples.

    Pearson's chi-square for a 2 x k table, both rows random, times (N - 1) / N so that its mean under dealing rows by
    chance is exactly k - 1. (A goodness-of-fit test against the reference's shares would take them for the truth and
    raise false alarms.) Pool sparse cells first with :func:`pooled_cells`.

    Returns:
        The p-value; None if either sample is empty or fewer than two cells are used.

    References:
        K. Pearson (1900), Phil. Mag. 50, 157-175; the exact mean: J. Haldane (1940), Biometrika 31, 346-355.

    >>> round(homogeneity_test([50, 50], [35, 65]), 3)
    0.032
    """
    r, c = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    pooled = r + c
    used = pooled > 0
    r, c, pooled = r[used], c[used], pooled[used]
    m, n, total = r.sum(), c.sum(), pooled.sum()
    if not m or not n or len(pooled) < 2:
        return None
    expected = pooled * n / total
    statistic = (total - 1) / total * float(((c - expected) ** 2 / expected).sum()) * total / m
    return chi_square_tail(statistic / design_effect, len(pooled) - 1)


def pooled_cells(reference: Any, current: Any, rest: tuple[int, int], *, floor: float = 0) -> tuple[Floats, Floats]:
    """Add categories too rare to test, and the rest, into one last cell.

    A cell stays if the smaller sample expects at least :data:`SPARSE` rows in it and both together hold at least
    ``floor``. The choice looks only at both samples together, so it favours neither.

    Args:
        reference, current: Counts by category, shape (k,).
        rest: Rows of the reference and of the current sample in no named category.
        floor: Least pooled count; above 0 when the named categories were chosen by their reference counts.
    """
    r, c = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    m, n = r.sum() + rest[0], c.sum() + rest[1]
    pooled = r + c
    keep = (pooled * min(m, n) >= SPARSE * (m + n)) & (pooled >= floor)
    last = r[~keep].sum() + rest[0], c[~keep].sum() + rest[1]
    if not sum(last):
        return r[keep], c[keep]
    return np.append(r[keep], last[0]), np.append(c[keep], last[1])


def safe_floor(min_named: int, m: int, n: int) -> float:
    """Least pooled count of a category that would have been named whatever chance did to its reference count.

    Naming the most frequent categories of a reference favours those that chance made frequent there. A category with
    pooled count t has about t m / (m + n) reference rows, give or take sqrt(t m n) / (m + n); four of those above the
    rarest named one, chance no longer decides.

    >>> round(safe_floor(100, 1000, 1000))
    265
    """
    share = m / (m + n) if m + n else 1.0
    spread = math.sqrt(share * (1 - share))
    root = (4 * spread + math.sqrt(16 * spread * spread + 4 * share * min_named)) / (2 * share)
    return root * root


def share_increase_test(k_reference: int, m: int, k_current: int, n: int) -> float | None:
    """Test whether a share rose, given the rows of both samples that have the property (Fisher's exact test).

    P(K >= k_current) for K hypergeometric: k_reference + k_current of m + n rows have the property and n are drawn.
    Above 2,000 such rows the normal law with continuity correction is used.

    Returns:
        The one-sided p-value; None if no row has the property or either sample is empty.

    References:
        R. Fisher (1935), J. R. Stat. Soc. 98, 39-82.

    >>> round(share_increase_test(0, 10, 3, 10), 4)  # 10*9*8 / (20*19*18)
    0.1053
    """
    total = k_reference + k_current
    if not total or not m or not n:
        return None
    if min(total, m + n - total) > 2000:
        mean = total * n / (m + n)
        variance = mean * m / (m + n) * (m + n - total) / (m + n - 1)
        return 0.5 * math.erfc((k_current - 0.5 - mean) / math.sqrt(2 * variance))
    first = max(k_current, n - (m + n - total), 0)
    k = np.arange(first, min(total, n))
    ratios = (total - k) * (n - k) / ((k + 1.0) * (m + n - total - n + k + 1))  # of each chance to the one before
    log = _log_choose(total, first) + _log_choose(m + n - total, n - first) - _log_choose(m + n, n)
    return min(1.0, math.exp(log) + float(np.exp(log + np.cumsum(np.log(ratios))).sum()))


def share_change_test(k_reference: int, m: int, k_current: int, n: int) -> float | None:
    """Test whether a share changed either way: twice the smaller one-sided p-value of Fisher's exact test."""
    up = share_increase_test(k_reference, m, k_current, n)
    down = share_increase_test(k_current, n, k_reference, m)
    return None if up is None or down is None else min(1.0, 2 * min(up, down))


def unseen_test(singletons: int, m: int, new: int, n: int) -> float | None:
    """Test whether more rows hold values the reference never saw than its own rare values let expect.

    Good and Turing: the chance that a row holds a value not among m earlier ones is about singletons / m, where
    singletons are the values seen once. ``new`` is compared with that count as one Poisson count with another. As one
    unseen value can bring up to n / m times as many rows as it brought to the singletons, both are first divided by
    1 + n / m.

    Returns:
        The one-sided p-value; None if there is nothing to compare.

    References:
        I. Good (1953), Biometrika 40, 237-264.

    >>> unseen_test(0, 10_000, 100, 5_000) < 1e-9
    True
    >>> unseen_test(50, 1000, 50, 1000) > 0.4
    True
    """
    if not m or not n or not new:
        return None if not singletons else 1.0
    scale = 1 + n / m
    k, j = math.ceil(new / scale), math.ceil(singletons / scale)
    return _binomial_tail(k, k + j, n / (m + n))


def outside_test(m: int, outside: int, n: int) -> float | None:
    """Test whether more rows lie beyond the reference's largest (or smallest) value than chance puts there.

    If both samples come from one distribution without ties, the top k of all m + n rows belong to the current sample
    with probability n (n - 1) ... (n - k + 1) / ((m + n) ... (m + n - k + 1)), whatever the distribution; ties make it
    smaller.

    References:
        H. Rosenbaum (1954), Ann. Math. Stat. 25, 146-150.

    >>> round(outside_test(10, 2, 10), 4)  # 10/20 * 9/19
    0.2368
    """
    if not m or not n:
        return None
    if not outside:
        return 1.0
    log = math.lgamma(n + 1) - math.lgamma(n - outside + 1) - math.lgamma(m + n + 1) + math.lgamma(m + n - outside + 1)
    return math.exp(log) if outside > 20 else math.prod((n - i) / (m + n - i) for i in range(outside))


def false_discovery_q_values(p_values: Sequence[float]) -> list[float]:
    """Smallest false discovery rate at which each test would be called.

    Benjamini and Hochberg's step-up procedure: q_(i) = min over k >= i of p_(k) * tests / k. If no test has an effect,
    the chance that any q is at or below alpha is at most alpha.

    References:
        Y. Benjamini, Y. Hochberg (1995), J. R. Stat. Soc. B 57, 289-300.

    >>> false_discovery_q_values([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    q_values, lowest = [1.0] * len(p_values), 1.0
    for rank, i in zip(range(len(order), 0, -1), order, strict=True):
        lowest = min(lowest, p_values[i] * len(order) / rank)
        q_values[i] = lowest
    return q_values


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(X >= statistic) for X chi-square with whole degrees of freedom, by the finite recurrence of the gamma integral.

    >>> round(chi_square_tail(9.487729, 4), 6), round(chi_square_tail(3.841459, 1), 6)
    (0.05, 0.05)
    """
    half = max(statistic, 0.0) / 2
    if half == 0:
        return 1.0
    tail, a = (math.erfc(math.sqrt(half)), 0.5) if degrees % 2 else (math.exp(-half), 1.0)
    terms = [tail]
    while a < degrees / 2:
        terms.append(math.exp(a * math.log(half) - half - math.lgamma(a + 1)))
        a += 1
    return min(1.0, math.fsum(terms))


def _binomial_tail(k: int, trials: int, share: float) -> float:
    """P(X >= k); above 2,000 trials by the normal law with continuity correction."""
    if trials > 2000:
        z = (k - 0.5 - trials * share) / math.sqrt(2 * trials * share * (1 - share))
        return 0.5 * math.erfc(z)
    log, log_not = math.log(share), math.log1p(-share)
    terms = (math.exp(_log_choose(trials, i) + i * log + (trials - i) * log_not) for i in range(k, trials + 1))
    return min(1.0, math.fsum(terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
