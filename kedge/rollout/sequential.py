"""Tests that stay valid however often one looks: e-processes for two error rates, two quantiles, two means.

Each function returns log E. If the candidate is within the tolerance, E starts at 1 and is at all times bounded by a
non-negative martingale that starts at 1, so P(E ever reaches 1/alpha) <= alpha (Ville's inequality). Rejecting when
log E >= log(1/alpha) is therefore a test of level alpha over all looks together, and products, averages and minima over
nulls of such processes are again such processes.

For rates, E = mixture likelihood / largest likelihood under the null. The mixture is the Krichevsky-Trofimov one,
Beta(1/2, 1/2); dividing by the null's largest likelihood makes it valid for every rate the null allows, in any order
and at any ratio of requests between the two.

References:
    L. Wasserman, A. Ramdas, S. Balakrishnan (2020), Universal inference, PNAS 117(29), 16880-16890 (section 8).
    A. Ramdas, P. Grunwald, V. Vovk, G. Shafer (2023), Game-theoretic statistics and safe anytime-valid inference,
    Statistical Science 38(4), 576-601.
    R. Krichevsky, V. Trofimov (1981), The performance of universal encoding, IEEE Trans. Inf. Theory 27(2), 199-207.
    H. Robbins (1970), Statistical methods related to the law of the iterated logarithm, Ann. Math. Stat. 41(5).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

TAIL = 0.05
"""Share of requests slower than the 95th percentile."""


def two_rates(bad: int, rows: int, champion_bad: int, champion_rows: int, margin: float) -> float:
    """log E against "the candidate's rate is at most the champion's plus the margin".

    log E = log KT(bad, rows) + log KT(champion_bad, champion_rows) - max over p <= q + margin of the log likelihood.

    Args:
        bad, rows: The candidate's events (failures, wrong decisions) among its rows.
        champion_bad, champion_rows: The same of the champion.
        margin: Increase of the rate that is tolerated, 0 to 1.

    >>> two_rates(10, 100, 100, 1000, 0.01) < 0 < two_rates(40, 100, 100, 1000, 0.01)
    True
    """
    mixture = _log_mixture(bad, rows) + _log_mixture(champion_bad, champion_rows)
    rate, champion_rate = _share(bad, rows), _share(champion_bad, champion_rows)
    if not rows or not champion_rows:
        return 0.0
    if rate > champion_rate + margin:
        champion_rate = _boundary(bad, rows, champion_bad, champion_rows, margin)
        rate = min(champion_rate + margin, 1.0)
    likelihood = _log_likelihood(bad, rows, rate) + _log_likelihood(champion_bad, champion_rows, champion_rate)
    return mixture - likelihood


def two_quantiles(candidate: Mapping[float, int], champion: Mapping[float, int], ratio: float) -> float:
    """log E against "the candidate's 95th percentile is at most ``ratio`` times the champion's".

    The champion's percentile is unknown, so every bucket it could lie in is a null of its own: (a) at least 5 % of the
    champion's requests are slower than the bucket's lower edge, and (b) at most 5 % of the candidate's are slower than
    ``ratio`` times its upper edge. E is the smallest product of the two one-sided processes; edges are rounded to the
    tolerant side.

    Args:
        candidate, champion: Upper edge of a latency bucket in ms -> requests in it, empty buckets included.
        ratio: Tolerated, at least 1.

    >>> champion = {1: 500, 2: 500, 4: 0, 8: 0}
    >>> two_quantiles(champion, champion, 2.0) < 0 < two_quantiles({1: 0, 2: 50, 4: 0, 8: 50}, champion, 2.0)
    True
    """
    rows, champion_rows = sum(candidate.values()), sum(champion.values())
    if not rows or not champion_rows:
        return 0.0
    edges = sorted({*candidate, *champion})
    slower, champion_slower = _above(candidate, edges), _above(champion, edges)
    lowest, tail = math.inf, champion_rows
    for upper, above in zip(edges, champion_slower, strict=True):
        allowed = bisect_left(edges, ratio * upper)
        slow = slower[allowed] if allowed < len(edges) else 0
        product = _log_above(slow, rows, TAIL) + _log_below(tail, champion_rows, TAIL)
        lowest, tail = min(lowest, product), above
    return lowest


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Losses of both sides in one span of time: rows, means, and variances between rows."""

    rows: int
    mean: float
    variance: float
    champion_rows: int
    champion_mean: float
    champion_variance: float


