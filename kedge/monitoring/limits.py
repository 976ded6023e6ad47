"""The policy's limits on metrics, held against what live labels show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kedge import decision, metrics, student_t
from kedge.measure import Floats
from kedge.metrics import Figure
from kedge.policy import Metric, Policy, cron
from kedge.policy.metrics import SHARES
from kedge.records import Interval

Rows = tuple[Floats, Floats]
"""Labels and scores of the same rows."""
SPANS = 2
OF_ALL_ROWS = ("accuracy", "brier")
"""Shares that every row decides about; the others are of the rows of a class."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a metric must not be beyond."""

    value: float
    below: bool
    """Whether less is too little; else more is too much."""
    words: str
    error: float = 0.0
    """Standard error of the limit itself, where it is a figure of the release."""


def level(policy: Policy) -> float:
    """Level of a limit on one of both spans of rows: ``monitor.drift.alpha`` over those of all checks of 30 days."""
    limits = sum(each is not None for metric in policy.metrics for each in (metric.min, metric.max, metric.max_drop))
    return policy.monitor.drift.alpha / (SPANS * max(1, limits) * cron.times_in_30_days(policy.monitor.schedule))


def broken(
    policy: Policy, spans: Sequence[Rows], measured: Sequence[Figure], released: Mapping[str, Interval]
) -> Iterator[str]:
    """Limits that rows in time order show to be broken, in words.

    This check's rows show at once what broke suddenly; those of earlier checks with them what a few rows cannot.

    The null of each is that the true figure keeps to the limit. Its p-value, one-sided, is that of the figure's
    distance from the limit in standard errors of the block bootstrap, by Student's t; of a share at least
    :func:`chernoff` of the rows of the smallest class: of few positives no bootstrap knows how much they vary.

    Args:
        policy: Metrics with limits, and the level of all looks at them.
        spans: This check's labels and scores, and those with the ones of earlier checks: finite; shape (n,), of several
            classes scores are (n, classes).
        measured: The policy's metrics on the last of the spans.
        released: The champion's figures on the rows that its release was judged on, by name.
    """
    for metric, last in zip(policy.metrics, measured, strict=True):
        limits = list(_limits(metric, released.get(metric.label)))
        if not limits:
            continue
        figures = [*(metrics.figure(metric, policy.model, *rows) for rows in spans[:-1]), last]
        for limit in limits:
            p_values = [_p_beyond(policy, metric, *pair, limit) for pair in zip(figures, spans, strict=True)]
            p_value, place = min((p_value, place) for place, p_value in enumerate(p_values))
            if p_value <= level(policy):
                figure, rows = figures[place], len(spans[place][0])
                yield (
                    f"{figure.name} {figure.value:.4g} (95 % interval {figure.low:.4g} to {figure.high:.4g}) over "
                    f"{rows:,} rows with an outcome, {limit.words} (p = {p_value:.2g})"
                )


def _limits(metric: Metric, released: Interval | None) -> Iterator[Limit]:
    if metric.min is not None:
        yield Limit(value=metric.min, below=True, words=f"must be at least {metric.min:.5g}")
    if metric.max is not None:
        yield Limit(value=metric.max, below=False, words=f"must be at most {metric.max:.5g}")
    if metric.max_drop is not None and released is not None:
        sign = metrics.named(metric.name).sign
        reach = max(released.high - released.value, released.value - released.low)
        yield Limit(
            value=released.value - sign * metric.max_drop,
            below=sign > 0,
            words=f"was {released.value:.4g} when it was released and may be worse by {metric.max_drop:.5g}",
            error=reach / student_t.quantile((1 + metrics.LEVEL) / 2, metrics.MAX_BLOCKS - 1),
        )


def _p_beyond(policy: Policy, metric: Metric, figure: Figure, rows: Rows, limit: Limit) -> float:
    """Chance of a figure so far beyond a limit, or farther, if the true one keeps to it; 1 where nothing is known."""
    if figure.value is None or figure.error is None:
        return 1.0
    share = metric.name in SHARES
    beyond = (limit.value - figure.value) * (1 if limit.below else -1)
    if beyond <= 0:
        return 1.0
    error = math.hypot(figure.error, limit.error)
    if not error and not share:
        return 1.0
    by_blocks = student_t.upper_tail(beyond / error, max(1, figure.blocks - 1)) if error else 0.0
    if not share:
        return by_blocks
    return max(by_blocks, chernoff(figure.value, limit.value, _deciding_rows(policy, metric, *rows)))


def chernoff(share: float, limit: float, rows: int) -> float:
    """Most that the chance of so small, or so large, a mean of independent rows between 0 and 1 is if the true one is
    ``limit``: ``exp(-n KL(share, limit))``.

    References:
        W. Hoeffding (1963), Probability inequalities for sums of bounded random variables, J. Amer. Statist. Assoc. 58,
        theorem 1, and 5b for a ranking's pairs.

    >>> round(chernoff(0.0, 0.5, 10), 6)  # 1 / 2 ** 10
    0.000977
    """
    divergence = 0.0
    for seen, true in ((share, limit), (1 - share, 1 - limit)):
        if seen > 0:
            divergence += seen * math.log(seen / true) if true > 0 else math.inf
    return math.exp(-rows * divergence)


def _deciding_rows(policy: Policy, metric: Metric, labels: Floats, scores: Floats) -> int:
    """Rows of the smallest class among outcomes, or among decisions, that a share is of."""
    if metric.name in OF_ALL_ROWS:
        return len(labels)
    of = decision.decide(policy.model, scores) if metric.name.startswith("precision") else labels
    counts = np.bincount(of.astype(np.int64))
    return int(counts[counts > 0].min())
