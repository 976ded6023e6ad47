"""A release without a server: candidate and champion score the same tables, and the records say whose answers count.

    begun -> batch -> promoted
       \\______\\________-> rolled-back, or not-judged

Its state is the record of its start; each look reads the log anew, and writes the record of its end once. So a look may
be repeated, or made by two processes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kedge import clock, records
from kedge.bundle import Bundle, address, golden_difference
from kedge.errors import UsageError
from kedge.policy import Policy
from kedge.records import ModelState, Promoted, Record, ReleaseStarted, RolledBack, Scored
from kedge.rollout import holds, progress, same_rows, summary
from kedge.rollout.evidence import Evidence, Observed
from kedge.rollout.judge import judge
from kedge.rollout.model import Rollout, Span
from kedge.rollout.outcomes import MOMENT, due_after
from kedge.rollout.release import End, Outcome, Publish
from kedge.rollout.rollback import must_lead_to, served_before, unchanged
from kedge.rollout.rollout import refusal
from kedge.store import Store

FIRST = "the model's first release; golden rows agree"
SLOT = "batch"
"""What records and the log call where there is no slot."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a release by batches works with."""

    policy: Policy
    store: Store
    publish: Publish
    clock: Callable[[], datetime] = clock.now

    def state(self) -> ModelState:
        """What the records say of the model by now."""
        return records.read_state(self.store, self.policy.name)


def begin(ledger: Ledger, bundle: Bundle, run: str) -> Outcome:
    """Let a bundle score the next tables beside the champion; a model's first one is promoted at once.

    Raises:
        StoreError, RegistryError: as they say; the release may be begun again.
    """
    state = ledger.state()
    under_way, champion = state.open_release, state.champion_bundle
    if under_way is not None and under_way.data.bundle != bundle.id:
        reason = (
            f"bundle {under_way.data.bundle[:12]} scores beside the champion since {under_way.time:%Y-%m-%d %H:%M} "
            "UTC; wait for it, or roll it back with `kedge rollback`"
        )
        return Outcome(result="refused", reason=reason)
    if champion == bundle.id:
        return Outcome(result="promoted", reason=f"bundle {bundle.id[:12]} is the champion already")
    if under_way is None:
        refused = refusal(ledger.policy, state, bundle.id)
        if refused:
            return Outcome(result="refused", reason=refused)
        attempt = state.release_attempts(bundle.id) + 1
        data = ReleaseStarted(bundle=bundle.id, attempt=attempt, run=run, slot=SLOT, previous=champion)
        under_way = Record(model=ledger.policy.name, key=f"{bundle.id}-{attempt}", time=ledger.clock(), data=data)
        records.append(ledger.store, under_way)
    fault = golden_fault(ledger.policy, bundle)
    if fault:
        return _end(ledger, under_way, "rolled-back", fault)
    if champion is None:
        return _end(ledger, under_way, "promoted", FIRST)
    ledger.publish(ledger.state())
    return Outcome(result="begun", reason="it scores the next tables beside the champion, whose answers count")


def look(ledger: Ledger, now: datetime) -> Outcome | None:
    """Judge the release that is under way by the tables that both scored, and end it if that says enough.

    Args:
        now: Predictions and outcomes dated later are not known.

    Returns:
        How it ended; None: there is none, or it goes on.

    Raises:
        StoreError, RegistryError, BundleError: as they say; the look may be made again.
    """
    state, policy = ledger.state(), ledger.policy
    under_way = state.open_release
    if under_way is None or under_way.data.slot != SLOT:
        return None
    rollout = _rollout(ledger, under_way)
    delay = due_after(ledger.store, policy)
    both, reason = same_rows.logged(ledger.store, policy, rollout, now - timedelta(seconds=delay) + MOMENT, now)
    seen = Observed(span=Span(state="batch", percent=0, began=rollout.started), not_judged=reason, paired=both)
    scored = records.read(ledger.store, policy.name, Scored)
    evidence = Evidence(
        observed=(seen,),
        seconds=max(0.0, (now - rollout.started).total_seconds()),  # a table may be dated before it
        batches=sum(item.data.candidate == rollout.bundle and item.time >= rollout.started for item in scored),
    )
    decision = judge(evidence, policy)
    held = ""
    if decision.action == "roll back":
        return _end(ledger, under_way, "rolled-back", "; ".join(decision.reasons), [seen])
    if decision.action == "advance":
        held = holds.held(policy.release, rollout, "promoted", 0, state, now)
        if not held:
            reason = f"no worse than the champion on the same {both.scores.rows:,} rows"
            return _end(ledger, under_way, "promoted", reason, [seen])
    elif evidence.seconds >= policy.release.max_step_seconds + delay:
        late = f"{evidence.seconds:,.0f} s without enough evidence: {', '.join(decision.reasons)}"
        return _end(ledger, under_way, "not-judged", late, [seen])
    progress.write(ledger.store, policy.name, progress.seen(policy, rollout, now, evidence, decision, held=held))
    return None


