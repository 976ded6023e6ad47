"""How far a release is: what its last look saw against what is needed, for people who watch it.

The release writes it into the store at each look, so that it is read where no pod of the cluster can be reached. It
decides nothing: the state lies on the route, the end in the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from kedge.clock import span
from kedge.errors import StoreError
from kedge.policy import Policy
from kedge.rollout import states, summary
from kedge.rollout.evidence import Evidence
from kedge.rollout.judge import Decision
from kedge.rollout.model import Rollout, Slot, State, Traffic
from kedge.store import Store

MAX_LOOKS = 200
"""Looks that are kept for the picture; of more, those closest together go first."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """Evidence a span has, and needs before the next state may begin."""

    measure: states.Measure
    has: float
    needs: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look, as far as it is drawn."""

    time: datetime
    percent: int
    evidence: dict[str, float]
    """By test: the log of its e-value as a share of its limit; 1 is proof that the candidate is worse."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A release at its last look."""

    bundle: str
    attempt: int
    slot: Slot
    state: State
    step: int
    steps: int
    percent: int
    started: datetime
    since: datetime
    """When the state (and step) began."""
    time: datetime
    """Of the look."""
    limit_seconds: float | None
    """Longest time in the state; None: it ends by its own seconds."""
    needs: tuple[Need, ...] = ()
    candidate: Traffic = field(default_factory=Traffic)
    champion: Traffic = field(default_factory=Traffic)
    lacking: tuple[str, ...] = ()
    """What the judge waits for, in its words."""
    then: str = ""
    """What comes when the evidence is there: `25 %`, `bake`, `promoted`; empty: not known, or it has ended."""
    held: str = ""
    """Why it does not go on though the evidence is there, or cannot be judged; empty: it goes on by its evidence."""
    looks: tuple[Look, ...] = ()

    @property
    def key(self) -> str:
        """As the records of the release have it."""
        return f"{self.bundle}-{self.attempt}"


_PROGRESS = TypeAdapter(Progress)


def of(policy: Policy, rollout: Rollout, now: datetime, *, held: str = "") -> Progress:
    """A rollout without evidence: where it stands, and since when."""
    rules = policy.release
    return Progress(
        bundle=rollout.bundle,
        attempt=rollout.attempt,
        slot=rollout.slot,
        state=rollout.state,
        step=rollout.step,
        steps=len(rules.steps),
        percent=0 if rollout.ended else states.share(rules, rollout),
        started=rollout.started,
        since=rollout.since,
        time=now,
        limit_seconds=_limit(policy, rollout),
        then=_then(policy, rollout),
        held=held,
    )


def seen(
    policy: Policy, rollout: Rollout, now: datetime, evidence: Evidence, decision: Decision | None, *, held: str = ""
) -> Progress:
    """A rollout with what a look saw."""
    wanted = states.TABLE[rollout.state].needs(policy.release, rollout.step)
    measured = states.measured(evidence)
    needs = [Need(measure=name, has=measured[name], needs=amount) for name, amount in wanted.items() if amount > 0]
    span, tests = evidence.current.span, decision.tests if decision is not None else ()
    shares: dict[str, float] = {test.name: max(0.0, test.log_e / test.limit) for test in tests}
    base = of(policy, rollout, now, held=held)
    lacking = decision.reasons if decision is not None and decision.action == "hold" else ()
    look = Look(time=now, percent=base.percent, evidence=shares)
    return replace(
        base, needs=tuple(needs), lacking=lacking, candidate=span.candidate, champion=span.champion, looks=(look,)
    )


def write(store: Store, model: str, progress: Progress) -> None:
    """Keep it as the model's newest, with the looks before it. No release fails for want of it."""
    with suppress(StoreError):
        before = read(store, model)
        looks = before.looks if before is not None and before.key == progress.key else ()
        looks = (*looks, *progress.looks)
        store.put(_place(model), _PROGRESS.dump_json(replace(progress, looks=_thinned(looks))))


def read(store: Store, model: str) -> Progress | None:
    """The newest of a model; None: there is none that can be read.

    Raises:
        StoreError: the store cannot be read.
    """
    with suppress(KeyError, ValidationError):
        return _PROGRESS.validate_json(store.get(_place(model)))
    return None


