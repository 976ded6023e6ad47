"""From what a check saw, and what happened before, to what is to be done. Pure: ``kedge replay`` runs the same code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from kedge.monitoring import words
from kedge.monitoring.alarm import Alarm, Look, alarm
from kedge.monitoring.check import Check
from kedge.monitoring.history import awaits_release, due_release, retrainings, spent
from kedge.policy import Policy
from kedge.records import Record, window_of

Action = Literal["none", "attention", "retrain", "veto"]

LONGEST_TRAINING = timedelta(days=1)
"""A training that started longer ago than this and never said it ended is taken for dead, and blocks nothing."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done, why, and the key under which it is done at most once."""

    action: Action
    reasons: tuple[str, ...]
    key: str


def decide(policy: Policy, history: Sequence[Record], check: Check, now: datetime) -> Decision:
    """Decide what a check asks for.

    A corrupt window vetoes everything. Otherwise each trigger the policy switched on is a cause to retrain; the
    policy's budget, a cooldown, a run still going, a challenger whose release is to come or too few labels since the
    error rose hold it back, and then the decision is attention. Drift or a risen estimate alone are attention, never
    more. A check that saw nothing asks for nothing.

    Args:
        policy: Its ``monitor`` section rules.
        history: All records of the model, in order; those after ``now`` or of this window are not looked at.
        check: What was seen.
        now: Event time.

    Returns:
        The same inputs give the same decision and key.
    """
    key = decision_key(check)
    if check.corrupt:
        return Decision(action="veto", reasons=check.corrupt, key=key)
    before = [item for item in history if item.time < check.end or (item.kind != "check" and item.time <= now)]
    error = alarm([*_looks(before, check, "error"), _error_now(check)], policy.monitor.budget.consecutive_checks)
    causes = _causes(policy, before, check, error, now)
    if not causes:
        notes = _notes(policy, check, error)
        return Decision(action="attention" if notes else "none", reasons=notes or (words.quiet(check),), key=key)
    held = _held_back(policy, before, check, error, now)
    return Decision(action="attention" if held else "retrain", reasons=(*causes, *held), key=key)


def decision_key(check: Check) -> str:
    """The key of the decision on a check's window under its champion: a time, then eight hex digits.

    A run submitted under it is submitted once, whoever tries again.
    """
    text = f"{check.model}\n{check.champion.bundle}\n{check.champion.reign}\n{check.end.isoformat()}"
    return f"{check.end:%Y%m%dt%H%M%S}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _error_now(check: Check) -> Look:
    return _look(check, check.performance.worse, check.performance.rows, error_evidence(check))


def _shift_now(policy: Policy, check: Check) -> Look:
    return _look(check, shifted_and_risen(policy, check), 0, check.end.isoformat())


def _look(check: Check, bad: bool | None, labels: int, evidence: str) -> Look:
    return Look(bad=bad, start=check.start, end=check.end, labels=labels, evidence=evidence)


def error_evidence(check: Check) -> str:
    """Names the labels a check judged."""
    newest = check.performance.newest
    return f"{newest.isoformat() if newest else 'none'}/{check.performance.rows}"


def shifted_and_risen(policy: Policy, check: Check) -> bool | None:
    """Whether the inputs drifted and the estimated loss rose; None without a verdict on both."""
    if check.inputs.verdict != "compared" or check.estimate is None or check.estimate.risen is None:
        return None
    return drifted(policy, check) and check.estimate.risen


def drifted(policy: Policy, check: Check) -> bool:
    """Whether features that matter drifted."""
    return bool(check.inputs.drifted) and check.inputs.attention >= policy.monitor.drift.attention_share


def _looks(before: Sequence[Record], check: Check, sign: str) -> list[Look]:
    """The past checks since this reign began; a vetoed one has no verdict."""
    found: list[Look] = []
    for item in before:
        if item.kind != "check":
            continue
        if item.data["champion"]["reign"] != check.champion.reign:
            found.clear()
            continue
        seen = item.data["signs"][sign]
        bad = None if item.data["action"] == "veto" else seen["bad"]
        start, end = window_of(item.data)
        found.append(Look(bad=bad, start=start, end=end, labels=seen["labels"], evidence=seen["evidence"]))
    return found


