"""A look at a release whose candidate gets requests: who answers, what was seen, what follows.

| candidate answers | champion answers | then |
|---|---|---|
| yes | yes | the evidence is judged: worse, no worse, or not judged yet |
| no | yes | all traffic to the champion; the candidate's server has ``ready_seconds`` to come back |
| yes | no | all traffic to the candidate, which absolute limits judge until the champion is back for good |
| no | no | nothing moves |

Lack of evidence ends a release without a verdict, and never moves traffic to a slot that does not answer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from kedge.errors import Conflict, KedgeError, ReleaseError
from kedge.policy import Policy
from kedge.rollout import holds, progress, states
from kedge.rollout.evidence import Evidence
from kedge.rollout.judge import judge
from kedge.rollout.limits import exceeded
from kedge.rollout.model import Readings, Rollout, Route, Slot, SlotStatus, Span, Traffic, other
from kedge.rollout.release import MAX_WAIT, End, Release, end, move

MAX_BLIND_LOOKS = 5
"""Looks in a row without evidence after which nobody could see a candidate fail: it gets no more traffic."""
MAX_CRASHES = 2
"""Ends of the candidate's server while it had traffic after which the bundle is at fault."""
MAX_DEPARTURES = 5
"""Times the candidate's server may be gone, by whatever cause, before the release ends without a verdict."""
STEADY = timedelta(seconds=60)
"""How long a champion that failed must have answered at every look before it gets traffic again."""


def watch(release: Release, route: Route, rollout: Rollout) -> None:
    """Look once at a shadow, a step or the bake."""
    candidate, champion = _slots(release, rollout)
    answers, champion_answers = candidate.serves(rollout.bundle), champion.serves(rollout.champion)
    dead = _trouble(other(rollout.slot), champion)
    if not answers and not champion_answers:
        release.pause(text=f"neither slot answers: {_trouble(rollout.slot, candidate)}; {dead}")
        return
    if not answers:
        _depart(release, route, rollout, candidate)
        return
    if not champion_answers:
        cut = _cut(release, rollout, "the champion did not answer")
        release.say(f"{dead}: all traffic to the candidate, which answers")
        move(release, route, replace(cut, left=rollout.state), "failover", rollout.step)
        return
    rollout = replace(rollout, crashes=_crashes(rollout, candidate))
    if rollout.crashes >= MAX_CRASHES:
        _give_up(release, route, _cut(release, rollout, "the candidate's server ended"), candidate, "its server ended")
        return
    evidence = _seen(release, route, rollout)
    if evidence is None:
        return
    ended = replace(rollout, spans=(*rollout.spans, replace(evidence.current.span, ended=release.clock())))
    decision, rules, now = judge(evidence, release.policy), release.policy.release, release.clock()
    if decision.action in ("roll back", "give up"):
        found = progress.seen(release.policy, rollout, now, evidence, decision)
        state: End = "rolled-back" if decision.action == "roll back" else "not-judged"
        end(release, route, ended, state, "; ".join(decision.reasons), looks=found.looks)
    elif decision.action == "advance" and rollout.drill:
        end(release, route, ended, "not-judged", "the drill's candidate was not found out at its first share")
    elif decision.action == "advance":
        following, step = states.TABLE[rollout.state].following(rules, rollout.step)
        held = holds.held(rules, rollout, following, step, release.state(), now)
        if held:
            release.pause(progress.seen(release.policy, rollout, now, evidence, decision, held=held))
        elif following == "promoted":
            reason = "no worse than the champion at every step and while baking"
            end(release, route, ended, "promoted", reason)
        else:
            move(release, route, ended, following, step)
    elif rollout.state != "bake" and evidence.seconds >= rules.max_step_seconds and not rollout.suspended:
        place = f"{rollout.state} {evidence.current.span.percent} %"
        late = f"{evidence.seconds:,.0f} s at {place} without enough evidence: {', '.join(decision.reasons)}"
        end(release, route, ended, "not-judged", late)
    else:
        release.pause(progress.seen(release.policy, rollout, now, evidence, decision))


