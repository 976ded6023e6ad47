"""The release as a state machine whose state lies on the route.

    deploy -> smoke -> [shadow] -> canary step 1..n -> bake -> promoted
       \\________\\_________\\______________\\___________\\____-> rolled-back, or not-judged

Each round reads the route, does what its state asks for, and writes the next state by compare-and-swap. Every effect
may be repeated, so a rollout whose process was killed goes on where it stood, and of two processes that work on the
same rollout one loses the swap and looks again. What each state does stands in one table: :mod:`kedge.rollout.states`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from kedge.bundle import golden_difference
from kedge.clock import span
from kedge.errors import Conflict, ReleaseError, SlotNotReady
from kedge.policy import Policy
from kedge.records import ModelState
from kedge.rollout import capacity, holds, progress, smoke, states
from kedge.rollout.model import Rollout, Route, other
from kedge.rollout.release import MAX_DRIFT, MAX_WAIT, End, Outcome, Release, end, finish, move, record
from kedge.rollout.watch import edited, fail_over, wait, watch


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
            elif jump := _jump(release, route.rollout or mine):
                _follow_clock(release, route, route.rollout or mine, jump)
            else:
                outcome = _act(release, route, route.rollout or mine)
                if outcome is not None:
                    return outcome
        except Conflict:
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
        if rollout.state in ("deploy", "smoke", "waiting"):  # time to come up counts from the process that waits for it
            rollout = replace(rollout, since=release.clock())
            release.driver.set_route(replace(route, rollout=rollout))
        return _follow_policy(release, route, rollout) if rollout.state in ("canary", "bake") else rollout
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
    refused = refusal(release.policy, release.state(), bundle)
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
        weights=route.weights,
        drill=release.drilled is not None,
    )
    release.driver.set_route(replace(route, rollout=rollout))
    return rollout


def _follow_policy(release: Release, route: Route, rollout: Rollout) -> Rollout:
    """The rollout by the steps of a policy that may have changed since: a share that the policy has no more is begun
    anew, at a step no larger than it had."""
    rules, weights = release.policy.release, dict(route.weights)
    if rollout.weights is None or weights != dict(rollout.weights):
        return rollout
    share = weights.get(rollout.slot, 0)
    following = replace(rollout, step=states.step_at(rules, share) if rollout.state == "canary" else 0)
    if states.traffic(rules, following)[0] != weights:
        release.say(f"the policy changed and has no {rollout.state} at {share} % any more: begun anew")
        return move(release, route, following, rollout.state, following.step).rollout or following
    if following != rollout:
        release.driver.set_route(replace(route, rollout=following))
    return following


def refusal(policy: Policy, state: ModelState, bundle: str) -> str | None:
    """Why a bundle may not be released, by its records; None: it may."""
    if policy.release.approval == "manual" and not state.approved(bundle):
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
    if rollout.state != "failover" and not rollout.ended and (words := edited(route, rollout)):
        end(release, route, rollout, "not-judged", words)
        return None
    match rollout.state:
        case "deploy":
            _deploy(release, route, rollout)
        case "smoke":
            _smoke(release, route, rollout)
        case "shadow" | "canary" | "bake":
            watch(release, route, rollout)
        case "waiting":
            wait(release, route, rollout)
        case "failover":
            fail_over(release, route, rollout)
        case "promoted" | "rolled-back" | "not-judged":
            return finish(release, route, rollout)
    return None


def _jump(release: Release, rollout: Rollout) -> timedelta:
    """How far the clock was set since the last look, or since a process before began the state; 0: it was not."""
    if release.monotonic is None or rollout.ended:
        return timedelta(0)
    before, release.looked = release.looked, release.offset()
    if before is not None:
        return release.jump(before)
    early = release.clock() - rollout.since
    return early if early < -MAX_DRIFT else timedelta(0)


def _follow_clock(release: Release, route: Route, rollout: Rollout, jump: timedelta) -> None:
    """Count the state's time on as if the clock had not been set: else a candidate that comes up is late at once, a
    bake is over unseen, or a step lasts for a year."""
    word = "ahead" if jump > timedelta(0) else "back"
    release.say(f"the clock was set {word} by {span(abs(jump))}: that time does not count")
    release.steady = release.told_at = release.answered = None
    release.driver.set_route(replace(route, rollout=replace(rollout, since=rollout.since + jump)))


def _deploy(release: Release, route: Route, rollout: Rollout) -> None:
    record(release, rollout)
    release.driver.deploy(rollout.slot, rollout.bundle, rollout.uri)
    status = release.driver.slot(rollout.slot)
    waited = (release.clock() - rollout.since).total_seconds()
    if status.ready and status.bundle == rollout.bundle:
        move(release, route, replace(rollout, ends=status.ends), "smoke")
    elif status.failed or waited > release.policy.release.ready_seconds:
        said = status.reason or "it gave no reason"
        rollout = replace(rollout, not_started=status.not_started and status.bundle == rollout.bundle)
        reason = f"slot {rollout.slot} not ready after {waited:,.0f} s: {said}"
        end(release, route, rollout, "not-judged" if rollout.not_started else "rolled-back", reason)
    else:
        release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))


def _smoke(release: Release, route: Route, rollout: Rollout) -> None:
    try:
        fault = _smoke_fault(release, rollout) or _capacity_fault(release, rollout)
    except SlotNotReady as exc:  # nobody answered: that alone shows nothing about the bundle
        status = release.driver.slot(rollout.slot)
        waited = (release.clock() - (release.answered or rollout.since)).total_seconds()
        if status.failed or waited > release.policy.release.ready_seconds:
            guilty = status.failed or status.ends > rollout.ends
            why = status.reason or str(exc)
            end(release, route, rollout, "rolled-back" if guilty else "not-judged", f"smoke: {why}")
        else:
            release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))
        return
    following, step = states.TABLE["smoke"].following(release.policy.release, 0)
    now = release.answered = release.clock()
    held = "" if fault else holds.held(release.policy.release, rollout, following, step, release.state(), now)
    if fault:
        end(release, route, rollout, "rolled-back", fault)
    elif held:
        release.pause(progress.of(release.policy, rollout, now, held=held))
    elif rollout.champion is None:
        end(release, route, rollout, "promoted", "the model's first release; golden rows agree in the slot")
    else:
        move(release, route, rollout, following, step)


def _smoke_fault(release: Release, rollout: Rollout) -> str | None:
    """What is wrong with the golden rows when they are predicted again in the slot."""
    if release.bundle is None:
        raise ReleaseError("the smoke test needs the bundle's golden rows")
    tolerance = release.policy.release.smoke_tolerance
    try:
        difference = golden_difference(release.bundle, lambda rows: release.driver.predict(rollout.slot, rows))
    except SlotNotReady:
        raise
    except ReleaseError as exc:
        return f"smoke: {exc}"
    if difference <= tolerance:
        return None
    return (
        f"smoke: golden rows predicted in slot {rollout.slot} differ by {difference:.3g} from training, "
        f"tolerated {tolerance:g}: what serves is not what was trained"
    )


def _capacity_fault(release: Release, rollout: Rollout) -> str | None:
    """Which limits on its server the candidate exceeds; every one is looked at, once, and said.

    Raises:
        SlotNotReady: the server was taken away meanwhile, as by a drain: its figures say nothing.
    """
    assert release.bundle is not None
    if not release.policy.release.capacity.limited or release.sized == rollout.bundle or rollout.drill:
        return None
    status = release.driver.slot(rollout.slot)
    if status.address is None:
        raise SlotNotReady(f"capacity: {status.reason or 'the slot has no address'}")
    base, rows = status.address, release.bundle.golden_rows()[:1]
    http, name, model = release.driver.http, f"slot {rollout.slot}", release.policy.name
    checks = capacity.checked(
        release.policy.release.capacity,
        send=lambda: smoke.predict(http, name, base, model, rows),
        memory=lambda: smoke.memory(http, base),
        size=release.bundle.size,
        start_seconds=(rollout.since - rollout.started).total_seconds(),
    )
    sentences = [(check.passed, check.sentence) for check in checks]
    after = release.driver.slot(rollout.slot)
    if not after.ready and after.ends <= rollout.ends:
        raise SlotNotReady(f"capacity: {after.reason or 'its server is gone'}")
    for _, sentence in sentences:
        release.say(sentence)
    release.sized = rollout.bundle
    faults = [sentence for passed, sentence in sentences if not passed]
    return f"capacity: {'; '.join(faults)}" if faults else None


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
            result: End = "rolled-back" if back.condemned else "not-judged"
            return Outcome(result=result, reason=back.reason, not_started=back.not_started)
    if mine.drill:
        raise ReleaseError(f"{release.policy.name}: the drill was ended by another drill or a rollback")
    raise ReleaseError(f"the rollout {key} of {release.policy.name} is gone from the route and has no record")
