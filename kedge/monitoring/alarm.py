"""Whether the served error rose: a sequential two-sample test, valid however often it is looked at.

The alarm tells people and has a stated error rate. What pays for a retraining is another question:
:mod:`kedge.monitoring.regret`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

THRESHOLD = 9.2
"""Evidence, in nats, that opens the alarm. Where nothing changes at most 2 % of 200 looks and 5 % of 720 looks (a month
of hours) open one, by simulation over looks of 10 to 1,000 rows at rates of 2 to 35 %."""
CLOSING = 3.0
"""Evidence, in nats, that ends it: for the newest rows being nearer to the level before than to the risen one."""
MAX_SPANS = 60
"""Checks that are remembered one by one; of older ones two become one."""

MIN_SCATTER_SPANS = 8
"""Checks before which nothing is said of how much they scatter."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Rows judged by one check or by several in a row: count, sum of their values, sum of squares, end."""

    rows: int
    total: float
    square: float
    end: datetime

    def __add__(self, other: Span) -> Span:
        return Span(
            rows=self.rows + other.rows,
            total=self.total + other.total,
            square=self.square + other.square,
            end=max(self.end, other.end),
        )


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """The state after a check."""

    baseline: Span
    """The level before: the reference's rows, and those of a champion that held a lower one."""
    spans: tuple[Span, ...] = ()
    """Rows of the champion since, oldest first."""
    open: bool = False
    since: datetime | None = None
    """When the rise began, by the split that explains it best."""
    level: float = 0.0
    """Mean of the risen rows when the alarm opened."""
    evidence: float = 0.0
    """In nats, for a rise, at this check."""
    rise: float = 0.0
    """Mean after the best split over the mean before, minus 1."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Alarm:
        """As :meth:`to_dict` wrote it."""
        since = data.get("since")
        return cls(
            baseline=_span(data["baseline"]),
            spans=tuple(_span(item) for item in data["spans"]),
            open=data["open"],
            since=datetime.fromisoformat(since) if since else None,
            level=data["level"],
            evidence=data["evidence"],
            rise=data["rise"],
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "baseline": _plain(self.baseline),
            "spans": [_plain(span) for span in self.spans],
            "open": self.open,
            "since": self.since.isoformat() if self.since else None,
            "level": self.level,
            "evidence": self.evidence,
            "rise": self.rise,
        }


def observe(alarm: Alarm, span: Span, *, bound: float | None, min_increase: float) -> Alarm:
    """Fold the rows that one check judged.

    For every split of the rows since the baseline into before and after, the evidence of a rise is

        n1 KL(m1, m) + n0 KL(m0, m),   KL(a, b) = a ln(a / b) + (1 - a) ln((1 - a) / (1 - b))

    with means m1 after, m0 before and m over both, values scaled to [0, 1] by ``bound``: the log likelihood ratio of
    two rates against one, and for any bounded value at most what Hoeffding's inequality allows. Values without a bound
    take (m1 - m0)² / (2 v (1/n1 + 1/n0)), v their variance. Where checks scatter more than their rows say, because rows
    depend on each other, it is divided by that factor. The alarm opens when the largest reaches ``THRESHOLD`` with a
    rise of at least ``min_increase``; it ends when the newest rows, by ``CLOSING`` nats, are nearer to the level
    before.

    Args:
        alarm: State before.
        span: What the check judged; without rows the state stays.
        bound: Largest value a row can have; None: there is none.
        min_increase: Effect floor, as a share of the level before.

    References:
        D. Siegmund, E. S. Venkatraman (1995), Using the generalized likelihood ratio statistic for sequential detection
        of a change-point, Annals of Statistics 23, 255-271.
    """
    if not span.rows:
        return alarm
    spans = _merged((*alarm.spans, span))
    if alarm.open:
        state = replace(alarm, spans=spans, evidence=0.0)
        return _closed(state) if _is_back(state, bound) else state
    evidence, index = _strongest(alarm.baseline, spans, bound)
    before, after = _split(alarm.baseline, spans, index)
    rise = _relative(_mean(after), _mean(before))
    opens = evidence >= THRESHOLD and rise >= min_increase
    begin = spans[index - 1].end if index else alarm.baseline.end
    return replace(
        alarm,
        baseline=before if opens else alarm.baseline,
        spans=spans[index:] if opens else spans,
        open=opens,
        since=begin if opens else None,
        level=_mean(after) if opens else 0.0,
        evidence=evidence,
        rise=rise,
    )


def begin_tenure(alarm: Alarm, reference: Span) -> Alarm:
    """After another bundle became champion. An open alarm stays open: a new model is no proof that the level is back.

    The baseline stays the lowest level held, so that a poor champion is not its own yardstick.
    """
    if alarm.open:
        return replace(alarm, spans=())
    own = alarm.spans[0] if alarm.spans else None
    for span in alarm.spans[1:]:
        own = span if own is None else own + span
    candidates = [alarm.baseline, reference, *([own] if own is not None else [])]
    enough = [span for span in candidates if span.rows]
    return replace(alarm, baseline=min(enough, key=_mean) if enough else alarm.baseline, spans=())


def _strongest(baseline: Span, spans: Sequence[Span], bound: float | None) -> tuple[float, int]:
    """The largest evidence over all splits, and the index of the first span after it."""
    best, index = 0.0, len(spans) - 1
    everything = baseline
    for span in spans:
        everything = everything + span
    before, scatter = baseline, _Scatter()
    for position, span in enumerate(spans):
        if before.rows:
            after = _less(everything, before)
            if _mean(after) > _mean(before):
                found = _evidence(before, after, bound) / scatter.factor(before)
                if found >= best:
                    best, index = found, position
        before = before + span
        scatter.add(span)
    return best, index


def _less(whole: Span, part: Span) -> Span:
    return Span(
        rows=whole.rows - part.rows, total=whole.total - part.total, square=whole.square - part.square, end=whole.end
    )


def _evidence(before: Span, after: Span, bound: float | None) -> float:
    if bound is None:
        both = before + after
        variance = max(both.square / both.rows - _mean(both) ** 2, 1e-300)
        return (_mean(after) - _mean(before)) ** 2 / (2 * variance * (1 / after.rows + 1 / before.rows))
    m0, m1, m = _mean(before) / bound, _mean(after) / bound, _mean(before + after) / bound
    return after.rows * _divergence(m1, m) + before.rows * _divergence(m0, m)


def _divergence(a: float, b: float) -> float:
    """Kullback-Leibler divergence of two rates, in nats.

    >>> round(_divergence(0.15, 0.1), 4)
    0.0122
    """
    a, b = min(max(a, 0.0), 1.0), min(max(b, 1e-12), 1 - 1e-12)
    first = a * math.log(a / b) if a > 0 else 0.0
    return first + ((1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0)


class _Scatter:
    """How much more the means of checks vary than independent rows would make them."""

    def __init__(self) -> None:
        self._count, self._rows, self._total, self._squares = 0, 0, 0.0, 0.0

    def add(self, span: Span) -> None:
        self._count += 1
        self._rows += span.rows
        self._total += span.total
        self._squares += span.total**2 / span.rows

    def factor(self, before: Span) -> float:
        """1 unless it is clearly more: beyond the upper 5 % of what chance gives, by its normal approximation."""
        variance = before.square / before.rows - _mean(before) ** 2
        if self._count < MIN_SCATTER_SPANS or variance <= 0:
            return 1.0
        between = self._squares - self._total**2 / self._rows
        ratio = between / ((self._count - 1) * variance)
        return max(1.0, ratio / (1 + 1.64 * math.sqrt(2 / (self._count - 1))))


def _is_back(alarm: Alarm, bound: float | None) -> bool:
    """Whether some newest rows lie below the middle of both levels by ``CLOSING`` nats."""
    middle = (_mean(alarm.baseline) + alarm.level) / 2
    newest = None
    for span in reversed(alarm.spans):
        newest = span if newest is None else newest + span
        if _mean(newest) < middle and _below(newest, middle, bound) >= CLOSING:
            return True
    return False


def _below(span: Span, level: float, bound: float | None) -> float:
    if bound is None:
        variance = max(span.square / span.rows - _mean(span) ** 2, 1e-300)
        return span.rows * (level - _mean(span)) ** 2 / (2 * variance)
    return span.rows * _divergence(_mean(span) / bound, level / bound)


def _closed(alarm: Alarm) -> Alarm:
    return replace(alarm, open=False, since=None, level=0.0, spans=(), evidence=0.0, rise=0.0)


def _merged(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """At most ``MAX_SPANS``: of the older half two neighbours become one."""
    if len(spans) <= MAX_SPANS:
        return spans
    half = MAX_SPANS // 2
    old, new = spans[:half], spans[half:]
    return (*(a + b for a, b in zip(old[::2], old[1::2], strict=True)), *new)


def _split(baseline: Span, spans: Sequence[Span], index: int) -> tuple[Span, Span]:
    before, after = baseline, spans[index]
    for span in spans[:index]:
        before = before + span
    for span in spans[index + 1 :]:
        after = after + span
    return before, after


def _mean(span: Span) -> float:
    return span.total / span.rows if span.rows else 0.0


def _relative(value: float, reference: float) -> float:
    return value / reference - 1 if reference > 0 else (0.0 if value <= 0 else 1e9)


def _plain(span: Span) -> list[Any]:
    return [span.rows, span.total, span.square, span.end.isoformat()]


def _span(values: Sequence[Any]) -> Span:
    rows, total, square, end = values
    return Span(rows=rows, total=total, square=square, end=datetime.fromisoformat(end))
