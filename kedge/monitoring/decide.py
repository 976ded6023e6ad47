"""From what a check saw, and what happened before, to what is to be done. Pure: ``kedge replay`` runs the same code.

Two things are decided apart. The *alarm* tells people that the error rose, with a stated error rate. The *trigger* pays
in cost: the errors above the best level that a champion of this model held have added up to what a run and a release
cost. See :mod:`kedge.monitoring.alarm` and :mod:`kedge.monitoring.regret`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kedge import decision
from kedge.monitoring import alarm as alarms
from kedge.monitoring import messages, probing, quarantine, regret
from kedge.monitoring.alarm import Alarm, Span
from kedge.monitoring.check import Check
from kedge.monitoring.history import due_release
from kedge.monitoring.regret import Regret, Result
from kedge.policy import Model, Policy
from kedge.records import Action, Evaluated, ModelState, Record, Retraining

MAX_TRAINING_TIME = timedelta(days=1)
"""A training that started longer ago than this and never said it ended is taken for dead, and blocks nothing."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done, why, and the key under which it is done at most once."""

    action: Action
    reasons: tuple[str, ...]
    key: str
    change_point: datetime | None = None
    """Since when the relation is another one; None: no rise is known."""
    regret: Regret | None = None
    alarm: Alarm | None = None
    """The states that the next check starts from; None: there is no champion with a level to hold."""


def decide(policy: Policy, state: ModelState, check: Check, now: datetime) -> Decision:
    """Decide what a check asks for.

    A corrupt window is quarantined, and nothing else counts. Otherwise each trigger the policy switched on is a cause
    to retrain; the policy's budget, a cooldown, a run still going or a challenger whose release is to come hold it
    back, and then the decision is to warn. An alarm, groups decided differently, drift or a risen estimate alone warn,
    and never more. A check that saw nothing asks for nothing.

    Args:
        policy: Its ``monitor`` section and ``costs`` rule.
        state: Of the model at ``now``, without this check.
        check: What was seen.
        now: Event time.

    Returns:
        The same inputs give the same decision and key.
    """
    key = decision_key(check)
    cost, alarm = fold(policy, state, check)
    change = cost.change_point if cost.drift > 0 else None
    made = Decision(action="none", reasons=(), key=key, change_point=change, regret=cost, alarm=alarm)
    if check.corrupt:
        reasons = (*(breach.sentence for breach in check.corrupt), *quarantine.question(policy, check.corrupt))
        return replace(made, action="quarantine", reasons=reasons)
    causes = dict(_causes(policy, state, check, cost, now))
    if not causes:
        notes = tuple(_notes(policy, state, check, cost, alarm))
        return replace(made, action="warn" if notes else "none", reasons=notes or (messages.quiet(check),))
    reasons = (*causes.values(), *(() if "metrics" in causes else _broken(check)))
    held = tuple(_held_back(policy, state, now))
    if held:
        return replace(made, action="warn", reasons=(*reasons, *held))
    asked = regret.asked(cost, key, by_excess="excess" in causes)
    return replace(made, action="retrain", reasons=reasons, regret=asked)


def decision_key(check: Check) -> str:
    """The key of the decision on a check's window under its champion: a time, then eight hex digits.

    A run submitted under it is submitted once, whoever tries again.
    """
    text = f"{check.model}\n{check.champion.bundle}\n{check.champion.tenure_id}\n{check.end.isoformat()}"
    return f"{check.end:%Y%m%dt%H%M%S}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def fold(policy: Policy, state: ModelState, check: Check) -> tuple[Regret, Alarm]:
    """The states after this check: those of the check before, what ended since, then the rows that became due."""
    previous = state.check
    cost, alarm = _before(policy, check)
    if previous is not None and previous.data.regret and previous.data.alarm:
        cost, alarm = Regret.from_dict(previous.data.regret), Alarm.from_dict(previous.data.alarm)
        cost = regret.repriced(cost, policy.costs)
        again = state.unfinished(by_hand=policy.release.approval == "manual")  # failed, and is tried again
        due = again.data.decision_key if again is not None else None
        for retraining in state.retrainings:
            if retraining.key == cost.decision_key != due and retraining.brought is not None:
                cost = regret.ended(cost, policy.costs, _result(retraining), useful=_useful(state, retraining))
    if cost.tenure_id != check.champion.tenure_id:
        since = max(check.champion.since, previous.time) if previous is not None else check.champion.since
        cost = regret.begin_tenure(cost, check.champion.tenure_id, since)
        alarm = alarms.begin_tenure(alarm, _reference(policy.model, check))
    rows = check.cohort
    if not rows.rows:
        return cost, alarm
    asked = probing.due(policy, cost)
    span = Span(rows=rows.rows, total=rows.cost, square=rows.cost_square, end=check.end)
    return (
        regret.observe(
            cost,
            policy.costs,
            rows=rows.rows,
            cost=rows.cost,
            square=rows.cost_square,
            end=rows.end or check.end,
            probe_cost=rows.probe_cost,
            by_level=asked or not probing.possible(policy),
        ),
        alarms.observe(
            alarm, span, bound=largest_cost(policy.model), min_increase=policy.monitor.performance.min_increase
        ),
    )


