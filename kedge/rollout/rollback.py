"""A rollback by hand: end a release that runs, or put the champion before this one back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from kedge.clock import span
from kedge.errors import Conflict, UsageError
from kedge.records import ModelState, RolledBack
from kedge.rollout.model import Rollout, Route, Slot, other
from kedge.rollout.release import Outcome, Release, end, finish, wait_ready
from kedge.store.identity import require

MIN_DIGITS = 8
"""Of a bundle's id, so that it names one."""
INCIDENT = timedelta(hours=1)
"""A rollback so soon after another is meant for the same fault: it goes no further back unless it names the bundle.

No field of the policy gives it: it is how long people and alarms take to act on one fault, which neither a short bake
makes shorter nor a week of it longer; and `--to` goes back at once."""


def rollback(release: Release, *, reason: str, actor: str = "", to: str = "") -> Outcome:
    """Roll the candidate back if a release runs, else give all traffic to the bundle that served before.

    One write of the route where the other bundle still runs; else it is deployed first. May be repeated: by two people
    at once, or by one and the guard, it goes back once.

    Args:
        release: Without a bundle.
        reason: Why; kept in the record and told to whoever tries to release the bundle again.
        actor: Who; the record's default otherwise.
        to: The first digits of the bundle to go back to, 8 or more: goes further back so soon after another rollback.

    Raises:
        UsageError: nothing served before, or another bundle than ``to``.
        SlotNotReady: the bundle to go back to does not come up; the traffic stays where it is.
    """
    while True:
        try:
            return _once(release, reason, actor, to)
        except Conflict:
            release.sleep(0.1)


def _once(release: Release, reason: str, actor: str, to: str) -> Outcome:
    route = release.driver.route()
    rollout = route.rollout
    if rollout is not None and rollout.state == "promoted":  # decided already: finish it, then go back from it
        finish(release, route, rollout)
        route, rollout = release.driver.route(), None
    if rollout is None:
        champion = route.champion
        if champion is None:
            raise UsageError(f"{release.policy.name}: no model is served, so there is nothing to roll back")
        require(release.store)  # else an empty one would say that nobody served before
        serving = release.driver.slot(champion).bundle or ""
        done = unchanged(release.state(), release.policy.name, serving, to, release.clock())
        if done is not None:
            return done
        rollout = back_from(release, champion)
        route = replace(route, rollout=rollout)
        wait_ready(release, other(champion), str(rollout.champion))
    if not rollout.ended:
        must_lead_to(rollout.champion or "none", to, release.policy.name)
        route = end(release, route, rollout, "rolled-back", reason, actor)
    return finish(release, route, route.rollout or rollout)


def back_from(release: Release, champion: Slot) -> Rollout:
    """The release that made the champion, as if it still ran: rolling it back is what is asked for."""
    state = release.state()
    bundle = release.driver.slot(champion).bundle or ""
    before, now = served_before(state, release.policy.name, bundle), release.clock()
    return Rollout(
        bundle=bundle,
        uri=release.uri(bundle),
        slot=champion,
        champion=before,
        attempt=state.last_attempt(bundle),
        run="",
        started=now,
        since=now,
        state="bake",
    )


def served_before(state: ModelState, model: str, bundle: str) -> str:
    """The bundle that a rollback of this one goes back to.

    Raises:
        UsageError: there is none.
    """
    before = state.before(bundle)
    if before is None:
        raise UsageError(f"{model}: no bundle served before {bundle[:12]}, so there is none to go back to")
    return before


def unchanged(state: ModelState, model: str, serving: str, to: str, now: datetime) -> Outcome | None:
    """Why nothing is rolled back, as that is done already; None: it is to be done.

    Raises:
        UsageError: ``to`` is no bundle that can be gone back to.
    """
    if len(to) >= MIN_DIGITS and serving.startswith(to):
        return Outcome(result="rolled-back", reason=f"bundle {serving[:12]} serves already: nothing was changed")
    if to:
        must_lead_to(served_before(state, model, serving), to, model)
        return None
    ends = [end for each in state.releases for end in (each.promoted, each.rolled_back) if end is not None]
    last = max(ends, key=lambda item: item.order, default=None)
    if last is None or not isinstance(last.data, RolledBack) or last.data.not_started:
        return None
    if abs(now - last.time) >= INCIDENT:  # dated ahead: by a clock that was wrong
        return None
    ago, before = span(max(now - last.time, timedelta(0))), state.before(serving)
    further = f"; `kedge rollback --to {before[:12]}` goes further back" if before else ""
    return Outcome(
        result="rolled-back",
        reason=f"nothing was changed: bundle {last.data.bundle[:12]} was rolled back {ago} ago by {last.actor}: "
        f"{last.data.reason}; {serving[:12]} serves since{further}",
    )


def must_lead_to(before: str, to: str, model: str) -> None:
    """Refuse the name of another bundle than the one that a rollback leads to; an empty name is none.

    Raises:
        UsageError: it is another's, or too short.
    """
    if to and (len(to) < MIN_DIGITS or not before.startswith(to)):
        raise UsageError(f"{model}: --to {to!r}: a rollback leads to bundle {before[:12]} now: --to {before[:12]}")


def served(route: Route) -> str:
    """The weights in words.

    >>> served(Route(weights={"blue": 95, "green": 5}))
    'blue 95 %, green 5 %'
    """
    return ", ".join(f"{slot} {weight} %" for slot, weight in sorted(route.weights.items()) if weight) or "nobody"
