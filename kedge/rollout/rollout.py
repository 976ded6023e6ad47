"""The release as a state machine whose state lies on the route.

    deploy -> smoke -> [shadow] -> canary step 1..n -> bake -> promoted
       \\________\\_________\\______________\\___________\\____-> rolled-back

Each round reads the route, does what its state asks for, and writes the next state by compare-and-swap. Every effect
may be repeated, so a rollout whose process was killed goes on where it stood, and of two processes that work on the
same rollout one loses the swap and looks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from kedge import clock, records
from kedge.bundle import Bundle, address, golden_difference
from kedge.errors import Conflict, KedgeError, ReleaseError, SlotNotReady
from kedge.policy import Policy
from kedge.records import ModelState, Promoted, Record, ReleaseStarted, RolledBack
from kedge.rollout import summary
from kedge.rollout.driver import Driver
from kedge.rollout.evidence import Evidence, Observed
from kedge.rollout.judge import judge
from kedge.rollout.model import Mirror, Rollout, Route, Slot, Span, State, Traffic, other
from kedge.store import Store

Observe = Callable[[Rollout, Sequence[Span]], Sequence[Observed]]
"""Adds labelled outcomes to spans."""
Publish = Callable[[ModelState], None]
"""Shows elsewhere what the records say now. Again is harmless."""

MAX_BLIND_LOOKS = 5
"""Looks in a row without evidence after which a candidate is rolled back: nobody could see it fail."""
MAX_WAIT = 1.0
"""Seconds between looks at a slot that is coming up."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a release ended."""

    result: Literal["promoted", "rolled-back", "refused"]
    reason: str
    not_started: bool = False
    """Rolled back before any process was begun with the bundle, which therefore may be released again."""


@dataclass(kw_only=True)
class Release:
    """One release of one bundle: what :func:`run` works with."""

    driver: Driver
    policy: Policy
    store: Store
    publish: Publish
    observe: Observe
    bundle: Bundle | None = None
    """The candidate; None to finish or roll back what stands on the route."""
    run: str = ""
    """Name of the pipeline run, for the records."""
    clock: Callable[[], datetime] = clock.now
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda _text: None
    blind: int = field(default=0, init=False)
    """Looks in a row without evidence."""

    def state(self) -> ModelState:
        """What the records say of the model by now."""
        return records.read_state(self.store, self.policy.name)

    def uri(self, bundle: str) -> str:
        """Where a bundle lies."""
        return self.store.uri(address(self.policy.name, bundle))


def run(release: Release) -> Outcome:
    """Release a bundle, or go on with a release of it that was interrupted; returns when its traffic is decided.

    Raises:
        ReleaseError: the platform does not answer; the rollout stands as it is and can be gone on with.
        StoreError, RegistryError: as they say; the same holds.
    """
    mine: Rollout | None = None
    while True:
        try:
            route = release.driver.route()
            if mine is None:
                begun = _begin(release, route)
                if isinstance(begun, Outcome):
                    return begun
                mine = begun
            elif not _same(route.rollout, mine):
                return _ended_elsewhere(release, mine)
            else:
                outcome = _act(release, route, route.rollout or mine)
                if outcome is not None:
                    return outcome
        except Conflict:
            release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))


def roll_back(release: Release, route: Route, rollout: Rollout, reason: str, actor: str = "") -> Route:
    """Give all traffic to the champion and none to the candidate, mirrored or not, in one write of the route."""
    champion = other(rollout.slot)
    if rollout.champion is not None and not route.weights.get(champion):
        wait_ready(release, champion, rollout.champion)
    ended = replace(rollout, state="rolled-back", since=release.clock(), reason=reason, actor=actor)
    weights: dict[Slot, int] = {champion: 100} if rollout.champion is not None else {}
    release.say(f"rolled back: {reason}")
    return release.driver.set_route(replace(route, weights=weights, mirror=None, rollout=ended))


def finish(release: Release, route: Route, rollout: Rollout) -> Outcome:
    """Record the decision, show it, empty the slot that lost its traffic, clear the route. May be repeated."""
    result: Literal["promoted", "rolled-back"] = "promoted" if rollout.state == "promoted" else "rolled-back"
    _record(release, result, rollout)
    release.publish(release.state())
    loser = other(rollout.slot) if rollout.state == "promoted" else rollout.slot
    release.driver.remove(loser)
    release.driver.set_route(replace(route, rollout=None))
    return Outcome(result=result, reason=rollout.reason, not_started=rollout.not_started)