def words(progress: Progress, now: datetime) -> str:
    """One line for people.

    >>> from datetime import UTC
    >>> since = datetime(2026, 3, 2, tzinfo=UTC)
    >>> needs = Need(measure="seconds", has=120, needs=300), Need(measure="requests", has=37, needs=100)
    >>> words(Progress(bundle="b", attempt=1, slot="green", state="canary", step=0, steps=3, percent=5, started=since,
    ...     since=since, time=since + timedelta(seconds=120), limit_seconds=86_400, needs=needs,
    ...     candidate=Traffic(requests=37), champion=Traffic(requests=700, errors=2)), since + timedelta(seconds=120))
    'canary 5 %: 37 of 100 requests, 120 of 300 s, errors 0/37 against 2/700; about 3.41 min more, at most 24 h'
    """
    place = progress.state if not progress.percent else f"{progress.state} {progress.percent} %"
    told = [each for each in progress.needs if each.measure != "champion requests" or each.has < each.needs]
    facts = [*map(_need, sorted(told, key=lambda each: each.measure == "seconds")), *_compared(progress)]
    if progress.lacking and all(each.has >= each.needs for each in progress.needs):
        facts.append(progress.lacking[0])
    line = f"{place}: {', '.join(facts)}" if facts else place
    if progress.held:
        return f"{line}; held: {progress.held}"
    left = list(_left(progress, now))
    return "; ".join(
        [line, *([", ".join(left)] if left else []), *([f"then {progress.then}"] if progress.then else [])]
    )


def seconds_more(progress: Progress) -> float | None:
    """About how long the span takes until nothing lacks, if requests and labels come on as they came so far; None: not
    to be said, as nothing of one kind has come yet."""
    so_far = next((each.has for each in progress.needs if each.measure == "seconds"), None)
    so_far = (progress.time - progress.since).total_seconds() if so_far is None else so_far
    longest = 0.0
    for each in progress.needs:
        if each.has >= each.needs:
            continue
        if each.has <= 0 or so_far <= 0:
            return None
        longest = max(longest, (each.needs - each.has) * (1 if each.measure == "seconds" else so_far / each.has))
    return longest


def _thinned(looks: tuple[Look, ...]) -> tuple[Look, ...]:
    """Without the look that is missed least, if there is one too many: the closest to its neighbours."""
    if len(looks) <= MAX_LOOKS:
        return looks
    place = min(range(1, len(looks) - 1), key=lambda each: looks[each + 1].time - looks[each - 1].time)
    return looks[:place] + looks[place + 1 :]


def _then(policy: Policy, rollout: Rollout) -> str:
    """What the state table says comes next, in a word."""
    if rollout.ended or rollout.state in ("waiting", "failover"):
        return ""
    following, step = states.TABLE[rollout.state].following(policy.release, rollout.step)
    return f"{policy.release.steps[step].percent} %" if following == "canary" else following


def _limit(policy: Policy, rollout: Rollout) -> float | None:
    if rollout.state in ("deploy", "smoke", "waiting"):
        return policy.release.ready_seconds
    if rollout.state == "batch":
        return policy.release.max_step_seconds + (policy.labels.due_seconds or 0.0)
    return policy.release.max_step_seconds if rollout.state in ("shadow", "canary") else None


def _need(each: Need) -> str:
    words: dict[states.Measure, str] = {
        "seconds": "s",
        "requests": "requests",
        "champion requests": "of the champion's",
        "labels": "labels",
        "batches": "tables",
    }
    return f"{each.has:,.0f} of {each.needs:,.0f} {words[each.measure]}"


def _compared(progress: Progress) -> Iterator[str]:
    candidate, champion = progress.candidate, progress.champion
    if not progress.needs or progress.state == "batch":
        return
    against = f" against {champion.errors:,}/{champion.requests:,}" if champion.requests else ""
    yield f"errors {candidate.errors:,}/{candidate.requests:,}{against}"
    ours, theirs = summary.percentile(candidate), summary.percentile(champion)
    if ours is not None and theirs is not None:
        yield f"p95 {ours:g} ms against {theirs:g} ms"


def _left(progress: Progress, now: datetime) -> Iterator[str]:
    more = seconds_more(progress)
    waits = all(each.has >= each.needs for each in progress.needs) and bool(progress.lacking)
    passed = (now - progress.time).total_seconds()
    if progress.needs and more is not None and not waits:
        yield f"about {span(timedelta(seconds=max(0.0, more - passed)))} more"
    if progress.limit_seconds is not None:
        left = progress.limit_seconds - (now - progress.since).total_seconds()
        yield f"at most {span(timedelta(seconds=max(0.0, left)))}"
    if passed > 120:
        yield f"seen {span(timedelta(seconds=passed))} ago"


def _place(model: str) -> str:
    return f"releases/{model}/progress.json"