def largest_cost(model: Model) -> float | None:
    """Most that one row can cost, in wrong decisions; None: there is no bound (regression)."""
    if model.task == "regression":
        return None
    return decision.dearest_mistake(model) / decision.mean_mistake(model)


def _before(policy: Policy, check: Check) -> tuple[Regret, Alarm]:
    """The states of a model that was not checked before."""
    reference, rows = _reference(policy.model, check), check.cohort
    level = reference.total / reference.rows if reference.rows else (rows.cost / rows.rows if rows.rows else 0.0)
    start = Regret.start(
        policy.costs,
        level=level,
        tenure_id=check.champion.tenure_id,
        trained_rows=check.trained_rows,
        since=check.champion.since,
    )
    return start, Alarm(baseline=reference)


def _reference(model: Model, check: Check) -> Span:
    """What the champion cost on rows it was not trained on, when it was made."""
    level, rows = check.reference_cost, check.reference_rows
    if level is None:
        return Span(rows=0, total=0.0, square=0.0, end=check.champion.since)
    bound = largest_cost(model)
    square = level * bound if bound is not None else 2 * level * level
    return Span(rows=rows, total=level * rows, square=square * rows, end=check.champion.since)


def _result(retraining: Retraining) -> Result:
    if retraining.brought == "promoted":
        return "promoted"
    return "rejected" if retraining.brought in ("rejected", "rolled back") else "nothing shown"


def _useful(state: ModelState, retraining: Retraining) -> bool:
    """Whether its challenger decided better on the judged rows; of a regression its loss says so."""
    judged: Record[Evaluated] | None = state.evaluation(retraining.bundle) if retraining.bundle else None
    figures = judged.data.metrics if judged is not None else {}
    saved, error = figures.get("saved"), figures.get("saved_error")
    if saved is None or error is None:  # a regression, and evaluations recorded before these figures
        won, lost = figures.get("only_champion_wrong"), figures.get("only_challenger_wrong")
        if won is None or lost is None:
            return retraining.brought == "promoted"
        saved, error = won - lost, math.sqrt(won + lost)
    return saved > 0 and saved >= regret.USEFUL * error


def shifted_and_risen(policy: Policy, check: Check) -> bool | None:
    """Whether the inputs drifted and the estimated loss rose; None without a verdict on both."""
    if check.inputs.verdict != "compared" or check.estimate is None or check.estimate.risen is None:
        return None
    return drifted(policy, check) and check.estimate.risen


def drifted(policy: Policy, check: Check) -> bool:
    """Whether features that matter drifted."""
    return bool(check.inputs.drifted) and check.inputs.drifted_importance >= policy.monitor.drift.min_drifted_importance


def _causes(policy: Policy, state: ModelState, check: Check, cost: Regret, now: datetime) -> Iterator[tuple[str, str]]:
    """Triggers that are there, by name, in words."""
    triggers, budget = policy.monitor.triggers, policy.monitor.budget
    if triggers.labelled_error and regret.pays(cost, policy.costs, budget.min_labels_after_rise):
        yield "excess", messages.excess(check, cost, policy)
    if regret.outgrown(cost, triggers.growth):
        yield "growth", messages.growth(cost)
    if triggers.drift_and_estimate and (times := _shifted_in_a_row(policy, state, check)) >= budget.consecutive_checks:
        yield "shift", f"{messages.inputs(check)}; {messages.estimate(check)}, {messages.times(times)}"
    if triggers.max_age_seconds is not None and check.trained_until is not None:
        age = now - check.trained_until
        if age.total_seconds() > triggers.max_age_seconds:
            limit = timedelta(seconds=triggers.max_age_seconds)
            yield (
                "age",
                f"the champion's training rows end {messages.span(age)} ago; at most {messages.span(limit)} allowed",
            )
    if triggers.metrics and _judged_since_retraining(state, check) >= budget.min_labels_after_rise:
        yield from (("metrics", sentence) for sentence in _broken(check))
    if triggers.new_labels is not None and check.new_labels is not None and check.new_labels >= triggers.new_labels:
        yield "labels", f"{check.new_labels:,} new labels; {triggers.new_labels:,} ask for a retraining"