def two_means(spans: Sequence[Losses], margin: float) -> float:
    """log E against "the candidate's mean loss is at most the champion's plus the margin, in every span".

    Within span s the difference of the means less the margin is D_s, of variance V_s = s^2/n + s_c^2/n_c. Only rows of
    the same minutes are compared; the spans' differences are then weighted by their precision, so that a split of the
    traffic that changes with time cannot look like harm. With V = 1 / sum(1/V_s) and D = V sum(D_s/V_s), the score D/V
    behaves like Brownian motion in the information 1/V. Mixed over effects of a half-normal prior of standard
    deviation t,

        E = 2 sqrt(V / (V + t^2)) exp(D^2 t^2 / (2 V (V + t^2))) Phi(D t / sqrt(V (V + t^2))).

    t is half the champion's standard deviation in its longest span. Unlike the other two this one is asymptotic: a span
    with fewer than ``FEWEST`` rows on a side, or without any variance, says nothing yet.

    >>> seen = Losses(rows=200, mean=0.4, variance=0.24, champion_rows=200, champion_mean=0.2, champion_variance=0.16)
    >>> two_means([seen], 0.0) > math.log(100) > two_means([seen], 0.1)
    True
    """
    told = [x for x in spans if min(x.rows, x.champion_rows) >= FEWEST and min(x.variance, x.champion_variance) > 0]
    if not told:
        return 0.0
    information = [1 / (x.variance / x.rows + x.champion_variance / x.champion_rows) for x in told]
    spread = 1 / sum(information)
    difference = spread * sum(
        (x.mean - x.champion_mean - margin) * weight for x, weight in zip(told, information, strict=True)
    )
    prior = max(told, key=lambda x: x.champion_rows).champion_variance / 4
    z = difference * math.sqrt(prior / (spread * (spread + prior)))
    return math.log(2) + 0.5 * math.log(spread / (spread + prior)) + 0.5 * z * z + _log_normal_cdf(z)


FEWEST = 50
"""Labelled rows a mean needs on each side before the normal limit is trusted."""


def average(logs: Sequence[float]) -> float:
    """log of the mean of the E values whose logs are given: again an e-process, whichever of them grew.

    >>> average([0.0, 0.0])
    0.0
    """
    largest = max(logs)
    return largest + math.log(sum(math.exp(value - largest) for value in logs) / len(logs))


def _log_above(bad: int, rows: int, rate: float) -> float:
    """log E against "the rate is at most ``rate``"."""
    return _log_mixture(bad, rows) - _log_likelihood(bad, rows, min(_share(bad, rows), rate))


def _log_below(bad: int, rows: int, rate: float) -> float:
    """log E against "the rate is at least ``rate``"."""
    return _log_mixture(bad, rows) - _log_likelihood(bad, rows, max(_share(bad, rows), rate))


def _log_mixture(bad: int, rows: int) -> float:
    good = rows - bad
    return math.lgamma(bad + 0.5) + math.lgamma(good + 0.5) - math.lgamma(rows + 1) - math.log(math.pi)


def _log_likelihood(bad: int, rows: int, rate: float) -> float:
    return _times_log(bad, rate) + _times_log(rows - bad, 1 - rate)


def _times_log(count: int, probability: float) -> float:
    if count == 0:
        return 0.0
    return count * math.log(probability) if probability > 0 else -math.inf


def _boundary(bad: int, rows: int, champion_bad: int, champion_rows: int, margin: float) -> float:
    """The champion's rate that makes both counts likeliest when the candidate's is exactly ``margin`` above it.

    The log likelihood is concave in it, so its slope is bisected.
    """
    low, high = 0.0, 1.0 - margin
    for _ in range(100):
        rate = (low + high) / 2
        slope = (
            _over(bad, rate + margin)
            - _over(rows - bad, 1 - rate - margin)
            + _over(champion_bad, rate)
            - _over(champion_rows - champion_bad, 1 - rate)
        )
        low, high = (rate, high) if slope > 0 else (low, rate)
    return (low + high) / 2


def _over(count: int, value: float) -> float:
    return count / value if count else 0.0


def _share(bad: int, rows: int) -> float:
    return bad / rows if rows else 0.0


def _above(latency: Mapping[float, int], edges: Sequence[float]) -> list[int]:
    """Requests slower than each of the edges."""
    return list(islice(accumulate((-latency.get(edge, 0) for edge in edges), initial=sum(latency.values())), 1, None))


def _log_normal_cdf(z: float) -> float:
    if z > -30:
        return math.log(0.5 * math.erfc(-z / math.sqrt(2)))
    return -0.5 * z * z - math.log(-z * math.sqrt(2 * math.pi))  # the tail's first term; erfc underflows there