def wait(release: Release, route: Route, rollout: Rollout) -> None:
    """Look once at a candidate without traffic whose server was gone."""
    release.driver.deploy(rollout.slot, rollout.bundle, rollout.uri)
    candidate = release.driver.slot(rollout.slot)
    waited = (release.clock() - rollout.since).total_seconds()
    if candidate.ready and candidate.bundle == rollout.bundle:
        move(release, route, replace(rollout, left=None), rollout.left or "canary", rollout.step)
    elif candidate.failed or waited > release.policy.release.ready_seconds:
        _give_up(release, route, rollout, candidate, f"{_trouble(rollout.slot, candidate)} after {waited:,.0f} s")
    else:
        release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))


def fail_over(release: Release, route: Route, rollout: Rollout) -> None:
    """Look once at a candidate that has all traffic because the champion did not answer."""
    candidate, champion = _slots(release, rollout)
    now, answers = release.clock(), candidate.serves(rollout.bundle)
    dead = _trouble(other(rollout.slot), champion)
    release.steady = (release.steady or now) if champion.serves(rollout.champion) else None
    if not answers and release.steady is not None:
        _depart(release, route, rollout, candidate)
        return
    if not answers:
        release.pause(text=f"neither slot answers: {_trouble(rollout.slot, candidate)}; {dead}")
        return
    if words := edited(route, rollout):
        if release.steady is not None:
            end(release, route, rollout, "not-judged", words)
        else:
            release.say(f"{words}. {dead}: all traffic to the candidate again")
            move(release, route, rollout, "failover", rollout.step)
        return
    evidence = _seen(release, route, rollout)
    if evidence is None:
        return
    rules, span = release.policy.release, evidence.current.span
    beyond = exceeded(span.candidate, rules.guard)
    ended = replace(rollout, spans=(*rollout.spans, replace(span, ended=now)))
    if release.steady is not None and (beyond or now - release.steady >= STEADY):
        if beyond:
            end(release, route, ended, "rolled-back", f"without a champion beside it: {'; '.join(beyond)}")
        else:
            move(release, route, replace(ended, left=None), rollout.left or "canary", rollout.step)
        return
    lacking = states.lacking(states.TABLE["failover"].needs(rules, rollout.step), evidence)
    if beyond:
        release.pause(text=f"the candidate exceeds a limit ({'; '.join(beyond)}), but {dead}: it keeps the traffic")
    elif lacking or release.steady is not None or rollout.drill:
        release.pause(progress.seen(release.policy, rollout, now, evidence, None))
    else:
        held = f"{span.candidate.requests:,} requests, {span.candidate.errors:,} of them failed"
        reason = f"{dead}; the candidate answered all traffic within the guard's limits: {held}"
        end(release, route, ended, "promoted", reason)


def _slots(release: Release, rollout: Rollout) -> tuple[SlotStatus, SlotStatus]:
    """Both slots: candidate, champion. What does not answer is looked at twice, as one look may be unlucky."""
    slots = rollout.slot, other(rollout.slot)
    bundles = rollout.bundle, rollout.champion
    found = [release.driver.slot(slot) for slot in slots]
    if not all(status.serves(bundle) for status, bundle in zip(found, bundles, strict=True)):
        release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))
        found = [
            release.driver.slot(slot) if not status.serves(bundle) else status
            for slot, status, bundle in zip(slots, found, bundles, strict=True)
        ]
    return found[0], found[1]


def _depart(release: Release, route: Route, rollout: Rollout, candidate: SlotStatus) -> None:
    """Take the traffic from a candidate whose server is gone, and let it come back if it may."""
    why = _trouble(rollout.slot, candidate)
    cut = _cut(release, rollout, "the candidate did not answer")
    left = rollout.left if rollout.state == "failover" else rollout.state
    gone = replace(cut, left=left, departures=rollout.departures + 1, crashes=_crashes(rollout, candidate))
    if candidate.failed or gone.crashes >= MAX_CRASHES or gone.departures > MAX_DEPARTURES:
        _give_up(release, route, gone, candidate, why)
    else:
        release.say(f"{why}: no traffic until it is back")
        move(release, route, gone, "waiting", rollout.step)