def _broken(check: Check) -> list[str]:
    """The limits on metrics that are broken, as one sentence, or none."""
    return ["; ".join(check.performance.broken_limits)] if check.performance.broken_limits else []


def _judged_since_retraining(state: ModelState, check: Check) -> int:
    """Rows of this tenure that checks judged since the last retraining, this one's among them."""
    since = max((each.time for each in state.retrainings), default=check.champion.since)
    judged = [item.data for item in state.checks if item.time > since]
    cohorts = [data.cohort for data in judged if data.champion.tenure_id == check.champion.tenure_id]
    return check.cohort.rows + sum(each.rows for each in cohorts if each is not None)


def _shifted_in_a_row(policy: Policy, state: ModelState, check: Check) -> int:
    """Checks of this tenure in a row, this one the last, in which inputs drifted and the estimate rose."""
    if not shifted_and_risen(policy, check):
        return 0
    count = 1
    for data in (item.data for item in reversed(state.checks)):
        signal = data.signals.get("shift")
        if data.champion.tenure_id != check.champion.tenure_id or data.action == "quarantine" or signal is None:
            break
        if not signal.breached:
            break
        count += 1
    return count


def _notes(policy: Policy, state: ModelState, check: Check, cost: Regret, alarm: Alarm) -> Iterator[str]:
    """What people are told though nothing is done."""
    if alarm.open:
        said = check.cohort.probe_cost is not None or not probing.possible(policy)
        yield messages.risen(alarm, cost, policy, said=said)
        if check.outcomes.drifted:
            yield messages.outcomes(check)
    yield from _broken(check)
    if cost.pending:
        yield "the retraining that the risen error paid for has not ended yet"
    if check.fairness is not None:
        yield from check.fairness.exceeded
    if drifted(policy, check):
        yield messages.inputs(check) + (messages.SKEW if _first_of_tenure(state, check) else "")
    if check.inputs.pairs:
        yield messages.pairs(check)
    if check.scores.drifted and (check.inputs.drifted or check.inputs.pairs):
        yield messages.scores_drifted(check)
    if check.nan_scores:
        yield messages.scores(check)
    if check.estimate is not None and check.estimate.risen:
        yield f"{messages.estimate(check)}; an estimate warns, it does not act alone"


def _first_of_tenure(state: ModelState, check: Check) -> bool:
    """Whether no check before could compare the champion's inputs."""
    before = (item.data for item in state.checks if item.data.champion.tenure_id == check.champion.tenure_id)
    return not any(data.inputs.verdict == "compared" for data in before)


def _held_back(policy: Policy, state: ModelState, now: datetime) -> Iterator[str]:
    budget, past = policy.monitor.budget, state.budgeted
    going = _still_going(policy, state, now)
    if going is not None:
        yield f"run {going} is still going"
    elif (bundle := state.awaits_release(by_hand=policy.release.approval == "manual")) is not None:
        yield f"bundle {bundle[:12]} passed its gates; its release comes first"
    elif policy.release.mode == "batch" and (begun := state.open_release) is not None:
        yield f"bundle {begun.data.bundle[:12]} is judged on the next tables that both score; its release comes first"
    elif (failed := due_release(state, policy, now)) is not None:
        yield f"the release of bundle {failed.bundle[:12]} failed by no fault of its own; it is tried again first"
    if past and (now - past[-1].time).total_seconds() < budget.cooldown_seconds:
        ends = past[-1].time + timedelta(seconds=budget.cooldown_seconds)
        yield f"cooldown after the retraining of {messages.moment(past[-1].time)} until {messages.moment(ends)}"
    period = timedelta(seconds=budget.period_seconds)
    if (used := state.spent(budget, now)) >= budget.max_retrains:
        yield f"budget spent: {used} retrainings within {messages.span(period)}, at most {budget.max_retrains}"


def _still_going(policy: Policy, state: ModelState, now: datetime) -> str | None:
    """A run of which the newest attempt never said that it ended, and that may still be alive."""
    for run in state.runs:
        begun = run.newest.started
        longest = _max_release_time(policy) if run.pipeline == "release" else MAX_TRAINING_TIME
        if run.running and begun is not None and now - longest < begun.time:
            return run.name
    return None


def _max_release_time(policy: Policy) -> timedelta:
    return timedelta(seconds=policy.release.max_step_seconds + policy.release.max_rollout_seconds)
