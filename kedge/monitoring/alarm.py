"""When a bad sign, seen again and again, is believed; and when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Whether a bad sign has been seen long enough to be believed."""

    on: bool
    count: int
    """Bad checks in a row."""
    since: datetime | None
    """Start of the first of their windows."""
    labels: int
    """Labels that became known in windows since then that do not overlap."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one check of this reign, past or present, says about one sign."""

    bad: bool | None
    """None: no verdict."""
    start: datetime
    end: datetime
    labels: int
    evidence: str
    """What it was seen on: a second look at the same evidence counts for nothing."""


def alarm(looks: Iterable[Look], needed: int) -> Alarm:
    """Fold looks, oldest first, into an alarm with hysteresis.

    ``needed`` bad looks in a row switch it on; ``needed`` good ones in a row switch it off, so that one lucky window
    does not end it. A look without a verdict, or at evidence already seen, counts neither way.
    """
    on, bad, good = False, 0, 0
    since: list[Look] = []
    seen: str | None = None
    for look in looks:
        if look.bad is None or look.evidence == seen:
            continue
        seen = look.evidence
        if look.bad:
            bad, good = bad + 1, 0
            on = on or bad >= needed
        else:
            bad, good = 0, good + 1
            on = on and good < needed
        if on or bad:
            since.append(look)
        else:
            since.clear()
    return Alarm(on=on, count=bad, since=since[0].start if since else None, labels=_disjoint_labels(since))


def _disjoint_labels(looks: Sequence[Look]) -> int:
    """Labels of windows that do not overlap, newest first: a lower bound where windows are longer than the time between
    checks."""
    total = 0
    start: datetime | None = None
    for look in reversed(looks):
        if start is None or look.end <= start:
            total, start = total + look.labels, look.start
    return total