def _crashes(rollout: Rollout, candidate: SlotStatus) -> int:
    """How often the candidate's server ended by itself since it was ready first, back meanwhile or not."""
    return max(rollout.crashes, candidate.ends - rollout.ends)


def _give_up(release: Release, route: Route, rollout: Rollout, candidate: SlotStatus, why: str) -> None:
    """End a release whose candidate's server is gone: the bundle's fault only where its own server ended or hangs."""
    often = f": {rollout.crashes} times by itself since it was ready" if rollout.crashes > 1 else ""
    guilty = (
        candidate.failed
        or rollout.crashes >= MAX_CRASHES
        or (rollout.departures <= MAX_DEPARTURES and not candidate.not_started)
    )
    end(release, route, rollout, "rolled-back" if guilty else "not-judged", why + often)


def _seen(release: Release, route: Route, rollout: Rollout) -> Evidence | None:
    """The evidence so far; None where it could not be read, after which the release waits or ends."""
    try:
        evidence = _evidence(release, rollout)
    except Conflict:
        raise
    except KedgeError as exc:
        release.blind += 1
        if release.blind < MAX_BLIND_LOOKS:
            release.pause(text=f"the evidence cannot be read: {exc}")
        elif rollout.state == "failover":
            raise
        else:
            reason = f"no evidence could be read {release.blind} times in a row: {exc}"
            end(release, route, rollout, "not-judged", reason)
        return None
    release.blind = 0
    return evidence


def _evidence(release: Release, rollout: Rollout) -> Evidence:
    """Spans that ended and the one that runs, with what was counted and labelled in each.

    Spans that were cut short by a dead slot show that slot's failures, whosever fault they are: they are not judged.
    """
    if rollout.mark is None:
        raise ReleaseError(f"the rollout on the route of {release.policy.name} counts from nowhere")
    readings = release.driver.readings(rollout.mark)
    release.driver.flush()
    span = _span(release.policy, rollout, readings)
    span = replace(span, champion=_reference(release.policy, rollout, span.champion))
    judged = [each for each in rollout.spans if not each.cut and states.TABLE[each.state].compared == "champion"]
    observed = tuple(release.observe(rollout, (*judged, span)))
    return Evidence(observed=observed, seconds=(release.clock() - rollout.since).total_seconds())


def _reference(policy: Policy, rollout: Rollout, champion: Traffic) -> Traffic:
    """What the candidate is compared with: the champion of the same minutes or, where that one has no traffic, the
    champion of the shadow or the first step, in which it bore the most."""
    spans = (span for span in rollout.spans if span.state in ("shadow", "canary") and not span.cut)
    first = next((span.champion for span in spans), None)
    alone = rollout.state != "shadow" and states.share(policy.release, rollout) == 100
    return first if alone and first is not None else champion


def _cut(release: Release, rollout: Rollout, why: str) -> Rollout:
    """The rollout with its span ended and marked as cut short; what cannot be counted is left out."""
    if rollout.mark is None:
        return rollout
    try:
        readings = release.driver.readings(rollout.mark)
    except Conflict:
        raise
    except KedgeError:
        return rollout
    span = replace(_span(release.policy, rollout, readings), ended=release.clock(), cut=why)
    return replace(rollout, spans=(*rollout.spans, span))


def _span(policy: Policy, rollout: Rollout, readings: Readings) -> Span:
    """The span that runs, with what both slots answered in it."""
    candidate = readings.mirrored if rollout.state == "shadow" else readings.live
    return Span(
        state=rollout.state,
        percent=states.share(policy.release, rollout),
        began=rollout.since,
        candidate=candidate.get(rollout.slot, Traffic()),
        champion=readings.live.get(other(rollout.slot), Traffic()),
    )


def _trouble(slot: Slot, status: SlotStatus) -> str:
    return f"slot {slot} is not ready: {status.reason or 'it gave no reason'}"


def edited(route: Route, rollout: Rollout) -> str:
    """That another hand wrote the weights, in words; empty: they are as the release wrote them."""
    found, written = dict(route.weights), rollout.weights
    if written is None or found == dict(written):
        return ""
    return (
        f"the route was edited by another hand while the release ran: weights {found} instead of {dict(written)}; "
        "change traffic with `kedge rollback`, not on the route"
    )