def wait_ready(release: Release, slot: Slot, bundle: str) -> None:
    """Have a bundle in a slot, ready. Raises SlotNotReady after ``ready_seconds``, or at once if it cannot come up."""
    began = release.clock()
    while True:
        release.driver.deploy(slot, bundle, release.uri(bundle))
        status = release.driver.slot(slot)
        if status.ready and status.bundle == bundle:
            return
        waited = (release.clock() - began).total_seconds()
        if status.failed or waited > release.policy.release.ready_seconds:
            raise SlotNotReady(
                f"slot {release.policy.name}-{slot} with bundle {bundle[:12]} not ready after {waited:,.0f} s: "
                f"{status.reason or 'it gave no reason'}"
            )
        release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))


def _begin(release: Release, route: Route) -> Rollout | Outcome:
    """The rollout to work on: the one on the route if it is of this bundle, else a new one."""
    if release.bundle is None:
        raise ReleaseError("a release needs a bundle")
    bundle, rollout = release.bundle.id, route.rollout
    if rollout is not None:
        if rollout.bundle != bundle:
            return Outcome(
                result="refused",
                reason=f"bundle {rollout.bundle[:12]} is being released since {rollout.started:%Y-%m-%d %H:%M} UTC "
                f"(now: {rollout.state}); wait for it, or roll it back with `kedge rollback`",
            )
        release.say(f"going on with {bundle[:12]} at: {rollout.state}")
        if rollout.state == "deploy":  # the time to come up counts from the process that waits for it
            rollout = replace(rollout, since=release.clock())
            release.driver.set_route(replace(route, rollout=rollout))
        return rollout
    if release.policy.release.shadow_percent > 0 and not release.driver.mirrors:
        return Outcome(
            result="refused",
            reason="the policy asks for a shadow, and this platform cannot mirror requests: "
            "set release.shadow_percent to 0, or release through gateway:NAMESPACE",
        )
    champion = route.champion
    serving = release.driver.slot(champion).bundle if champion else None
    if serving == bundle:
        return Outcome(result="promoted", reason=f"bundle {bundle[:12]} already has all traffic")
    refused = _refused(release, bundle)
    if refused:
        return Outcome(result="refused", reason=refused)
    now = release.clock()
    rollout = Rollout(
        bundle=bundle,
        uri=release.uri(bundle),
        slot=other(champion) if champion else "blue",
        champion=serving,
        attempt=release.state().release_attempts(bundle) + 1,
        run=release.run,
        started=now,
        since=now,
    )
    release.driver.set_route(replace(route, rollout=rollout))
    return rollout


def _refused(release: Release, bundle: str) -> str | None:
    state = release.state()
    if release.policy.release.approval == "manual" and not state.approved(bundle):
        return f"bundle {bundle[:12]} waits for approval: kedge approve --policy FILE {bundle}"
    back = state.rolled_back(bundle)
    if back is None:
        return None
    return (
        f"bundle {bundle[:12]} was rolled back at {back.time:%Y-%m-%d %H:%M} UTC: {back.data.reason}; "
        "`kedge approve` releases it all the same"
    )


def _act(release: Release, route: Route, rollout: Rollout) -> Outcome | None:
    """One round."""
    match rollout.state:
        case "deploy":
            _deploy(release, route, rollout)
        case "smoke":
            _smoke(release, route, rollout)
        case "shadow" | "canary" | "bake":
            _watch(release, route, rollout)
        case "promoted" | "rolled-back":
            return finish(release, route, rollout)
    return None


def _deploy(release: Release, route: Route, rollout: Rollout) -> None:
    _record(release, "release-started", rollout)
    release.driver.deploy(rollout.slot, rollout.bundle, rollout.uri)
    status = release.driver.slot(rollout.slot)
    waited = (release.clock() - rollout.since).total_seconds()
    if status.ready and status.bundle == rollout.bundle:
        _go(release, route, rollout, "smoke")
    elif status.failed or waited > release.policy.release.ready_seconds:
        said = status.reason or "it gave no reason"
        rollout = replace(rollout, not_started=status.not_started and status.bundle == rollout.bundle)
        roll_back(release, route, rollout, f"slot {rollout.slot} not ready after {waited:,.0f} s: {said}")
    else:
        release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))


