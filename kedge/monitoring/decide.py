"""From what a check saw, and what happened before, to what is to be done. Pure: ``kedge replay`` runs the same code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kedge.monitoring import messages, quarantine
from kedge.monitoring.alarm import Alarm, Observation, alarm
from kedge.monitoring.check import Check
from kedge.monitoring.history import due_release
from kedge.policy import Policy
from kedge.records import Action, ModelState

MAX_TRAINING_TIME = timedelta(days=1)
"""A training that started longer ago than this and never said it ended is taken for dead, and blocks nothing."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done, why, and the key under which it is done at most once."""

    action: Action
    reasons: tuple[str, ...]
    key: str


def decide(policy: Policy, state: ModelState, check: Check, now: datetime) -> Decision:
    """Decide what a check asks for.

    A corrupt window is quarantined, and nothing else counts. Otherwise each trigger the policy switched on is a cause
    to retrain; the policy's budget, a cooldown, a run still going, a challenger whose release is to come or too few
    labels since the error rose hold it back, and then the decision is to warn. Drift alone or a risen estimate alone
    warns, and never more. A check that saw nothing asks for nothing.

    Args:
        policy: Its ``monitor`` section rules.
        state: Of the model at ``now``, without this check.
        check: What was seen.
        now: Event time.

    Returns:
        The same inputs give the same decision and key.
    """
    key = decision_key(check)
    if check.corrupt:
        reasons = (*(breach.sentence for breach in check.corrupt), *quarantine.question(policy, check.corrupt))
        return Decision(action="quarantine", reasons=reasons, key=key)
    error = alarm([*_observations(state, check, "error"), _error_now(check)], policy.monitor.budget.consecutive_checks)
    causes = _causes(policy, state, check, error, now)
    if not causes:
        notes = _notes(policy, check, error)
        return Decision(action="warn" if notes else "none", reasons=notes or (messages.quiet(check),), key=key)
    held = _held_back(policy, state, check, error, now)
    return Decision(action="warn" if held else "retrain", reasons=(*causes, *held), key=key)


def decision_key(check: Check) -> str:
    """The key of the decision on a check's window under its champion: a time, then eight hex digits.

    A run submitted under it is submitted once, whoever tries again.
    """
    text = f"{check.model}\n{check.champion.bundle}\n{check.champion.tenure_id}\n{check.end.isoformat()}"
    return f"{check.end:%Y%m%dt%H%M%S}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _error_now(check: Check) -> Observation:
    found = _observation(check, check.performance.worse, check.performance.rows, error_evidence_id(check))
    cohort = check.cohort
    return found if cohort.start is None or cohort.end is None else replace(found, start=cohort.start, end=cohort.end)


def _shift_now(policy: Policy, check: Check) -> Observation:
    return _observation(check, shifted_and_risen(policy, check), 0, check.end.isoformat())


def _observation(check: Check, breached: bool | None, labels: int, evidence_id: str) -> Observation:
    return Observation(breached=breached, start=check.start, end=check.end, labels=labels, evidence_id=evidence_id)


def error_evidence_id(check: Check) -> str:
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
    return bool(check.inputs.drifted) and check.inputs.drifted_importance >= policy.monitor.drift.min_drifted_importance


def _observations(state: ModelState, check: Check, signal: str) -> list[Observation]:
    """The past checks since this tenure began; a quarantined one has no verdict."""
    found: list[Observation] = []
    for data in (item.data for item in state.checks):
        if data.champion.tenure_id != check.champion.tenure_id:
            found.clear()
            continue
        seen, start, end = data.signals[signal], data.window.start, data.window.end
        if signal == "error" and data.cohort is not None:
            start, end = data.cohort.start or start, data.cohort.end or end
        breached = None if data.action == "quarantine" else seen.breached
        found.append(
            Observation(breached=breached, start=start, end=end, labels=seen.labels, evidence_id=seen.evidence_id)
        )
    return found


