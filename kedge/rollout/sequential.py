"""Tests that stay valid however often one looks: e-processes for rates, latencies and differences on the same rows.

Each function returns log E against a null hypothesis. While the null holds, E is a non-negative martingale that starts
at 1 (or lies below one), so P(E ever reaches 1/alpha) <= alpha (Ville's inequality): rejecting when log E reaches
log(1/alpha) is a test of level alpha over all looks together. Products over spans, averages, and minima over a union of
nulls are again such processes. Read the other way round the same functions rule out harm: then the null is "at least
as bad as".

References:
    M. Lindon, A. Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS; arXiv 2205.14762.
    I. Waudby-Smith, A. Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86(1), 1-27.
    A. Ramdas, P. Grunwald, V. Vovk, G. Shafer (2023), Game-theoretic statistics and safe anytime-valid inference,
    Statistical Science 38(4), 576-601.
    W. Hoeffding (1963), Probability inequalities for sums of bounded random variables, JASA 58(301), section 6.
    H. Robbins (1970), Statistical methods related to the law of the iterated logarithm, Ann. Math. Stat. 41(5).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import add, mul, sub

STAKES: Mapping[float, float] = {0.06: 0.15, 0.25: 0.65, 0.8: 0.2}
"""Shares of the wealth that are bet on each row -> their weights. Gains of the best one are kept but for log 1/weight:
0.25 is the best stake on three rows in a hundred decided worse, where one in ten is decided otherwise."""
FEWEST = 50
"""Labelled rows a mean needs on each side before the normal limit is trusted."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """Events (failures, slow answers) among the requests of both sides in one span of time."""

    count: int
    requests: int
    champion_count: int
    champion_requests: int


def rate_ratio(spans: Sequence[Events], null: float, alternatives: Sequence[float]) -> float:
    """log E against "the candidate's rate is at most (or at least) ``null`` times the champion's, at every moment".

    Of the k events of both sides in a span, the candidate's x is Binomial(k, t(r)) where its rate is r times the
    champion's, with t(r) = r n / (r n + N) for n and N requests of both: whatever the common rate is, and however it
    changes. So

        E = mean over r of  product over spans of  (t(r) / t(null))^x ((1 - t(r)) / (1 - t(null)))^(k - x).

    Alternatives above ``null`` test "at most", alternatives below it "at least". Given n and N the events of a finite
    number of requests vary less than the binomial (Hoeffding 1963, section 6), to the safe side. A span in which one
    side has no request says nothing.

    >>> quiet = Events(count=10, requests=100, champion_count=100, champion_requests=1000)
    >>> rate_ratio([quiet], 1.0, [4.0]) < 0 < rate_ratio([quiet], 1.0, [0.5, 0.25]) + 5
    True
    >>> twice = Events(count=2, requests=50, champion_count=0, champion_requests=50)
    >>> round(math.exp(rate_ratio([twice], 1.0, [3.0])), 4)  # (3/4 / 1/2)^2
    2.25
    """
    told = [span for span in spans if span.requests and span.champion_requests and span.count + span.champion_count]
    logs = [_of_span(span, null, tuple(alternatives)) for span in told]
    return average([sum(each) for each in zip(*logs, strict=True)]) if logs else 0.0


@lru_cache(maxsize=256)
def _of_span(span: Events, null: float, alternatives: tuple[float, ...]) -> tuple[float, ...]:
    """log E of one span by alternative; spans that ended are asked about again at each look."""
    gains = _gains_of_events(span, null, alternatives)
    return tuple(span.count * gain + span.champion_count * champion_gain for gain, champion_gain in gains)


def _gains_of_events(span: Events, null: float, alternatives: Sequence[float]) -> list[tuple[float, float]]:
    """By alternative: log(t(r) / t(null)) and log((1 - t(r)) / (1 - t(null)))."""
    null_total = math.log(null * span.requests + span.champion_requests)
    losses = [null_total - math.log(ratio * span.requests + span.champion_requests) for ratio in alternatives]
    return [(math.log(ratio / null) + loss, loss) for ratio, loss in zip(alternatives, losses, strict=True)]


def rate(count: int, requests: int, null: float, alternatives: Sequence[float]) -> float:
    """log E against "the rate is at most (or at least) ``null``", by the mean likelihood ratio of the alternatives.

    ``null`` is a share above 0 and below 1; of the alternatives only those within [0, 1) count.

    >>> round(math.exp(rate(1, 1, 0.1, [0.3])), 4), round(math.exp(rate(0, 2, 0.5, [0.0])), 4)
    (3.0, 4.0)
    """
    good = requests - count
    logs = []
    for share in alternatives:
        if share >= 1 or (share <= 0 and count):
            logs.append(-math.inf)
            continue
        log_e = good * math.log((1 - share) / (1 - null))
        logs.append(log_e + (count * math.log(share / null) if count else 0.0))
    return average(logs)


POINTS = 41
GRID = tuple(step / 20 - 1 for step in range(POINTS))
"""Where differences between -1 and 1 are counted, see :class:`kedge.rollout.evidence.Differences`."""


def mean_above(counts: Sequence[float], margin: float) -> float:
    """log E against "differences are at most ``margin`` on average", by betting.

    Each row pays 1 + s (d - margin) for a stake of s; E is the mean over :data:`STAKES` of the products over the rows.
    A row between two points of the grid is counted at both in proportion: its mean stays what it is and, as the
    logarithm is concave, E is never larger than that of the row itself.

    Args:
        counts: Rows by difference, one weight a point of :data:`GRID`.
        margin: Between -1 and 1.

    >>> counts = [0.0] * POINTS
    >>> counts[-1] = 1.0  # one row that the champion decided rightly and the candidate wrongly
    >>> round(math.exp(mean_above(counts, 0.0)), 4)  # 0.15 * 1.06 + 0.65 * 1.25 + 0.2 * 1.8
    1.3315
    """
    return _wealth(counts, margin, 1)


def mean_below(counts: Sequence[float], margin: float) -> float:
    """log E against "differences are at least ``margin`` on average": :func:`mean_above` of the differences turned.

    >>> mean_below([1.0] * POINTS, 0.5) > 0 > mean_below([1.0] * POINTS, -0.5)
    True
    """
    return _wealth(counts, margin, -1)


def _wealth(counts: Sequence[float], margin: float, sign: int) -> float:
    logs = [math.log(weight) + sum(map(mul, counts, _gains(stake, margin, sign))) for stake, weight in STAKES.items()]
    return _log_sum(logs)


@lru_cache(maxsize=512)
def _gains(stake: float, margin: float, sign: int) -> tuple[float, ...]:
    """log of what a row at each point of the grid pays; the stake held so that no row can ruin."""
    held = min(stake, 0.9 / (1 + sign * margin))
    return tuple(math.log1p(held * sign * (point - margin)) for point in GRID)


SLOWER = (1.5, 3.0, 8.0)
"""Alternatives of :func:`slower`: times as often as the champion's that the candidate's answers are slow."""


def slower(spans: Sequence[tuple[Mapping[float, int], Mapping[float, int]]], ratio: float) -> float:
    """log E against "the candidate is at no quantile more than ``ratio`` times slower than the champion, ever".

    Under it, answers of the candidate that took longer than ``ratio`` times an edge are at most as frequent as answers
    of the champion that took longer than the edge: :func:`rate_ratio` with 1, at edges a factor of 2 apart, averaged.
    ``ratio`` times an edge is rounded up to the next edge, to the tolerant side. Edges beyond which the candidate has
    no answer count as E = 0.

    Args:
        spans: Candidate's and champion's answers in each: upper edge of the bucket in ms -> answers in it, empty
            buckets included.
        ratio: Tolerated, at least 1.

    >>> champion = {1: 500, 2: 500, 4: 0, 8: 0}
    >>> slow = {1: 0, 2: 50, 4: 0, 8: 50}
    >>> slower([(champion, champion)], 1.5) <= 0 < slower([(slow, champion)], 1.5)
    True
    """
    edges = _edges(tuple(tuple(side) for span in spans for side in span))
    pairs = _compared_edges(edges, ratio)
    if not pairs:
        return 0.0
    logs = [[0.0] * len(SLOWER) for _ in pairs]
    slow = [0] * len(pairs)
    for candidate, champion in spans:
        if not any(candidate.values()) or not any(champion.values()):
            continue
        counted = _slower_at(tuple(_longer(candidate, edges)), tuple(_longer(champion, edges)), pairs)
        for place, (count, gains) in enumerate(counted):
            slow[place] += count
            logs[place] = list(map(add, logs[place], gains))
    told = [average(each) for each, count in zip(logs, slow, strict=True) if count]
    return _log_sum(told) - math.log(len(pairs)) if told else 0.0


@lru_cache(maxsize=64)
def _slower_at(
    longer: tuple[int, ...], champion_longer: tuple[int, ...], pairs: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """Of one span, at each pair of edges: the candidate's slow answers, and log E by alternative."""
    requests = Events(count=0, requests=longer[0], champion_count=0, champion_requests=champion_longer[0])
    gains = _gains_of_events(requests, 1.0, SLOWER)
    return tuple(
        (longer[allowed], tuple(longer[allowed] * gain + champion_longer[edge] * other for gain, other in gains))
        for edge, allowed in pairs
    )