def _smoke(release: Release, route: Route, rollout: Rollout) -> None:
    fault = _smoke_fault(release, rollout)
    if fault:
        roll_back(release, route, rollout, fault)
    elif rollout.champion is None:
        reason = "the model's first release; golden rows agree in the slot"
        ended = replace(rollout, state="promoted", since=release.clock(), reason=reason)
        release.driver.set_route(replace(route, weights={rollout.slot: 100}, rollout=ended))
    else:
        _go(release, route, rollout, *_after(release.policy, rollout))


def _smoke_fault(release: Release, rollout: Rollout) -> str | None:
    """What is wrong with the golden rows when they are predicted again in the slot."""
    if release.bundle is None:
        raise ReleaseError("the smoke test needs the bundle's golden rows")
    tolerance = release.policy.release.smoke_tolerance
    try:
        difference = golden_difference(release.bundle, lambda rows: release.driver.predict(rollout.slot, rows))
    except ReleaseError as exc:
        return f"smoke: {exc}"
    if difference <= tolerance:
        return None
    return (
        f"smoke: golden rows predicted in slot {rollout.slot} differ by {difference:.3g} from training, "
        f"tolerated {tolerance:g}: what serves is not what was trained"
    )


def _watch(release: Release, route: Route, rollout: Rollout) -> None:
    """Look at the evidence of a span once."""
    try:
        evidence = _evidence(release, rollout)
        release.blind = 0
    except Conflict:
        raise
    except KedgeError as exc:
        release.blind += 1
        if release.blind >= MAX_BLIND_LOOKS:
            roll_back(release, route, rollout, f"no evidence could be read {release.blind} times in a row: {exc}")
        else:
            release.sleep(release.policy.release.interval_seconds)
        return
    ended = replace(rollout, spans=(*rollout.spans, replace(evidence.current.span, ended=release.clock())))
    decision = judge(evidence, release.policy)
    worse = (*_silent(release, rollout), *(decision.reasons if decision.action == "roll back" else ()))
    if worse:
        roll_back(release, route, ended, "; ".join(worse))
    elif decision.action == "advance":
        _go(release, route, ended, *_after(release.policy, rollout))
    else:
        release.sleep(release.policy.release.interval_seconds)


def _silent(release: Release, rollout: Rollout) -> tuple[str, ...]:
    """Why the candidate's slot is not ready, if two looks in a row find it so: a dead one gets no requests to judge."""
    if release.driver.slot(rollout.slot).ready:
        return ()
    release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))
    status = release.driver.slot(rollout.slot)
    return () if status.ready else (f"slot {rollout.slot} is not ready: {status.reason or 'it gave no reason'}",)


def _evidence(release: Release, rollout: Rollout) -> Evidence:
    """Spans that ended and the one that runs, with what was counted and labelled in each."""
    if rollout.mark is None:
        raise ReleaseError(f"the rollout on the route of {release.policy.name} counts from nowhere")
    readings = release.driver.readings(rollout.mark)
    release.driver.flush()
    candidate = readings.mirrored if rollout.state == "shadow" else readings.live
    span = Span(
        state=rollout.state,
        percent=_percent(release.policy, rollout),
        began=rollout.since,
        candidate=candidate.get(rollout.slot, Traffic()),
        champion=_reference(release.policy, rollout, readings.live.get(other(rollout.slot), Traffic())),
    )
    observed = tuple(release.observe(rollout, (*rollout.spans, span)))
    return Evidence(observed=observed, seconds=(release.clock() - rollout.since).total_seconds())


def _reference(policy: Policy, rollout: Rollout, champion: Traffic) -> Traffic:
    """What the candidate is compared with: the champion of the same minutes or, where that one has no traffic, the
    champion of the first canary step, in which it bore the most."""
    first = next((span.champion for span in rollout.spans if span.state == "canary"), None)
    alone = rollout.state != "shadow" and _percent(policy, rollout) == 100
    return first if alone and first is not None else champion


