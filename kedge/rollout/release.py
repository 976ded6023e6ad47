"""One release: what it works with, how its state moves on, how it ends. Every effect may be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from kedge import clock, records
from kedge.bundle import Bundle, address
from kedge.errors import KedgeError, SlotNotReady
from kedge.policy import Policy
from kedge.records import ModelState, Promoted, Record, ReleaseStarted, RolledBack
from kedge.rollout import progress, states, summary
from kedge.rollout.driver import Driver
from kedge.rollout.evidence import Observed
from kedge.rollout.model import Rollout, Route, Slot, Span, State, other
from kedge.rollout.progress import Look, Progress
from kedge.store import Store
from kedge.store.identity import require

Observe = Callable[[Rollout, Sequence[Span]], Sequence[Observed]]
"""Adds labelled outcomes to spans."""
Publish = Callable[[ModelState], None]
"""Shows elsewhere what the records say now. Again is harmless."""
End = Literal["promoted", "rolled-back", "not-judged"]

TELL = timedelta(seconds=60)
"""Time between two lines that say how far a span is."""
MAX_WAIT = 1.0
"""Seconds between looks at a slot that is coming up."""
MAX_DRIFT = timedelta(seconds=60)
"""Clock and monotonic seconds that are further apart than they were: the clock was set."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a release ended.

    ``rolled-back``: the candidate was found worse. ``not-judged``: taken out without a verdict, so that it may be
    released again without anybody's word. ``begun``: it scores the next tables beside the champion.
    """

    result: End | Literal["refused", "begun"]
    reason: str
    not_started: bool = False
    """Not judged because no process was begun with the bundle: the platform was at fault."""


@dataclass(kw_only=True)
class Release:
    """One release of one bundle: what :func:`kedge.rollout.rollout.run` works with."""

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
    monotonic: Callable[[], float] | None = None
    """Seconds that no hand sets, to know a clock that was set; None: the clock is driven, as in a demo."""
    sleep: Callable[[float], object] = time.sleep
    say: Callable[[str], None] = lambda _text: None
    sized: str = field(default="", init=False)
    """Bundle whose server was held against the limits of ``release.capacity``, so that it is done once."""
    drilled: list[Rollout] | None = None
    """Of a drill, which leaves no record: where it stood when one was due; None: this is none."""
    blind: int = field(default=0, init=False)
    """Looks in a row without evidence."""
    looked: timedelta | None = field(default=None, init=False)
    """The clock's offset at the last look."""
    answered: datetime | None = field(default=None, init=False)
    """When the candidate without traffic predicted its golden rows last."""
    steady: datetime | None = field(default=None, init=False)
    """Since when each look found the champion back that had failed; None: the last one did not."""
    told: str = field(default="", init=False)
    """What was said last, so that it is said once."""
    told_at: datetime | None = field(default=None, init=False)
    """When it was said."""

    def state(self) -> ModelState:
        """What the records say of the model by now."""
        return records.read_state(self.store, self.policy.name)

    def offset(self) -> timedelta:
        """How far the clock is ahead of the monotonic seconds: the same as long as no hand sets it."""
        if self.monotonic is None:
            return timedelta(0)
        return self.clock() - datetime.min.replace(tzinfo=UTC) - timedelta(seconds=self.monotonic())

    def jump(self, before: timedelta) -> timedelta:
        """How far the clock was set since it had an offset; 0: it was not."""
        jump = self.offset() - before
        return jump if abs(jump) > MAX_DRIFT else timedelta(0)

    def uri(self, bundle: str) -> str:
        """Where a bundle lies."""
        return self.store.uri(address(self.policy.name, bundle))

    def pause(self, seen: Progress | None = None, *, text: str = "") -> None:
        """Wait until the next look; say what was seen, at most once a minute, or a text, once."""
        now = self.clock()
        if seen is not None:
            progress.write(self.store, self.policy.name, seen)
            text = progress.words(seen, now)
        if text and (seen is None or self.told_at is None or now - self.told_at >= TELL) and text != self.told:
            self.say(text)
            self.told, self.told_at = text, now
        self.sleep(self.policy.release.interval_seconds)


def move(release: Release, route: Route, rollout: Rollout, state: State, step: int = 0) -> Route:
    """Write the next state and the traffic that belongs to it. Counting begins before the traffic moves."""
    following = replace(rollout, state=state, step=step, since=release.clock(), mark=None)
    if not following.ended and states.TABLE[state].compared != "nothing":
        following = replace(following, mark=release.driver.mark())
    words = f" {states.share(release.policy.release, following)} %" if state == "canary" else ""
    written = release.driver.set_route(with_traffic(release, route, following))
    release.say(f"{rollout.bundle[:12]}: {state}{words}")
    progress.write(release.store, release.policy.name, progress.of(release.policy, following, following.since))
    return written


