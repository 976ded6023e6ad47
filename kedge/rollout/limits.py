"""Absolute limits on what a slot answers: a champion after its release, or a candidate whose champion is dead. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kedge.policy.release import Guard
from kedge.rollout import summary
from kedge.rollout.model import Traffic

CHANCE = 0.001
"""A limit is exceeded when a slot exactly at it would show so many requests beyond it more rarely than this."""
SLOW = 0.05
"""Share of the requests that may take longer than the limit on latency."""


def exceeded(traffic: Traffic, guard: Guard) -> tuple[str, ...]:
    """Which limits the counted requests exceed, in words; empty: none, or too few requests to say.

    By Chernoff's bound: of n requests of which each fails with probability p, at least x > np fail with a probability
    of at most exp(-n KL(x/n, p)) (H. Chernoff, Ann. Math. Statist. 23, 1952).

    >>> exceeded(Traffic(requests=200, errors=60), Guard())
    ('failed requests: 60 of 200 (30.0%), tolerated 10.0%',)
    >>> exceeded(Traffic(requests=200, errors=24), Guard()), exceeded(Traffic(requests=20, errors=20), Guard())
    ((), ())
    """
    return tuple(_exceeded(traffic, guard)) if traffic.requests >= guard.min_requests else ()


def _exceeded(traffic: Traffic, guard: Guard) -> Iterator[str]:
    if unlikely(traffic.errors, traffic.requests, guard.max_error_rate):
        share = traffic.errors / traffic.requests
        yield (
            f"failed requests: {traffic.errors:,} of {traffic.requests:,} ({share:.1%}), "
            f"tolerated {guard.max_error_rate:.1%}"
        )
    timed, limit = sum(traffic.latency.values()), guard.max_latency_ms
    if limit is not None and unlikely(_slower(traffic, limit), timed, SLOW):
        percentile = summary.percentile(traffic)
        yield f"latency: 95th percentile {percentile:g} ms of {timed:,} requests, tolerated {limit:g} ms"


def unlikely(count: int, trials: int, probability: float) -> bool:
    """Whether so many of the trials would come out so by chance more rarely than ``CHANCE``.

    >>> unlikely(10, 50, 0.1), unlikely(16, 50, 0.1), unlikely(0, 0, 0.1)
    (False, True, False)
    """
    if count <= trials * probability or probability >= 1:
        return False
    share = count / trials
    divergence = share * math.log(share / probability)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - probability))
    return trials * divergence >= -math.log(CHANCE)


def _slower(traffic: Traffic, limit: float) -> int:
    """Requests that surely took longer: those in buckets that begin at the limit or above it."""
    edges = sorted(traffic.latency)
    begins = dict(zip(edges, [0.0, *edges], strict=False))
    return sum(count for edge, count in traffic.latency.items() if begins[edge] >= limit)
