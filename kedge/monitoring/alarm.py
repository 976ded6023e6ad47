"""When a signal that was breached again and again is believed; and when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Whether a signal has been breached long enough to be believed."""

    on: bool
    count: int
    """Bad checks in a row."""
    since: datetime | None
    """Start of the first of their windows."""
    labels: int
    """Labels that became known in windows since then that do not overlap."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one check of this tenure, past or present, says about one signal."""

    breached: bool | None
    """None: no verdict."""
    start: datetime
    end: datetime
    labels: int
    evidence_id: str
    """What it was seen on: a second observation of the same evidence counts for nothing."""


def alarm(observations: Iterable[Observation], needed: int) -> Alarm:
    """Fold observations, oldest first, into an alarm with hysteresis.

    ``needed`` breaches in a row switch it on; ``needed`` good ones in a row switch it off, so that one lucky window
    does not end it. An observation without a verdict, or of evidence already seen, counts neither way.
    """
    on, breaches, good = False, 0, 0
    since: list[Observation] = []
    seen: str | None = None
    for observation in observations:
        if observation.breached is None or observation.evidence_id == seen:
            continue
        seen = observation.evidence_id
        if observation.breached:
            breaches, good = breaches + 1, 0
            on = on or breaches >= needed
        else:
            breaches, good = 0, good + 1
            on = on and good < needed
        if on or breaches:
            since.append(observation)
        else:
            since.clear()
    return Alarm(on=on, count=breaches, since=since[0].start if since else None, labels=_disjoint_labels(since))


def _disjoint_labels(observations: Sequence[Observation]) -> int:
    """Labels of windows that do not overlap, newest first: a lower bound where windows are longer than the time between
    checks."""
    total = 0
    start: datetime | None = None
    for observation in reversed(observations):
        if start is None or observation.end <= start:
            total, start = total + observation.labels, observation.start
    return total
