"""A drill: a harmless candidate goes the real way, and must be rolled back.

The candidate is a copy of the champion's bundle, so clients get the very answers that they get without it; half of its
requests are counted as failed before they are judged. Deploying, smoke test, traffic, evidence, verdict and rollback
are those of every release. It leaves no record and can never be promoted.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kedge import bundle as bundles
from kedge.bundle import Bundle, manifest
from kedge.errors import Conflict, UsageError
from kedge.policy import Policy
from kedge.policy.release import Step
from kedge.rollout import holds, rollout
from kedge.rollout.evidence import Observed
from kedge.rollout.model import Rollout, Span, Traffic, other
from kedge.rollout.release import Outcome, Release
from kedge.rollout.rollback import rollback
from kedge.store import Store, write_file

FAILING = 0.5
"""Share of the candidate's requests that are counted as failed."""
INTERVAL_SECONDS = 1.0
"""Between two looks, at most."""
INTERRUPTED = "a drill that was interrupted"


@dataclass(frozen=True, kw_only=True)
class Drilled:
    """How a drill went; seconds since it began."""

    result: str
    """``rolled-back`` as it must be, else how it ended."""
    reason: str
    percent: int
    """The candidate's share."""
    traffic_seconds: float | None
    """Until it was ready, its golden rows agreed, and it had traffic; None: it had none."""
    verdict_seconds: float
    """Until the traffic was taken from it."""
    empty_seconds: float
    """Until its slot was empty."""
    requests: int
    """Of the candidate, until the verdict."""

    @property
    def passed(self) -> bool:
        """Whether it was rolled back for its failures."""
        return self.result == "rolled-back" and self.traffic_seconds is not None

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self) | {"passed": self.passed}

    def lines(self) -> list[str]:
        """In words."""
        before = "it had no traffic" if self.traffic_seconds is None else f"traffic after {self.traffic_seconds:,.1f} s"
        return [
            f"drill {'passed' if self.passed else 'FAILED'}: {self.result}: {self.reason}",
            f"{before}; taken away after {self.verdict_seconds:,.1f} s and {self.requests:,} requests at "
            f"{self.percent} %; slot empty after {self.empty_seconds:,.1f} s",
        ]


def drill(release: Release, folder: Path, *, max_seconds: float, replace_kept: bool = False) -> Drilled:
    """Drill a rollback of the model that is served.

    Args:
        release: Without a bundle; its policy is the champion's.
        folder: Empty, for the copy of the champion's bundle.
        max_seconds: Longest time the judge has.
        replace_kept: Take the slot of a champion before that is kept for a rollback.

    Raises:
        UsageError: nothing is served, a release runs or may not begin now, or a champion before is kept.
        ReleaseError: the platform does not answer; what was begun is rolled back.
    """
    policy = release.policy
    began = release.clock()
    _end_interrupted(release)
    champion = _champion(release, replace_kept=replace_kept)
    copy = _copy(release.store, policy, champion, folder)
    release.bundle, release.drilled, release.policy = copy, [], _rules(policy, max_seconds)
    observe = release.observe
    release.observe = lambda rollout, spans: _failing(observe(rollout, spans))
    release.publish = lambda _state: None
    try:
        outcome = rollout.run(release)
    except BaseException:
        _end_interrupted(release)
        raise
    finally:
        for key in list(release.store.keys(copy.address)):
            release.store.delete(key)
    return _report(release, outcome, (release.clock() - began).total_seconds())


def _champion(release: Release, *, replace_kept: bool) -> str:
    """The bundle that serves, if a drill may begin now."""
    model, rules, now = release.policy.name, release.policy.release, release.clock()
    route = release.driver.route()
    if route.rollout is not None:
        raise UsageError(f"{model}: bundle {route.rollout.bundle[:12]} is being released; wait for its end")
    slot = route.champion
    serving = release.driver.slot(slot).bundle if slot is not None else None
    if slot is None or serving is None:
        raise UsageError(f"{model}: no model is served, so there is nothing to drill")
    window = next((each for each in rules.freeze if holds.frozen(each, now)), None)
    if window is not None:
        raise UsageError(f"{model}: no traffic moves now: freeze {holds.described(window)} (UTC)")
    if rules.suspend:
        raise UsageError(f"{model}: no traffic moves while the policy says release.suspend")
    kept = release.driver.slot(other(slot)).bundle
    if kept is not None and not replace_kept:
        raise UsageError(
            f"{model}: slot {other(slot)} keeps bundle {kept[:12]}, which served before, for a rollback in one change "
            "of weights; a drill takes its slot: --replace does it all the same"
        )
    return serving


def _copy(store: Store, policy: Policy, champion: str, folder: Path) -> Bundle:
    """The champion's bundle under an id of its own: its manifest names it as its parent."""
    original = bundles.fetch(store, policy.name, champion, folder / "cache")
    copied = folder / "copy"
    shutil.copytree(original.folder, copied)  # of a local store the cache is the store
    changed = original.manifest.model_copy(update={"parents": (champion,)})
    write_file(copied / manifest.NAME, changed.model_dump_json(indent=1, exclude={"created"}).encode())
    copy = bundles.open_bundle(copied)
    bundles.publish(store, copy)
    return copy


def _rules(policy: Policy, max_seconds: float) -> Policy:
    """The first step alone, which ends by its evidence."""
    rules = policy.release
    update = {
        "approval": "auto",
        "shadow_percent": 0,
        "steps": (Step(percent=rules.steps[0].percent, min_seconds=0),),
        "interval_seconds": min(rules.interval_seconds, INTERVAL_SECONDS),
        "max_step_seconds": max_seconds,
    }
    return policy.model_copy(update={"release": rules.model_copy(update=update)})


def _failing(observed: Sequence[Observed]) -> list[Observed]:
    """What was seen, with a share of the candidate's requests counted as failed."""
    return [replace(seen, span=_failing_span(seen.span)) for seen in observed]


def _failing_span(span: Span) -> Span:
    traffic = span.candidate
    errors = max(traffic.errors, round(FAILING * traffic.requests))
    return replace(span, candidate=Traffic(requests=traffic.requests, errors=errors, latency=traffic.latency))


def _end_interrupted(release: Release) -> None:
    """End a drill that still stands on the route."""
    route = release.driver.route()
    if route.rollout is not None and route.rollout.drill:
        try:
            rollback(release, reason=INTERRUPTED)
        except Conflict:  # another hand ends it
            return


def _report(release: Release, outcome: Outcome, seconds: float) -> Drilled:
    if not release.drilled or outcome.result == "refused":
        raise UsageError(f"{release.policy.name}: {outcome.reason}")
    last: Rollout = release.drilled[-1]
    spans = [span for span in last.spans if span.state == "canary"]
    return Drilled(
        result=outcome.result,
        reason=outcome.reason,
        percent=release.policy.release.steps[0].percent,
        traffic_seconds=(spans[0].began - last.started).total_seconds() if spans else None,
        verdict_seconds=(last.since - last.started).total_seconds(),
        empty_seconds=seconds,
        requests=sum(span.candidate.requests for span in spans),
    )
