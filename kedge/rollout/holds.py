"""Why a release whose evidence is complete does not go on yet: people's will, never lack of evidence. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from kedge.policy.release import Freeze
from kedge.policy.release import Release as Rules
from kedge.records import ModelState
from kedge.rollout.model import Rollout, State

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def held(rules: Rules, rollout: Rollout, following: State, step: int, records: ModelState, now: datetime) -> str:
    """Why the following state is not begun now, in words; empty: it may be.

    Holding is not for a candidate that is worse: that one is rolled back at any time.
    """
    if rollout.suspended:
        return f"suspended: {rollout.suspended}; `kedge resume` lets it go on"
    if rules.suspend:
        return "the policy says release.suspend"
    window = next((each for each in rules.freeze if frozen(each, now)), None)
    if window is not None:
        return f"no share rises now: freeze {described(window)} (UTC)"
    if following == "canary" and rules.steps[step].approval == "manual":
        name = rules.steps[step].label
        if not records.step_approved(rollout.bundle, name, rollout.started):
            return f"step {name} waits for `kedge approve {rollout.bundle[:12]} --step {name}`"
    return ""


def frozen(window: Freeze, now: datetime) -> bool:
    """Whether a moment lies in a window: in all that the window names. Hours after midnight are the day's before.

    >>> from datetime import UTC
    >>> friday = datetime(2026, 3, 6, 17, 30, tzinfo=UTC)
    >>> frozen(Freeze(weekdays=("fri",), hours=(16, 24)), friday), frozen(Freeze(hours=(22, 6)), friday)
    (True, False)
    >>> frozen(Freeze(weekdays=("fri",), hours=(22, 6)), datetime(2026, 3, 7, 5, tzinfo=UTC))
    True
    """
    if window.since is not None and now < window.since:
        return False
    if window.until is not None and now >= window.until:
        return False
    begins, ends = window.hours or (0, 24)
    hour = now.hour + now.minute / 60
    late = begins >= ends and hour < ends  # of a window that began the evening before
    day = DAYS[(now - timedelta(days=late)).weekday()]
    if window.weekdays and day not in window.weekdays:
        return False
    return late or begins <= hour < (ends if begins < ends else 24)


def described(window: Freeze) -> str:
    """A window in words.

    >>> described(Freeze(weekdays=("sat", "sun")))
    'on sat, sun'
    """
    parts = [f"since {window.since:%Y-%m-%d %H:%M}"] if window.since is not None else []
    parts += [f"until {window.until:%Y-%m-%d %H:%M}"] if window.until is not None else []
    parts += [f"on {', '.join(window.weekdays)}"] if window.weekdays else []
    parts += [f"from {window.hours[0]} to {window.hours[1]} o'clock"] if window.hours is not None else []
    return " ".join(parts)
