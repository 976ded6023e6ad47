"""What the log itself says about quiet windows: the same hours of earlier weeks, and how much windows vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import reduce

from kedge.drift import Profile, count
from kedge.drift.columns import Categories
from kedge.drift.design_effects import MIN_BLOCKS, design_effects
from kedge.monitoring.window import comparable
from kedge.policy import Policy
from kedge.records import Window
from kedge.store import Store
from kedge.tables import log

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Baseline:
    """What earlier windows tell about this one."""

    reference: Profile | None = None
    """The same hours of earlier weeks; None: compare with the training rows."""
    design_effects: Mapping[str, float] = field(default_factory=dict)
    """Of rows that depend on each other, by column; empty: they count as independent."""


NOTHING = Baseline()


def estimated(
    store: Store, policy: Policy, window: Window, profile: Profile, left_out: Sequence[Window] = ()
) -> Baseline:
    """What the policy asks to learn from the log, on the profile's edges; windows that touch those left out are none.

    Weeks with fewer than ``min_rows`` rows in all, or too few windows with so many, teach nothing.
    """
    drift, least = policy.monitor.drift, policy.monitor.min_rows
    if not drift.seasonal_weeks and not drift.past_windows:
        return NOTHING
    profile = profile.select([name for name in comparable(policy) if name in profile.columns])
    length = window.end - window.start

    def counted(windows: int, step: timedelta) -> list[Profile]:
        earlier = (_moved(window, k * step) for k in range(1, windows + 1))
        whole = [one for one in earlier if not any(out.start < one.end and one.start < out.end for out in left_out)]
        return [_counted(store, policy, one, profile) for one in whole]

    weeks = reduce(Profile.merge, counted(drift.seasonal_weeks, WEEK), count(profile, []))
    blocks = [block for block in counted(drift.past_windows, length) if block.rows >= least]
    return Baseline(
        reference=_as_reference(weeks) if weeks.rows >= least else None,
        design_effects=design_effects(blocks) if len(blocks) >= MIN_BLOCKS else {},
    )


def _counted(store: Store, policy: Policy, window: Window, profile: Profile) -> Profile:
    names = list(profile.columns)
    parts = log.read_parts(store, policy, window.start, window.end, columns=names, labels="none")
    return count(profile, (batch for part in parts for batch in part.select(names).to_batches()))


def _moved(window: Window, back: timedelta) -> Window:
    return Window(start=window.start - back, end=window.end - back)


def _as_reference(profile: Profile) -> Profile:
    """Values the training rows never held are to be expected as often as these weeks had them."""
    columns = {
        name: replace(column, singletons=column.new) if isinstance(column, Categories) else column
        for name, column in profile.columns.items()
    }
    return replace(profile, columns=columns)
