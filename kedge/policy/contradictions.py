"""Demands of a policy that cannot all be had, whatever the rows: each names its field, and what to write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from kedge.clock import span
from kedge.policy import cron
from kedge.policy.metrics import RANGES
from kedge.policy.model import Feature
from kedge.policy.policy import Policy
from kedge.policy.release import Freeze, Release

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SERVED_ONLY = ("steps", "shadow_percent", "shadow_requests", "bake_seconds", "bake_champion_percent", "capacity")


def contradictions(policy: Policy) -> Iterator[str]:
    """In words, each beginning with the field it is about."""
    if policy.release.mode == "batch":
        given = [name for name in SERVED_ONLY if name in policy.release.model_fields_set]
        yield from (f"release.{name}: says nothing with mode: batch; leave it out" for name in given)
    else:
        yield from _of_release(policy)
    yield from _of_freezes(policy.release.freeze)
    yield from _of_gates(policy)
    yield from _of_triggers(policy)
    yield from _of_training(policy)
    yield from _of_notify(policy)


def _of_release(policy: Policy) -> Iterator[str]:
    release = policy.release
    yield from _of_times(release)
    last, kept = release.steps[-1].percent, release.bake_champion_percent
    if last == 100:
        yield "release.steps: at 100 % no champion is left to compare with; promotion follows the last step by itself"
    elif release.bake_seconds and 100 - kept < last:
        yield (
            f"release.bake_champion_percent: {kept} leaves the candidate {100 - kept} % while it bakes, less than its "
            f"last step ({last} %); at most {100 - last}"
        )
    analysis, guard = release.analysis, release.guard
    if analysis.min_failure_rate > guard.max_error_rate:
        yield (
            f"release.analysis.min_failure_rate: a candidate may fail in {analysis.min_failure_rate:.1%} of requests, "
            f"and the guard rolls a champion back above {guard.max_error_rate:.1%} (release.guard.max_error_rate)"
        )
    due = policy.labels.due_seconds
    if due is not None and analysis.on_score_shift == "hold" and due >= release.max_rollout_seconds:
        yield (
            f"release.analysis.on_score_shift: hold waits for outcomes, which are due after {_said(due)}; a release "
            f"ends after at most {_said(release.max_rollout_seconds)}: roll back or tell, or raise max_step_seconds"
        )
    if "batch" in release.model_fields_set:
        yield "release.batch: says nothing with mode: served; leave it out, or write mode: batch"


def _of_times(release: Release) -> Iterator[str]:
    """Times that a shorter one cuts off."""
    longest, begin = release.max_step_seconds, release.capacity.max_start_seconds
    if release.interval_seconds >= longest:
        yield (
            f"release.interval_seconds: evidence is looked at every {_said(release.interval_seconds)}, and a step ends "
            f"after {_said(longest)} (max_step_seconds): no candidate could be judged; lower it"
        )
    if release.expected_step_seconds > longest:
        yield (
            f"release.expected_step_seconds: {_said(release.expected_step_seconds)} is longer than max_step_seconds "
            f"({_said(longest)}), which ends the step without a verdict; raise that, or lower this"
        )
    if begin is not None and begin > release.ready_seconds:
        yield (
            f"release.capacity.max_start_seconds: {_said(begin)} is never reached: ready_seconds ends a release after "
            f"{_said(release.ready_seconds)}"
        )


def _of_freezes(freezes: Sequence[Freeze]) -> Iterator[str]:
    """Times that never come, or that leave no hour of a week."""
    frozen: set[tuple[str, int]] = set()
    for place, each in enumerate(freezes):
        if each.since is not None and each.until is not None and each.until <= each.since:
            yield f"release.freeze.{place}: until is not after since: it freezes nothing"
        if each.until is None:
            frozen |= set(_hours(each))
    if len(frozen) == 24 * len(WEEK):
        yield "release.freeze: together they leave no hour of a week: no candidate's share would ever rise"


def _hours(freeze: Freeze) -> Iterator[tuple[str, int]]:
    begins, ends = freeze.hours or (0, 24)
    hours = range(begins, ends if begins < ends else ends + 24)
    for day in freeze.weekdays or WEEK:
        yield from ((WEEK[(WEEK.index(day) + hour // 24) % 7], hour % 24) for hour in hours)


def _of_gates(policy: Policy) -> Iterator[str]:
    gates = policy.gates
    if gates.max_loss is not None and gates.min_improvement >= gates.max_loss:
        yield (
            f"gates.min_improvement: a champion's loss is at most max_loss ({gates.max_loss:g}), and none is below 0: "
            f"no challenger could be better by {gates.min_improvement:g}"
        )
    fairness = gates.fairness
    limits = (fairness.max_parity_difference, fairness.max_odds_difference, fairness.min_impact_ratio)
    if fairness.columns and all(limit is None for limit in limits):
        yield "gates.fairness.columns: nothing limits how differently their groups are decided about; give a limit"
    for place, metric in enumerate(policy.metrics):
        lowest, highest = RANGES.get(metric.name, (0.0, float("inf")))
        if ":" in metric.name:
            continue
        if metric.min is not None and metric.min > highest:
            yield f"metrics.{place}.min: {metric.name} is at most {highest:g}: no challenger could pass"
        if metric.max is not None and metric.max < lowest:
            yield f"metrics.{place}.max: {metric.name} is at least {lowest:g}: no challenger could pass"


def _of_triggers(policy: Policy) -> Iterator[str]:
    """What starts a retraining: never, or again and again."""
    triggers, budget, costs = policy.monitor.triggers, policy.monitor.budget, policy.costs
    if triggers.drift_and_estimate and policy.model.task == "regression":
        yield (
            "monitor.triggers.drift_and_estimate: a regression's error is not estimated without outcomes, so it never "
            "starts a retraining; leave it out"
        )
    if triggers.labelled_error and 0 < costs.error * costs.horizon_rows < costs.run + costs.release:
        yield (
            f"costs.horizon_rows: {costs.horizon_rows:,} wrong decisions cost {costs.error * costs.horizon_rows:,g}, "
            f"less than a retraining and a release ({costs.run + costs.release:,g}): labelled_error would never start "
            "one; raise it, or costs.error"
        )
    age, pause = triggers.max_age_seconds, cron.max_pause(policy.monitor.schedule)
    waits = {"budget.cooldown_seconds": budget.cooldown_seconds, "schedule": pause or 0.0}
    for field, wait in waits.items():
        if age is not None and age < wait:
            yield (
                f"monitor.triggers.max_age_seconds: rows older than {_said(age)} ask for a retraining, and "
                f"monitor.{field} lets {_said(wait)} pass: every champion is too old before it; raise it above {wait:g}"
            )


def _of_training(policy: Policy) -> Iterator[str]:
    train = policy.train
    for name in train.estimators if train.monotone else ():
        if name == "linear" or ":" in name:
            yield f"train.monotone: {name} holds no such constraint: a run would end; take it out of train.estimators"
    use = policy.cluster.steps.get("train")
    limit = use.max_seconds if use is not None else None
    if train.search is not None and limit is not None and train.search.seconds >= limit:
        yield (
            f"train.search.seconds: {_said(train.search.seconds)} of search do not fit into cluster.steps.train."
            f"max_seconds ({_said(limit)}), which ends the step; lower it"
        )
    for name, feature in policy.model.features.items():
        if not _holds_a_whole_number(feature):
            yield (
                f"model.features.{name}.min: no whole number lies from {feature.min:g} to {feature.max:g}: every row "
                "would be invalid; widen it, or write type: number"
            )


def _holds_a_whole_number(feature: Feature) -> bool:
    if feature.type != "integer" or feature.min is None or feature.max is None:
        return True
    return feature.max // 1 >= feature.min


def _of_notify(policy: Policy) -> Iterator[str]:
    notify = policy.notify
    if notify.url_variable is None and notify.model_fields_set - {"url_variable"}:
        yield "notify: nobody is told without url_variable, the variable that holds the address"
    if notify.url_variable is not None and not notify.states and not notify.notices:
        yield "notify.url_variable: states and notices are both empty: nothing would be told"


def _said(seconds: float) -> str:
    return span(timedelta(seconds=seconds))
