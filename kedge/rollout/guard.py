"""The circuit breaker: absolute limits on whoever serves, after a release has ended too.

It looks at the driver's counters over a stretch of time. A champion that exceeds a
limit of ``release.guard``, or does not answer, goes back to the one before as long as that one is kept and answers. It
is condemned only when that one, asked the same minutes later, keeps the limit: an outage of both is nobody's fault, and
brings the champion back. A running release judges its candidate itself, and is only looked after here when nobody works
on it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from kedge.clock import span
from kedge.errors import Conflict
from kedge.records import Promoted, Record
from kedge.rollout import progress
from kedge.rollout.limits import exceeded
from kedge.rollout.model import Route, Slot, Traffic, other
from kedge.rollout.release import End, Release, end, finish
from kedge.rollout.rollback import back_from, rollback
from kedge.store.identity import require

ABANDONED = timedelta(minutes=10)
"""Age of a running release's last look from which nobody works on it."""
PATIENCE = timedelta(minutes=10)
"""How long the traffic stays after it was given back, as who served before was no better."""
ACTOR = "guard"

Verdict = Literal[
    "nobody serves", "within limits", "exceeds limits", "not judged", "rolled back", "a release runs", "changed"
]
"""``exceeds limits``: there is nothing to roll back to; ``not judged``: a rollback leads to no better."""


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
    """Count for so many seconds, and roll back a champion that exceeds a limit or does not answer.

    Args:
        release: Without a bundle.
        seconds: How long to count; once more where the traffic moved, to compare.

    Raises:
        ReleaseError: the platform does not answer; nothing was changed.
        StoreError: the store is empty where there was one; nothing was changed.
    """
    route = release.driver.route()
    if route.rollout is not None and route.rollout.ended and _abandoned(release):
        finish(release, route, route.rollout)  # its traffic was decided by somebody who was ended then
        route = release.driver.route()
    watched = _watched(release, route)
    if watched is None:
        return Guarded(verdict="a release runs" if route.rollout is not None else "nobody serves")
    silent, offset = _silent(release, watched), release.offset()
    mark = release.driver.mark()
    release.sleep(seconds)
    live = release.driver.readings(mark).live
    traffic = live.get(watched, Traffic())
    if release.driver.route().revision != route.revision:
        return Guarded(verdict="changed", requests=traffic.requests)  # what was counted is of two times
    silent = silent and _silent(release, watched)
    reasons = (silent,) if silent else exceeded(traffic, release.policy.release.guard)
    if not reasons:
        removed = "" if release.jump(offset) else _no_longer_kept(release, route)
        return Guarded(verdict="within limits", requests=traffic.requests, removed=removed)
    require(release.store)  # else an empty one would say that nobody served before
    before = _no_rollback(release, route)
    if before is not None:
        return Guarded(verdict="exceeds limits", reasons=(*reasons, before), requests=traffic.requests)
    common = _also(release, live, other(watched)) or _given_back(release)
    if common:
        return Guarded(verdict="not judged", reasons=(*reasons, common), requests=traffic.requests)
    try:
        common = _go_back(release, route, reasons, seconds, guilty=not silent)
    except Conflict:
        return Guarded(verdict="changed", requests=traffic.requests)
    if common:
        return Guarded(verdict="not judged", reasons=(*reasons, common), requests=traffic.requests)
    return Guarded(verdict="rolled back", reasons=reasons, requests=traffic.requests)


def _go_back(release: Release, route: Route, reasons: tuple[str, ...], seconds: float, *, guilty: bool) -> str:
    """Give the traffic to who served before; why it was given back, or nothing.

    A champion that did not answer is replaced without a verdict. One that answered badly is condemned after the one
    before kept the limits for as long.
    """
    reason = f"guard: {'; '.join(reasons)}"
    if route.rollout is not None:
        rollback(release, reason=reason, actor=ACTOR)
        return ""
    champion = route.champion
    assert champion is not None
    rollout = back_from(release, champion)
    state: End = "rolled-back" if guilty else "not-judged"
    gone = end(release, replace(route, rollout=rollout), rollout, state, reason, ACTOR)
    if guilty:
        mark = release.driver.mark()
        release.sleep(seconds)
        common = _also(release, release.driver.readings(mark).live, other(champion))
        if common:
            release.driver.set_route(replace(gone, weights=route.weights, mirror=route.mirror, rollout=None))
            release.store.put(_place(release), release.clock().isoformat().encode())
            return common
    finish(release, gone, gone.rollout or rollout)
    return ""


def _given_back(release: Release) -> str:
    """That the traffic was given back a moment ago; empty: it was not."""
    try:
        time = datetime.fromisoformat(release.store.get(_place(release)).decode())
    except (KeyError, ValueError):
        return ""
    passed = release.clock() - time
    return f"who served before was no better {span(passed)} ago" if timedelta() <= passed < PATIENCE else ""


def _place(release: Release) -> str:
    return f"releases/{release.policy.name}/given-back"


def _also(release: Release, live: Mapping[Slot, Traffic], slot: Slot) -> str:
    """How the other slot exceeds a limit by what it answered itself, however little that is; empty: it does not."""
    guard = release.policy.release.guard.model_copy(update={"min_requests": 1})
    reasons = exceeded(live.get(slot, Traffic()), guard)
    return f"so does slot {slot} ({'; '.join(reasons)}): the cause is outside of both" if reasons else ""


def _silent(release: Release, slot: Slot) -> str:
    """Why nothing in a slot answers; empty: something does."""
    status = release.driver.slot(slot)
    return "" if status.serves(status.bundle) else f"slot {slot} does not answer: {status.reason or 'it says nothing'}"


def _abandoned(release: Release) -> bool:
    """Whether nobody works on the release on the route any more."""
    seen = progress.read(release.store, release.policy.name)
    patience = max(ABANDONED, 3 * timedelta(seconds=release.policy.release.interval_seconds))
    return seen is not None and release.clock() - seen.time > patience


def _watched(release: Release, route: Route) -> Slot | None:
    """The slot to look at: the champion's, or that of a candidate whose release nobody works on any more."""
    if route.rollout is None:
        return route.champion
    candidate, carried = route.rollout.slot, not route.rollout.ended and route.weights.get(route.rollout.slot)
    return candidate if carried and _abandoned(release) else None


def _no_rollback(release: Release, route: Route) -> str | None:
    """Why one change of weights can roll nothing back, in words; None: it can."""
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