@lru_cache(maxsize=16)
def _edges(sides: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    return tuple(sorted(set().union(*sides)))


def _longer(latency: Mapping[float, int], edges: Sequence[float]) -> list[int]:
    """All answers, then those that took longer than each of the edges."""
    counts = tuple(latency.values()) if tuple(latency) == edges else [latency.get(edge, 0) for edge in edges]
    return list(accumulate(counts, sub, initial=sum(counts)))


@lru_cache(maxsize=16)
def _compared_edges(edges: tuple[float, ...], ratio: float) -> tuple[tuple[int, int], ...]:
    """Places in :func:`_longer` of edges a factor of 2 apart, and of the first edge at ``ratio`` times each."""
    pairs: list[tuple[int, int]] = []
    least = 0.0
    for place, edge in enumerate(edges):
        allowed = _at_least(edges, ratio * edge)
        if edge >= least and allowed + 1 < len(edges):
            pairs.append((place + 1, allowed + 1))
            least = 2 * edge
    return tuple(pairs)


def _at_least(edges: Sequence[float], limit: float) -> int:
    return bisect_left(edges, limit * (1 - 1e-9))


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

    t is half the champion's standard deviation in its longest span. Unlike the others this one is asymptotic: a span
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
    return _mixed(difference, spread, max(told, key=lambda x: x.champion_rows).champion_variance / 4)


EFFECT = 0.1
"""Standard deviation of the half-normal prior over how much a metric differs, see :func:`above`."""


def above(difference: float, error: float) -> float:
    """log E against "the difference is at most 0", by an estimate that is asymptotically normal and its standard error.

    The mixture of :func:`two_means` with t = :data:`EFFECT`: for what is no mean of rows, such as F1 or AUC, whose
    estimates behave like means of many rows. Asymptotic: the caller sees to it that there are rows enough.

    >>> above(0.1, 0.02) > math.log(100) > above(0.02, 0.02)
    True
    """
    return _mixed(difference, error * error, EFFECT * EFFECT)


def _mixed(difference: float, variance: float, prior: float) -> float:
    """log of the likelihood ratio of a normal difference, mixed over effects of a half-normal prior of a variance."""
    z = difference * math.sqrt(prior / (variance * (variance + prior)))
    return math.log(2) + 0.5 * math.log(variance / (variance + prior)) + 0.5 * z * z + _log_normal_cdf(z)


def average(logs: Sequence[float]) -> float:
    """log of the mean of the E values whose logs are given: again an e-process, whichever of them grew.

    >>> average([0.0, 0.0])
    0.0
    """
    return _log_sum(logs) - math.log(len(logs))


def _log_sum(logs: Sequence[float]) -> float:
    largest = max(logs)
    if math.isinf(largest):
        return largest
    return largest + math.log(sum(math.exp(value - largest) for value in logs))


def _log_normal_cdf(z: float) -> float:
    if z > -30:
        return math.log(0.5 * math.erfc(-z / math.sqrt(2)))
    return -0.5 * z * z - math.log(-z * math.sqrt(2 * math.pi))  # the tail's first term; erfc underflows there