def rollback(ledger: Ledger, *, reason: str, actor: str = "", to: str = "") -> Outcome:
    """Roll the candidate back if one scores beside the champion, else let the bundle before the champion answer again.

    Args:
        ledger: What it works with.
        reason: Why; kept in the record.
        actor: Who; the record's default otherwise.
        to: As :func:`kedge.rollout.rollback.rollback` takes it.

    Raises:
        UsageError: nothing served before, or another bundle than ``to``.
    """
    state, policy = ledger.state(), ledger.policy
    under_way, champion = state.open_release, state.champion_bundle
    if under_way is None:
        if champion is None or state.champion is None:
            raise UsageError(f"{policy.name}: no model was promoted, so there is nothing to roll back")
        done = unchanged(state, policy.name, champion, to, ledger.clock())
        if done is not None:
            return done
        before = served_before(state, policy.name, champion)
        attempt = state.last_attempt(champion)
        since = max(ledger.clock(), state.champion.since)  # predictions, and so a promotion, may be dated ahead
        data = ReleaseStarted(bundle=champion, attempt=attempt, slot=SLOT, previous=before)
        under_way = Record(model=policy.name, key=f"{champion}-{attempt}", time=since, data=data)
    else:
        must_lead_to(under_way.data.previous or "none", to, policy.name)
    return _end(ledger, under_way, "rolled-back", reason, actor=actor)


def golden_fault(policy: Policy, bundle: Bundle) -> str:
    """What is wrong with the golden rows when they are predicted again here; empty: nothing."""
    model = bundle.load_model()
    difference = golden_difference(bundle, lambda rows: model.score(bundle.signature.encode_rows(rows)))
    tolerance = policy.release.smoke_tolerance
    if difference <= tolerance:
        return ""
    return (
        f"golden rows of bundle {bundle.id[:12]} predicted here differ by {difference:.3g} from training, tolerated "
        f"{tolerance:g}: what scores is not what was trained; install the libraries its bundle.json names"
    )


def reject(ledger: Ledger, reason: str) -> Outcome | None:
    """Roll the candidate back that cannot score here; None: there is none."""
    under_way = ledger.state().open_release
    return None if under_way is None else _end(ledger, under_way, "rolled-back", reason)


def _rollout(ledger: Ledger, begun: Record[ReleaseStarted]) -> Rollout:
    data = begun.data
    return Rollout(
        bundle=data.bundle,
        uri=ledger.store.uri(address(ledger.policy.name, data.bundle)),
        slot="green",
        champion=data.previous,
        attempt=data.attempt,
        run=data.run,
        started=begun.time,
        since=begun.time,
        state="batch",
    )


def _end(
    ledger: Ledger,
    begun: Record[ReleaseStarted],
    state: End,
    reason: str,
    seen: Sequence[Observed] = (),
    *,
    actor: str = "",
) -> Outcome:
    """Write the record of the end, once, and let the registry say what it means."""
    data = begun.data
    about: dict[str, Any] = {
        "bundle": data.bundle,
        "attempt": data.attempt,
        "run": data.run,
        "slot": SLOT,
        "previous": data.previous,
        "reason": reason,
        "evidence": tuple(map(summary.of, seen)),
    }
    ended = Promoted(**about) if state == "promoted" else RolledBack(**about, not_judged=state == "not-judged")
    made = Record(
        model=ledger.policy.name, key=begun.key, time=max(ledger.clock(), begun.time), data=ended, actor=actor
    )
    records.append(ledger.store, made)
    ledger.publish(ledger.state())
    return Outcome(result=state, reason=reason)
