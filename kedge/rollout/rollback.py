"""A rollback by hand: end a release that runs, or put the champion before this one back."""

from __future__ import annotations

from dataclasses import replace

from kedge.errors import Conflict, UsageError
from kedge.rollout.model import Rollout, Route, Slot, other
from kedge.rollout.release import Outcome, Release, end, finish, wait_ready
from kedge.store.identity import require


def rollback(release: Release, *, reason: str, actor: str = "") -> Outcome:
    """Roll the candidate back if a release runs, else give all traffic to the bundle that served before.

    One write of the route where the other bundle still runs; else it is deployed first. May be repeated.

    Args:
        release: Without a bundle.
        reason: Why; kept in the record and told to whoever tries to release the bundle again.
        actor: Who; the record's default otherwise.

    Raises:
        UsageError: nothing served before.
        SlotNotReady: the bundle to go back to does not come up; the traffic stays where it is.
    """
    while True:
        try:
            return _once(release, reason, actor)
        except Conflict:
            release.sleep(0.1)


def _once(release: Release, reason: str, actor: str) -> Outcome:
    route = release.driver.route()
    rollout = route.rollout
    if rollout is not None and rollout.state == "promoted":  # decided already: finish it, then go back from it
        finish(release, route, rollout)
        route, rollout = release.driver.route(), None
    if rollout is None:
        champion = route.champion
        if champion is None:
            raise UsageError(f"{release.policy.name}: no model is served, so there is nothing to roll back")
        rollout = back_from(release, champion)
        route = replace(route, rollout=rollout)
        wait_ready(release, other(champion), str(rollout.champion))
    if not rollout.ended:
        route = end(release, route, rollout, "rolled-back", reason, actor)
    return finish(release, route, route.rollout or rollout)


def back_from(release: Release, champion: Slot) -> Rollout:
    """The release that made the champion, as if it still ran: rolling it back is what is asked for."""
    require(release.store)
    state = release.state()
    bundle = release.driver.slot(champion).bundle or ""
    before = state.before(bundle)
    if before is None:
        raise UsageError(
            f"{release.policy.name}: no bundle served before {bundle[:12]}, so there is none to go back to"
        )
    now = release.clock()
    return Rollout(
        bundle=bundle,
        uri=release.uri(bundle),
        slot=champion,
        champion=before,
        attempt=state.release_attempts(bundle),
        run="",
        started=now,
        since=now,
        state="bake",
    )


def served(route: Route) -> str:
    """The weights in words.

    >>> served(Route(weights={"blue": 95, "green": 5}))
    'blue 95 %, green 5 %'
    """
    return ", ".join(f"{slot} {weight} %" for slot, weight in sorted(route.weights.items()) if weight) or "nobody"