def _go(release: Release, route: Route, rollout: Rollout, state: State, step: int = 0) -> None:
    """Write the next state and the traffic that belongs to it. Counting begins before the traffic moves."""
    following = replace(rollout, state=state, step=step, since=release.clock(), mark=None)
    if state in ("shadow", "canary", "bake"):
        following = replace(following, mark=release.driver.mark())
    if state == "promoted":
        following = replace(following, reason="no worse than the champion at every step and while baking")
    release.say(
        f"{rollout.bundle[:12]}: {state}" + (f" {_percent(release.policy, following)} %" if state == "canary" else "")
    )
    release.driver.set_route(_with_traffic(release.policy, route, following))


def _with_traffic(policy: Policy, route: Route, rollout: Rollout) -> Route:
    slot, champion = rollout.slot, other(rollout.slot)
    if rollout.state == "shadow":
        mirror = Mirror(slot=slot, percent=policy.release.shadow_percent)
        return replace(route, weights={champion: 100}, mirror=mirror, rollout=rollout)
    if rollout.state == "canary":
        percent = _percent(policy, rollout)
        return replace(route, weights={champion: 100 - percent, slot: percent}, mirror=None, rollout=rollout)
    if rollout.state in ("bake", "promoted"):
        return replace(route, weights={slot: 100}, mirror=None, rollout=rollout)
    return replace(route, rollout=rollout)


def _after(policy: Policy, rollout: Rollout) -> tuple[State, int]:
    """State and step that follow a state that went well."""
    if rollout.state == "smoke" and policy.release.shadow_percent > 0:
        return "shadow", 0
    if rollout.state in ("smoke", "shadow"):
        return "canary", 0
    if rollout.state == "canary" and rollout.step + 1 < len(policy.release.steps):
        return "canary", rollout.step + 1
    return ("bake", 0) if rollout.state == "canary" else ("promoted", 0)


def _percent(policy: Policy, rollout: Rollout) -> int:
    if rollout.state == "shadow":
        return policy.release.shadow_percent
    return policy.release.steps[rollout.step].percent if rollout.state == "canary" else 100


def _same(rollout: Rollout | None, mine: Rollout) -> bool:
    return rollout is not None and (rollout.bundle, rollout.attempt) == (mine.bundle, mine.attempt)


def _ended_elsewhere(release: Release, mine: Rollout) -> Outcome:
    """Someone else finished the rollout: another process of the same run, or a person."""
    key = f"{mine.bundle}-{mine.attempt}"
    for ended in release.state().releases:
        if ended.key == key and ended.promoted is not None:
            return Outcome(result="promoted", reason=ended.promoted.data.reason)
        if ended.key == key and ended.rolled_back is not None:
            back = ended.rolled_back.data
            return Outcome(result="rolled-back", reason=back.reason, not_started=back.not_started)
    raise ReleaseError(f"the rollout {key} of {release.policy.name} is gone from the route and has no record")


def _record(release: Release, kind: Literal["release-started", "promoted", "rolled-back"], rollout: Rollout) -> None:
    data: ReleaseStarted | Promoted | RolledBack
    about: dict[str, Any] = {
        "bundle": rollout.bundle,
        "attempt": rollout.attempt,
        "run": rollout.run,
        "slot": rollout.slot,
        "previous": rollout.champion,
    }
    if kind == "release-started":
        data = ReleaseStarted(**about)
    else:
        about |= {"reason": rollout.reason, "evidence": _evidence_kept(release, rollout)}
        rolled_back = kind == "rolled-back"
        data = RolledBack(**about, not_started=rollout.not_started) if rolled_back else Promoted(**about)
    key = f"{rollout.bundle}-{rollout.attempt}"
    made = Record(model=release.policy.name, key=key, time=release.clock(), data=data, actor=rollout.actor)
    records.append(release.store, made)


def _evidence_kept(release: Release, rollout: Rollout) -> tuple[dict[str, object], ...]:
    if not rollout.spans:
        return ()
    try:
        return tuple(summary.of(seen) for seen in release.observe(rollout, rollout.spans))
    except KedgeError:  # the log cannot be read: the gateway's counts are still worth keeping
        return tuple(summary.of(Observed(span=span)) for span in rollout.spans)
