"""The states of a release as one table: who gets the traffic, what is needed, compared with whom, what comes next.

Pure. :mod:`kedge.rollout.rollout` acts by this table, :mod:`kedge.rollout.judge` asks it what a span needs. A new kind
of state is one more row.

| state | candidate's traffic | needs | compared with | next |
|---|---|---|---|---|
| deploy | none | a server that is ready | nothing | smoke |
| smoke | none | golden rows that agree | training | shadow or the first step |
| shadow | copies | copies that were answered | champion, same minutes | the first step |
| canary | the step's percent | the step's seconds, requests, labels | champion, same minutes | next step, or bake |
| bake | all but the champion's share | its seconds | champion, same minutes | promoted |
| waiting | none | its server back | nothing | the state that it left |
| batch | none: it scores the same tables | tables, labels | champion, same rows | promoted |
| failover | all | the bake's seconds and requests | absolute limits | promoted, or back where it was |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from kedge.policy.release import Release as Rules
from kedge.policy.release import Step
from kedge.rollout.evidence import Evidence
from kedge.rollout.model import Mirror, Rollout, Slot, State, other

Measure = Literal["seconds", "requests", "champion requests", "labels", "batches"]
Needs = Mapping[Measure, float]
Compared = Literal["nothing", "champion", "limits"]

WORDS: Mapping[Measure, str] = {
    "seconds": "seconds",
    "requests": "requests of the candidate",
    "champion requests": "requests of the champion",
    "labels": "labelled outcomes of the candidate",
    "batches": "tables that both scored",
}
MIN_COMPARED = 20
"""Requests of the champion without which a step proves nothing: no worse than nobody is not good."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One state of a release whose traffic is not decided yet."""

    following: Callable[[Rules, int], tuple[State, int]]
    """State and step that come after it, by the rules and the step it is at."""
    percent: Callable[[Rules, int], int] = lambda _rules, _step: 0
    """Share of the traffic the candidate gets."""
    mirrored: Callable[[Rules, int], int] = lambda _rules, _step: 0
    """Share of the requests that are copied to the candidate."""
    needs: Callable[[Rules, int], Needs] = lambda _rules, _step: {}
    """What its span must have seen before the next state may begin."""
    compared: Compared = "nothing"


def _first(rules: Rules, _step: int) -> tuple[State, int]:
    return ("shadow", 0) if rules.shadow_percent > 0 else ("canary", 0)


def _after_step(rules: Rules, step: int) -> tuple[State, int]:
    return ("canary", step + 1) if step + 1 < len(rules.steps) else ("bake", 0)


def _step(rules: Rules, number: int) -> Step:
    """A step, the last one where a policy that changed meanwhile has fewer."""
    return rules.steps[min(number, len(rules.steps) - 1)]


def _of_step(rules: Rules, number: int) -> Needs:
    step = _step(rules, number)
    return {
        "seconds": step.min_seconds,
        "requests": step.min_requests,
        "champion requests": min(step.min_requests, MIN_COMPARED) if step.percent < 100 else 0,
        "labels": step.min_labels,
    }


TABLE: Mapping[State, Row] = {
    "deploy": Row(following=lambda _rules, _step: ("smoke", 0)),
    "smoke": Row(following=_first),
    "shadow": Row(
        mirrored=lambda rules, _step: rules.shadow_percent,
        needs=lambda rules, _step: {"requests": rules.shadow_requests},
        compared="champion",
        following=lambda _rules, _step: ("canary", 0),
    ),
    "canary": Row(
        percent=lambda rules, step: _step(rules, step).percent,
        needs=_of_step,
        compared="champion",
        following=_after_step,
    ),
    "bake": Row(
        percent=lambda rules, _step: 100 - rules.bake_champion_percent,
        needs=lambda rules, _step: {"seconds": rules.bake_seconds},
        compared="champion",
        following=lambda _rules, _step: ("promoted", 0),
    ),
    "batch": Row(
        needs=lambda rules, _step: {"labels": rules.batch.min_labels, "batches": rules.batch.min_batches},
        compared="champion",
        following=lambda _rules, _step: ("promoted", 0),
    ),
    "waiting": Row(following=_first),  # or the state that it left, see Rollout.left
    "failover": Row(
        percent=lambda _rules, _step: 100,
        needs=lambda rules, _step: {
            "seconds": rules.bake_seconds,
            "requests": max(rules.guard.min_requests, *(step.min_requests for step in rules.steps)),
        },
        compared="limits",
        following=lambda _rules, _step: ("promoted", 0),
    ),
}
"""By state; those that ended (promoted, rolled-back, not-judged) only have records and cleaning up to do."""


def needs(rules: Rules, state: State, percent: int) -> Needs:
    """What a span of a state at a share must have seen.

    >>> dict(needs(Rules(), "bake", 95))
    {'seconds': 3600}
    """
    step = next((number for number, step in enumerate(rules.steps) if step.percent == percent), 0)
    return TABLE[state].needs(rules, step)


def step_at(rules: Rules, percent: int) -> int:
    """The last step whose share is not above a percent, else the first one.

    >>> step_at(Rules(), 50), step_at(Rules(), 30), step_at(Rules(), 1)
    (2, 1, 0)
    """
    return max((number for number, step in enumerate(rules.steps) if step.percent <= percent), default=0)


def lacking(wanted: Needs, evidence: Evidence) -> tuple[str, ...]:
    """What the current span still waits for, in words."""
    return tuple(
        f"{has:,.0f} of {wanted[measure]:,.0f} {WORDS[measure]}"
        for measure, has in measured(evidence).items()
        if has < wanted.get(measure, 0)
    )


def measured(evidence: Evidence) -> dict[Measure, float]:
    """What the current span has seen so far."""
    span = evidence.current.span
    return {
        "seconds": evidence.seconds,
        "requests": span.candidate.requests,
        "champion requests": span.champion.requests,
        "labels": evidence.labels,
        "batches": evidence.batches,
    }


def share(rules: Rules, rollout: Rollout) -> int:
    """Share of the requests that reach the candidate in its state, as answers or as copies."""
    row = TABLE[rollout.state]
    return row.percent(rules, rollout.step) or row.mirrored(rules, rollout.step)


def traffic(rules: Rules, rollout: Rollout) -> tuple[dict[Slot, int], Mirror | None]:
    """Weights and mirror that belong to the rollout's state.

    >>> from datetime import UTC, datetime
    >>> since = datetime(2026, 3, 2, tzinfo=UTC)
    >>> about = {"bundle": "b", "uri": "u", "champion": "a", "attempt": 1, "run": "", "started": since, "since": since}
    >>> traffic(Rules(), Rollout(slot="green", state="canary", step=1, **about))
    ({'blue': 75, 'green': 25}, None)
    """
    candidate, champion = rollout.slot, other(rollout.slot)
    if rollout.ended:
        winner = candidate if rollout.state == "promoted" else champion
        served = rollout.state == "promoted" or rollout.champion is not None
        return ({winner: 100} if served else {}), None
    row = TABLE[rollout.state]
    percent, mirrored = row.percent(rules, rollout.step), row.mirrored(rules, rollout.step)
    shares: dict[Slot, int] = {champion: 100 - percent, candidate: percent}
    weights = {slot: weight for slot, weight in shares.items() if weight > 0} if rollout.champion is not None else {}
    return weights, Mirror(slot=candidate, percent=mirrored) if mirrored else None