def with_traffic(release: Release, route: Route, rollout: Rollout) -> Route:
    """The route with a rollout and the traffic of its state."""
    weights, mirror = states.traffic(release.policy.release, rollout)
    return replace(route, weights=weights, mirror=mirror, rollout=replace(rollout, weights=weights))


def end(
    release: Release,
    route: Route,
    rollout: Rollout,
    state: End,
    reason: str,
    actor: str = "",
    looks: tuple[Look, ...] = (),
) -> Route:
    """Decide the traffic in one write of the route: all of it to the winner, none to the other, mirrored or not.

    The look that decided is kept after that. Traffic is not taken from a candidate that answers for a champion that
    does not: such a champion is waited for.

    Raises:
        SlotNotReady: the champion does not come up; the traffic stays where it is.
    """
    champion = other(rollout.slot)
    moves = state != "promoted" and rollout.champion is not None and route.weights.get(champion, 0) < 100
    if moves and rollout.champion and release.driver.slot(rollout.slot).serves(rollout.bundle):
        wait_ready(release, champion, rollout.champion)
    ended = replace(rollout, state=state, since=release.clock(), reason=reason, actor=actor)
    written = release.driver.set_route(with_traffic(release, route, ended))
    release.say(f"{state.replace('-', ' ')}: {reason}")
    found = replace(progress.of(release.policy, ended, ended.since), looks=looks)
    progress.write(release.store, release.policy.name, found)
    return written


def finish(release: Release, route: Route, rollout: Rollout) -> Outcome:
    """Record the decision, show it, empty the slot that lost its traffic, clear the route. May be repeated.

    A champion that was replaced stays in its slot as long as the policy's guard keeps it, where the driver can.
    """
    promoted = rollout.state == "promoted"
    record(release, rollout)
    release.publish(release.state())
    kept = promoted and release.driver.keeps and release.policy.release.guard.keep_seconds > 0
    if not kept:
        release.driver.remove(other(rollout.slot) if promoted else rollout.slot)
    release.driver.set_route(replace(route, rollout=None))
    result: End = "promoted" if promoted else "not-judged" if rollout.state == "not-judged" else "rolled-back"
    return Outcome(result=result, reason=rollout.reason, not_started=rollout.not_started)


def wait_ready(release: Release, slot: Slot, bundle: str) -> None:
    """Have a bundle in a slot, answering. SlotNotReady after ``ready_seconds``, or at once if it cannot come up."""
    began = release.clock()
    while True:
        release.driver.deploy(slot, bundle, release.uri(bundle))
        status = release.driver.slot(slot)
        if status.serves(bundle):
            return
        waited = (release.clock() - began).total_seconds()
        if status.failed or waited > release.policy.release.ready_seconds:
            raise SlotNotReady(
                f"slot {release.policy.name}-{slot} with bundle {bundle[:12]} not ready after {waited:,.0f} s: "
                f"{status.reason or 'it gave no reason'}"
            )
        release.sleep(min(release.policy.release.interval_seconds, MAX_WAIT))


def record(release: Release, rollout: Rollout) -> None:
    """Append the record of a release that begins or ended; once, however often it is asked for."""
    if rollout.drill:
        if release.drilled is not None:
            release.drilled.append(rollout)
        return
    data: ReleaseStarted | Promoted | RolledBack
    about: dict[str, Any] = {
        "bundle": rollout.bundle,
        "attempt": rollout.attempt,
        "run": rollout.run,
        "slot": rollout.slot,
        "previous": rollout.champion,
    }
    if not rollout.ended:
        data = ReleaseStarted(**about)
    else:
        about |= {"reason": rollout.reason, "evidence": _evidence(release, rollout)}
        if rollout.state == "promoted":
            data = Promoted(**about)
        else:
            unjudged = rollout.state == "not-judged"
            data = RolledBack(**about, not_started=rollout.not_started, not_judged=unjudged)
    key = f"{rollout.bundle}-{rollout.attempt}"
    if rollout.ended:
        require(release.store)  # it has the record of the beginning, unless it is empty where there was one
    made = Record(model=release.policy.name, key=key, time=release.clock(), data=data, actor=rollout.actor)
    records.append(release.store, made)


def _evidence(release: Release, rollout: Rollout) -> tuple[dict[str, object], ...]:
    if not rollout.spans:
        return ()
    try:
        return tuple(summary.of(seen) for seen in release.observe(rollout, rollout.spans))
    except KedgeError:  # the log cannot be read: the gateway's counts are still worth keeping
        return tuple(summary.of(Observed(span=span)) for span in rollout.spans)
