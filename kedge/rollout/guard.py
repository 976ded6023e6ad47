"""The circuit breaker: absolute limits on whoever serves, after a release has ended too.

It looks at the driver's counters over a stretch of time and keeps nothing between two looks. A champion that exceeds a
limit of ``release.guard`` goes back to the one before as long as that one is kept; a running release judges its
candidate itself, and is only looked after here when nobody works on it any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from kedge.errors import Conflict
from kedge.records import Promoted, Record
from kedge.rollout import progress
from kedge.rollout.limits import exceeded
from kedge.rollout.model import Route, Slot, Traffic, other
from kedge.rollout.release import Release
from kedge.rollout.rollback import rollback

ABANDONED = timedelta(minutes=10)
"""Age of a running release's last look from which nobody works on it."""
ACTOR = "guard"

Verdict = Literal["nobody serves", "within limits", "exceeds limits", "rolled back", "a release runs", "changed"]


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """What one look saw and did."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    requests: int = 0
    removed: str = ""
    """Bundle whose slot was emptied, as its time to be kept is over."""

    def __str__(self) -> str:
        text = f"{self.verdict}, {self.requests:,} requests" if self.requests else self.verdict
        text += f": {'; '.join(self.reasons)}" if self.reasons else ""
        return text + (f"; bundle {self.removed[:12]} is no longer kept" if self.removed else "")


def look(release: Release, seconds: float) -> Guarded:
    """Count for so many seconds, and roll back a champion that exceeds a limit.

    Args:
        release: Without a bundle.
        seconds: How long to count.

    Raises:
        ReleaseError: the platform does not answer; nothing was changed.
    """
    route = release.driver.route()
    watched = _watched(release, route)
    if watched is None:
        return Guarded(verdict="a release runs" if route.rollout is not None else "nobody serves")
    mark = release.driver.mark()
    release.sleep(seconds)
    traffic = release.driver.readings(mark).live.get(watched, Traffic())
    if release.driver.route().revision != route.revision:
        return Guarded(verdict="changed", requests=traffic.requests)  # what was counted is of two times
    reasons = exceeded(traffic, release.policy.release.guard)
    if not reasons:
        removed = _no_longer_kept(release, route)
        return Guarded(verdict="within limits", requests=traffic.requests, removed=removed)
    before = _way_back(release, route)
    if before is not None:
        return Guarded(verdict="exceeds limits", reasons=(*reasons, before), requests=traffic.requests)
    rollback(release, reason=f"guard: {'; '.join(reasons)}", actor=ACTOR)
    return Guarded(verdict="rolled back", reasons=reasons, requests=traffic.requests)


def _watched(release: Release, route: Route) -> Slot | None:
    """The slot to look at: the champion's, or that of a candidate whose release nobody works on any more."""
    if route.rollout is None:
        return route.champion
    seen = progress.read(release.store, release.policy.name)
    patience = max(ABANDONED, 3 * timedelta(seconds=release.policy.release.interval_seconds))
    abandoned = seen is not None and release.clock() - seen.time > patience
    candidate = route.rollout.slot
    return candidate if abandoned and not route.rollout.ended and route.weights.get(candidate) else None


def _way_back(release: Release, route: Route) -> str | None:
    """Why there is no way back within one change of weights, in words; None: there is."""
    if route.rollout is not None:
        slot, bundle = other(route.rollout.slot), route.rollout.champion
    else:
        champion = route.champion
        assert champion is not None
        slot, bundle = other(champion), release.state().previous
    if bundle is None:
        return "no bundle served before"
    if not release.driver.slot(slot).serves(bundle):
        return f"bundle {bundle[:12]}, which served before, is not kept any more; `kedge rollback` deploys it"
    return None


def _no_longer_kept(release: Release, route: Route) -> str:
    """Empty the slot of a replaced champion whose time is over; its bundle, or nothing."""
    champion = route.champion
    if route.rollout is not None or champion is None:
        return ""
    slot = other(champion)
    bundle, promoted = release.driver.slot(slot).bundle, _promoted(release)
    if bundle is None or promoted is None or release.clock() < promoted.time + _kept(release):
        return ""
    try:
        if release.driver.route().revision != route.revision:
            return ""  # a release begins
        release.driver.remove(slot)
    except Conflict:
        return ""
    return bundle


def _promoted(release: Release) -> Record[Promoted] | None:
    """The newest promotion."""
    promotions = (each.promoted for each in release.state().releases if each.promoted is not None)
    return max(promotions, key=lambda item: item.time, default=None)


def _kept(release: Release) -> timedelta:
    return timedelta(seconds=release.policy.release.guard.keep_seconds)