def _causes(policy: Policy, state: ModelState, check: Check, error: Alarm, now: datetime) -> tuple[str, ...]:
    triggers, needed = policy.monitor.triggers, policy.monitor.budget.consecutive_checks
    found = []
    if triggers.labelled_error and error.on and check.performance.worse:
        found.append(f"{messages.error(check)}, {messages.times(error.count)}")
    if triggers.drift_and_estimate and shifted_and_risen(policy, check):
        both = alarm([*_observations(state, check, "shift"), _shift_now(policy, check)], needed)
        if both.on:
            found.append(f"{messages.inputs(check)}; {messages.estimate(check)}, {messages.times(both.count)}")
    if triggers.max_age_seconds is not None and check.trained_until is not None:
        age = now - check.trained_until
        if age.total_seconds() > triggers.max_age_seconds:
            limit = timedelta(seconds=triggers.max_age_seconds)
            found.append(
                f"the champion's training rows end {messages.span(age)} ago; at most {messages.span(limit)} allowed"
            )
    if triggers.new_labels is not None and check.new_labels is not None and check.new_labels >= triggers.new_labels:
        found.append(f"{check.new_labels:,} new labels; {triggers.new_labels:,} ask for a retraining")
    return tuple(found)


def _notes(policy: Policy, check: Check, error: Alarm) -> tuple[str, ...]:
    needed = policy.monitor.budget.consecutive_checks
    found = []
    if check.performance.worse:
        waits = "" if error.on else f" of {needed} that are needed"
        off = "" if policy.monitor.triggers.labelled_error else "; the policy does not retrain on it"
        found.append(f"{messages.error(check)}, {messages.times(error.count)}{waits}{off}")
    if drifted(policy, check):
        found.append(messages.inputs(check))
    if check.nan_scores:
        found.append(messages.scores(check))
    if check.estimate is not None and check.estimate.risen:
        found.append(f"{messages.estimate(check)}; an estimate warns, it does not act alone")
    return tuple(found)


def _held_back(policy: Policy, state: ModelState, check: Check, error: Alarm, now: datetime) -> tuple[str, ...]:
    budget, past = policy.monitor.budget, state.retrainings
    found = []
    if error.on and check.performance.worse and error.labels < budget.min_labels_after_rise:
        found.append(
            f"waits for labels: {error.labels:,} since the loss rose, {budget.min_labels_after_rise:,} are needed"
        )
    going = _still_going(policy, state, now)
    if going is not None:
        found.append(f"run {going} is still going")
    elif (bundle := state.awaits_release(by_hand=policy.release.approval == "manual")) is not None:
        found.append(f"bundle {bundle[:12]} passed its gates; its release comes first")
    elif (failed := due_release(state, policy, now)) is not None:
        found.append(
            f"the release of bundle {failed.bundle[:12]} failed by no fault of its own; it is tried again first"
        )
    if past and (now - past[-1].time).total_seconds() < budget.cooldown_seconds:
        ends = past[-1].time + timedelta(seconds=budget.cooldown_seconds)
        found.append(f"cooldown after the retraining of {messages.moment(past[-1].time)} until {messages.moment(ends)}")
    period = timedelta(seconds=budget.period_seconds)
    if (used := state.spent(budget, now)) >= budget.max_retrains:
        found.append(f"budget spent: {used} retrainings within {messages.span(period)}, at most {budget.max_retrains}")
    return tuple(found)


def _still_going(policy: Policy, state: ModelState, now: datetime) -> str | None:
    """A run of which the newest attempt never said that it ended, and that may still be alive."""
    for run in state.runs:
        begun = run.newest.started
        longest = _max_release_time(policy) if run.pipeline == "release" else MAX_TRAINING_TIME
        if run.running and begun is not None and now - longest < begun.time:
            return run.name
    return None


def _max_release_time(policy: Policy) -> timedelta:
    release = policy.release
    return timedelta(seconds=(len(release.steps) + 1) * release.max_step_seconds + release.bake_seconds)
