"""Which rows a run holds out, and which windows of the others it learns from, with what weights. Rows are in time
order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from kedge.measure import Floats, quantile_of
from kedge.policy import Policy

DETECTED, DIFFERING, POWER = 0.01, 0.1, 0.9
"""The holdout finds a difference of one wrong decision in a hundred, where one decision in ten differs, in 90 %."""
DETECTED_AFTER, DIFFERING_AFTER = 0.05, 0.15
"""After a change five in a hundred are enough: what must be learned is new, and each row held out is not learned from.
On streams a holdout of 1,000 rows instead of 500 cost a sixth more regret."""
SHORTEST, LONGEST = 500, 128_000
"""Rows of the shortest window and, but for all rows, of the longest; each further one has twice as many. More rows than
that teach a model of a table hardly more, and each window costs its length twice."""
GAP, GAP_AFTER = 0.5, 0.1
"""Shares of the rows to learn from, and of those since a change, that may be too new for the judged fit."""
MIN_ROWS_SINCE_CHANGE = 50
"""Fewer rows since a change are no window of their own."""
RATE = 0.05
"""A member whose total loss is 20 nats above the best one's has 1/e of its weight."""
MIN_WEIGHT = 1e-3
"""Members below it are dropped."""
WEIGHING_ROWS = 500
"""Newest rows, at most, that weigh the members. More would weigh windows by how they did long ago."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive rows that end where a fit ends: those from a row on, or so many."""

    name: str
    first: int = 0
    """Row it begins with, unless it has a length."""
    length: int | None = None

    def start(self, end: int) -> int:
        """Its first row where the fit ends before row ``end``."""
        return self.first if self.length is None else max(0, end - self.length)


def holdout_rows(
    rows: int, policy: Policy, *, since_change: int | None = None, since_champion: int | None = None
) -> int:
    """How many of the newest rows no fit that is judged may read: as many as the gates need, and no more.

    The mean of n paired differences of decisions, whose standard deviation is sqrt(0.1) where one decision in ten
    differs, shows a true difference of 0.01 at level alpha with power 0.9 for n = ((z_(1 - alpha) + z_0.9) sqrt(0.1) /
    0.01)², 8,564 at alpha = 0.05. Held out are so many rows, but at most half of those since the change point, so that
    the other half can be learned from, and none that the champion was trained on, which prove nothing; at least
    ``gates.min_rows``, below which nothing is judged; and never more than ``train.holdout_share`` of all.

    Args:
        rows: Rows in the table, at least 2. Outcomes that were not due yet are not among them.
        policy: Its ``gates.alpha``, ``gates.min_rows`` and ``train.holdout_share``.
        since_change: Rows since the change point; None: no change is known of.
        since_champion: Rows newer than those the champion was trained on; None: there is no champion.

    >>> policy = Policy.model_validate({
    ...     "model": {"name": "fraud", "target": "y", "features": {"amount": {"type": "number"}}},
    ...     "data": {"source": {"format": "csv", "location": "rows.csv"}, "time_column": "at"}})
    >>> holdout_rows(100_000, policy), holdout_rows(2000, policy), holdout_rows(100_000, policy, since_change=3000)
    (8564, 500, 514)
    """
    z = NormalDist().inv_cdf(1 - policy.gates.alpha) + NormalDist().inv_cdf(POWER)
    wanted = math.ceil(z**2 * DIFFERING / DETECTED**2)
    if since_change is not None:
        wanted = min(wanted, math.ceil(z**2 * DIFFERING_AFTER / DETECTED_AFTER**2), since_change // 2)
    if since_champion is not None:
        wanted = min(wanted, since_champion)
    return max(1, min(max(wanted, policy.gates.min_rows), math.floor(rows * policy.train.holdout_share)))


def last_known(start: int, times: NDArray[np.int64], delay: int, change: int | None = None) -> int:
    """Row before which a fit ends that is judged on the rows from ``start`` on.

    When those were predicted, outcomes of the rows just before were not due: a fit that read them would be judged
    fresher than any that serves. But half of the rows before ``start`` are read whatever the delay, and nine in ten of
    those since a change point: what is new must be learned from something. With half of these the first challenger
    after a change was rejected, as it knew too little of what the served fit knows.

    Args:
        start: First row that it is judged on.
        times: Of the rows, ascending, in microseconds.
        delay: From a row to its outcome, in microseconds.
        change: First row since the change point; None: no change is known of.

    >>> times = np.arange(100)
    >>> last_known(80, times, 0), last_known(80, times, 10), last_known(80, times, 60), last_known(80, times, 10, 70)
    (80, 71, 40, 79)
    """
    if not delay:
        return start
    known = int(np.searchsorted(times, times[start] - delay, "right"))
    since_change = start - change if change is not None and 0 < change < start else None
    spared = GAP * start if since_change is None else GAP_AFTER * since_change
    return max(known, start - int(spared))


def windows(end: int, change: int | None = None) -> list[Window]:
    """The windows of rows before ``end``: since the change, 500, 1,000, 2,000, ... up to half of all, at most 128,000,
    and all.

    Args:
        end: Rows there are to learn from.
        change: First row since the change point; None: no change is known of.

    >>> [window.name for window in windows(4500, 4400)]
    ['since change', 'newest 500', 'newest 1000', 'newest 2000', 'all']
    """
    chosen = []
    if change is not None and 0 < change <= end - MIN_ROWS_SINCE_CHANGE:
        chosen.append(Window(name="since change", first=change))
    length = SHORTEST
    while 2 * length <= end and length <= LONGEST:
        chosen.append(Window(name=f"newest {length}", length=length))
        length *= 2
    return [*chosen, Window(name="all")]


def within(chosen: list[Window], end: int, longest: float) -> list[Window]:
    """Of windows before row ``end`` those of at most a share of the rows, and one of just that share.

    >>> [window.name for window in within(windows(4500), 4500, 0.5)]
    ['newest 500', 'newest 1000', 'newest 2000', 'newest 2250']
    """
    length = max(MIN_ROWS_SINCE_CHANGE, int(end * longest))
    if length >= end:
        return chosen
    shorter = [window for window in chosen if end - window.start(end) < length]
    return [*shorter, Window(name=f"newest {length}", length=length)]


def member_weights(objective: str, member_losses: Floats) -> Floats:
    """Weights of members, shape (k,), from their losses of the same rows, shape (k, n), see
    :func:`kedge.training.challenger.fit_challenger`.

    Members below 0.001 get none, the others sum to 1.

    >>> member_weights("binary", np.array([[0.5, 0.5], [10.5, 10.5], [300.0, 300.0]])).round(3).tolist()
    [0.731, 0.269, 0.0]
    """
    total = member_losses.sum(axis=1)
    if objective not in ("binary", "multiclass"):
        means = member_losses.mean(axis=1)
        least = max(float(means.min()), float(np.finfo(float).eps * means.max()))
        twice = 1 if quantile_of(objective) is not None or objective == "absolute" else 2  # Laplace, or Gauss
        total = total / (twice * least or 1.0)
    share = np.exp(-RATE * (total - total.min()))
    share /= share.sum()
    share[share < MIN_WEIGHT] = 0.0
    return np.asarray(share / share.sum(), dtype=np.float64)
