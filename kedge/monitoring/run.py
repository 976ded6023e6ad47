"""One check from beginning to end: measure, decide, write the report, then the record that makes it count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from kedge import clock, pages, records
from kedge.monitoring import report
from kedge.monitoring.check import Check, check
from kedge.monitoring.decide import Decision, decide, drifted, shifted_and_risen
from kedge.monitoring.history import due_release, load_history, misdated
from kedge.monitoring.probing import Probe
from kedge.policy import Policy
from kedge.records import Checked, ModelState, Pulled, Record, Signal, Stalled, Window, check_key
from kedge.store import Store
from kedge.tables import labels


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A check that counts."""

    record: Record[Checked]
    written: bool
    """False: another process, or an earlier call, had checked this window; its record stands."""
    due: Record[Checked] | None
    """The check whose retraining is to be submitted, or driven on: this one, or an earlier one that is not done."""
    begins_day: bool = False
    """It was written, and no check before it ended on the same day (UTC): what is done once a day is due."""
    misdated: tuple[str, ...] = ()
    """Records that a wrong clock dated ahead, in words."""


def run(policy: Policy, store: Store, *, now: datetime, probe: Probe | None = None) -> Outcome:
    """Check the window that ends at ``now``, once: a window that has a record is not looked at again.

    Where the policy declares a table of outcomes, the labels the log lacks are read from it first.

    Args:
        policy: Of the model.
        store: Holds the log, the bundles and the records.
        now: Event time, cut to the whole minute.
        probe: Fits what a retraining would have made, asked while the error is risen; None: never.

    Raises:
        NothingServed: nothing was ever promoted.
        BundleError, DataError, StoreError: the champion, the log or the table of outcomes cannot be read.
    """
    by_hand = policy.release.approval == "manual"
    window = Window.before(now, policy.monitor.window_seconds)
    history = load_history(store, policy.name, window.end)
    said = tuple(misdated(history, max(now, clock.now())))
    known = records.find(store, policy.name, Checked, check_key(window.end))
    if known is not None:
        due = ModelState.of(history).unfinished(by_hand=by_hand)
        return Outcome(record=known, written=False, due=due, misdated=said)
    pulled = labels.pull(store, policy) if policy.data.labels is not None else None
    state = ModelState.of(history, until=window.end)
    seen = check(policy, store, state, window, probe)
    decision = decide(policy, state, seen, window.end)
    name, links = _page_name(check_key(window.end)), dict(_links(state))
    made = to_record(policy, seen, decision, report=pages.key_of(policy.name, name), pulled=pulled)
    pages.keep(store, policy.name, name, report.html(policy, made, state), links)
    if decision.action == "quarantine":
        records.quarantine(store, policy.name, window)
    written = records.append(store, made)
    kept = records.find(store, policy.name, Checked, made.key)
    assert kept is not None
    if not written:  # another process was faster: the page must tell what its record says
        pages.keep(store, policy.name, name, report.html(policy, kept, state), links)
    after = ModelState.of([*history, kept])
    begins_day = written and (state.check is None or state.check.time.date() < kept.time.date())
    due = after.unfinished(by_hand=by_hand)
    return Outcome(record=kept, written=written, due=due, begins_day=begins_day, misdated=said)


def _page_name(key: str) -> str:
    return f"check-{key}.html"


def _links(state: ModelState) -> Iterator[tuple[str, str]]:
    """From a check's page to the check before and to those of the champion."""
    if state.check is not None:
        yield "the check before", _page_name(state.check.key)
    if state.champion is not None:
        yield "the champion's evaluation", f"evaluate-{state.champion.bundle}.html"
        yield "its release", f"release-{state.champion.tenure_id.rpartition('/')[2]}.html"


def release_again(policy: Policy, store: Store, *, now: datetime) -> Stalled | None:
    """The release that failed by no fault of its bundle's and is to be tried again now, also a model's first one.

    Raises:
        StoreError: a record cannot be read.
    """
    return due_release(records.read_state(store, policy.name), policy, now)


def to_record(
    policy: Policy, seen: Check, decision: Decision, *, report: str = "", pulled: Pulled | None = None
) -> Record[Checked]:
    """The check record: what was seen, what was decided, and the signals that later decisions look back at."""
    shift = shifted_and_risen(policy, seen)
    data = Checked(
        action=decision.action,
        reasons=decision.reasons,
        verdict=verdict(policy, seen, decision),
        decision_key=decision.key,
        approval_wanted=decision.action == "retrain" and policy.monitor.budget.approval == "manual",
        window=Window(start=seen.start, end=seen.end),
        rows=seen.rows,
        champion=seen.champion,
        signals={"shift": Signal(breached=shift, labels=0, evidence_id=seen.end.isoformat())},
        change_point=decision.change_point,
        alarm=decision.alarm.to_dict() if decision.alarm is not None else {},
        regret=decision.regret.to_dict() if decision.regret is not None else {},
        corrupt=seen.corrupt,
        cohort=seen.cohort,
        nan_scores=seen.nan_scores,
        warnings=seen.warnings,
        performance=seen.performance,
        estimate=seen.estimate,
        inputs=seen.inputs,
        scores=seen.scores,
        outcomes=seen.outcomes,
        fairness=seen.fairness,
        trained_until=seen.trained_until,
        new_labels=seen.new_labels,
        label_source=pulled,
        policy=policy.hash,
        report=report,
    )
    return records.as_read(Record(model=seen.model, key=check_key(seen.end), time=seen.end, data=data))


def verdict(policy: Policy, seen: Check, decision: Decision) -> str:
    """The check in a few words, the worst first."""
    if seen.corrupt:
        return "corrupt feed"
    if decision.alarm is not None and decision.alarm.open:
        return "error rose"
    if seen.fairness is not None and seen.fairness.exceeded:
        return "groups decided differently"
    if seen.performance.broken_limits:
        return "metric limit broken"
    if drifted(policy, seen):
        return "inputs drifted"
    if seen.inputs.pairs:
        return "pairs of inputs drifted"
    if seen.nan_scores:
        return "scores missing"
    if seen.estimate is not None and seen.estimate.risen:
        return "estimate rose"
    if seen.cohort.verdict == "labels incomplete":
        return seen.cohort.verdict
    return "quiet" if seen.inputs.verdict == "compared" else seen.inputs.verdict