def _causes(policy: Policy, before: Sequence[Record], check: Check, error: Alarm, now: datetime) -> tuple[str, ...]:
    triggers, needed = policy.monitor.triggers, policy.monitor.budget.consecutive_checks
    found = []
    if triggers.labelled_error and error.on and check.performance.worse:
        found.append(f"{words.error(check)}, {words.times(error.count)}")
    if triggers.drift_and_estimate and shifted_and_risen(policy, check):
        both = alarm([*_looks(before, check, "shift"), _shift_now(policy, check)], needed)
        if both.on:
            found.append(f"{words.inputs(check)}; {words.estimate(check)}, {words.times(both.count)}")
    if triggers.max_age_seconds is not None and check.trained_until is not None:
        age = now - check.trained_until
        if age.total_seconds() > triggers.max_age_seconds:
            limit = timedelta(seconds=triggers.max_age_seconds)
            found.append(f"the champion's training rows end {words.span(age)} ago; at most {words.span(limit)} allowed")
    if triggers.new_labels is not None and check.new_labels is not None and check.new_labels >= triggers.new_labels:
        found.append(f"{check.new_labels:,} new labels; {triggers.new_labels:,} ask for a retraining")
    return tuple(found)


def _notes(policy: Policy, check: Check, error: Alarm) -> tuple[str, ...]:
    needed = policy.monitor.budget.consecutive_checks
    found = []
    if check.performance.worse:
        waits = "" if error.on else f" of {needed} that are needed"
        off = "" if policy.monitor.triggers.labelled_error else "; the policy does not retrain on it"
        found.append(f"{words.error(check)}, {words.times(error.count)}{waits}{off}")
    if drifted(policy, check):
        found.append(words.inputs(check))
    if check.estimate is not None and check.estimate.risen:
        found.append(f"{words.estimate(check)}; an estimate warns, it does not act alone")
    return tuple(found)


def _held_back(policy: Policy, before: Sequence[Record], check: Check, error: Alarm, now: datetime) -> tuple[str, ...]:
    budget = policy.monitor.budget
    past = retrainings(before, now)
    found = []
    if error.on and check.performance.worse and error.labels < budget.min_labels_after_rise:
        found.append(
            f"waits for labels: {error.labels:,} since the loss rose, {budget.min_labels_after_rise:,} are needed"
        )
    going = _still_going(policy, before, now)
    if going is not None:
        found.append(f"run {going} is still going")
    elif (bundle := awaits_release(before, by_hand=policy.release.approval == "manual")) is not None:
        found.append(f"bundle {bundle[:12]} passed its gates; its release comes first")
    elif (failed := due_release(before, policy, now)) is not None:
        found.append(
            f"the release of bundle {failed.bundle[:12]} failed by no fault of its own; it is tried again first"
        )
    if past and (now - past[-1].time).total_seconds() < budget.cooldown_seconds:
        ends = past[-1].time + timedelta(seconds=budget.cooldown_seconds)
        found.append(f"cooldown after the retraining of {words.moment(past[-1].time)} until {words.moment(ends)}")
    period = timedelta(seconds=budget.period_seconds)
    if (used := spent(past, budget, now)) >= budget.max_retrains:
        found.append(f"budget spent: {used} retrainings within {words.span(period)}, at most {budget.max_retrains}")
    return tuple(found)


def _still_going(policy: Policy, before: Sequence[Record], now: datetime) -> str | None:
    """A run of which the newest attempt never said that it ended, and that may still be alive."""
    ended = {item.key for item in before if item.kind == "run-finished"}
    newest = {item.data.get("run", item.key): item for item in before if item.kind == "run-started"}
    for run, item in newest.items():
        longest = _longest_release(policy) if item.data.get("pipeline") == "release" else LONGEST_TRAINING
        if item.key not in ended and now - longest < item.time <= now:
            return str(run)
    return None


def _longest_release(policy: Policy) -> timedelta:
    release = policy.release
    return timedelta(seconds=(len(release.steps) + 1) * release.max_step_seconds + release.bake_seconds)
