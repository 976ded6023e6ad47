"""What a candidate's server needs and gives before it has any traffic: latency under load, memory, size, start.

Requests are sent at a fixed rate whether answers come or not (an open loop), and a latency counts from the moment at
which its request was due: a server that falls behind cannot hide it by slowing its client down.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kedge.errors import ReleaseError
from kedge.policy.release import Capacity

MAX_WAITING = 64
"""Requests under way at once; of a server that is so far behind the rest of the latencies is its queue's."""
PERCENT = 0.95
MEGABYTE = 1e6
NORMAL = 1.96
"""Two-sided 95 % of a normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure of the server against its limit."""

    name: str
    unit: str
    limit: float
    value: float | None
    """None: it could not be measured."""
    low: float | None = None
    high: float | None = None
    """Two-sided 95 % interval; None: one measurement has none."""
    why: str = ""
    """Why it could not be measured."""

    @property
    def passed(self) -> bool:
        """Whether it is not shown to be above the limit."""
        least = self.low if self.low is not None else self.value
        return least is None or least <= self.limit

    @property
    def sentence(self) -> str:
        """The figure and its limit."""
        if self.value is None:
            return f"{self.name} could not be measured: {self.why}; limit {self.limit:g} {self.unit}"
        interval = ""
        if self.low is not None and self.high is not None:
            interval = f" (95 % interval {self.low:.3g} to {self.high:.3g})"
        word = "within" if self.passed else "above"
        return f"{self.name} {self.value:.3g} {self.unit}{interval}, {word} the limit of {self.limit:g} {self.unit}"


def checked(
    rules: Capacity, send: Callable[[], object], memory: Callable[[], float], *, size: float, start_seconds: float
) -> Iterator[Check]:
    """Every limited figure, whichever fails.

    Args:
        rules: The limits.
        send: Ask the server for one prediction.
        memory: Bytes that the server's process has resident.
        size: Bytes of the bundle.
        start_seconds: From the order for the bundle to a server that was ready.
    """
    if rules.max_size_mb is not None:
        yield Check(name="size", unit="MB", limit=rules.max_size_mb, value=size / MEGABYTE)
    if rules.max_start_seconds is not None:
        yield Check(name="start", unit="s", limit=rules.max_start_seconds, value=start_seconds)
    if rules.max_p95_ms is not None:
        yield _latency(open_loop(send, rules.requests_per_second, rules.seconds), rules.max_p95_ms)
    if rules.max_memory_mb is not None:  # after the load, which is what makes a server grow
        try:
            value, why = memory() / MEGABYTE, ""
        except ReleaseError as exc:
            value, why = None, str(exc)
        yield Check(name="memory", unit="MB", limit=rules.max_memory_mb, value=value, why=why)


def open_loop(send: Callable[[], object], rate: float, seconds: float) -> list[float]:
    """Seconds that each request took from when it was due; infinite for one that failed."""
    count = max(1, round(rate * seconds))
    began = time.monotonic()

    def one(due: float) -> float:
        try:
            send()
        except ReleaseError:
            return math.inf
        return time.monotonic() - due

    with ThreadPoolExecutor(MAX_WAITING) as pool:
        asked = []
        for number in range(count):
            due = began + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            asked.append(pool.submit(one, due))
        return [each.result() for each in asked]


def _latency(seconds: Sequence[float], limit: float) -> Check:
    """The 95th percentile with an interval by order statistics: ranks n p ± 1.96 sqrt(n p (1 - p))."""
    ordered, count = sorted(1000 * each for each in seconds), len(seconds)
    middle, reach = count * PERCENT, NORMAL * math.sqrt(count * PERCENT * (1 - PERCENT))
    value, low, high = (
        ordered[min(max(math.ceil(rank), 1), count) - 1] for rank in (middle, middle - reach, middle + reach)
    )
    return Check(name="latency, 95th percentile,", unit="ms", limit=limit, value=value, low=low, high=high)
