"""What a policy implies that its author may not expect, and what of it cannot all be had."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

from kedge import clock
from kedge.figures import in_words
from kedge.policy import cron
from kedge.policy.contradictions import contradictions
from kedge.policy.policy import Policy
from kedge.policy.release import Release

ALONE = "on failed requests and latency alone"
DAY = 86_400
NO_DELAY = "labels: no delay is stated: checks estimate it from the log, and a canary takes their newest estimate"
RULED_OUT = 5.0
"""Requests without a failure, times the rate of failures that they rule out: three do at the level 0.05, and looking at
any time costs more than half as many again."""
MAX_TIMES = 10
"""Times the harm that a step that lasts must still rule out, see :mod:`kedge.rollout.judge`."""
FAR = 2.0
"""Times the stated harm from which it is said that less is not found."""


def notes(policy: Policy, rows_a_day: float | None = None) -> list[str]:
    """In words, each beginning with the field it is about; empty: nothing to be said.

    Args:
        rows_a_day: Rows, and so requests, that the model is likely to meet; None: not known.

    >>> from kedge.policy import parse
    >>> model = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    >>> rules = {"model": model, "data": {"source": {"format": "log"}}, "labels": {"delay_seconds": 86400}}
    >>> notes(parse(rules))[0][:65]
    'release: may end after 1.05 h, before its first outcomes are due '
    """
    due = policy.labels.due_seconds
    found = [*_of_schedule(policy), *_of_budget(policy), *_of_steps(policy), *_of_rows(policy), *_of_fairness(policy)]
    found += contradictions(policy)
    found += [NO_DELAY] if due is None else [*_of_age(policy, due), *_of_release(policy, due)]
    if rows_a_day is not None:
        found += _of_rate(policy, rows_a_day)
    return found


def _of_schedule(policy: Policy) -> Iterator[str]:
    """A calendar that never comes, or that leaves rows between its windows."""
    monitor = policy.monitor
    pause = cron.max_pause(monitor.schedule)
    if pause is None:
        yield f"monitor.schedule: {monitor.schedule!r} is a day that no year has: no check would ever run"
    elif pause > monitor.window_seconds:
        yield (
            f"monitor.window_seconds: checks are up to {_span(pause)} apart and look at {_span(monitor.window_seconds)}"
            f": rows between are never looked at; raise it to {pause:g}, or check more often"
        )


def _of_budget(policy: Policy) -> Iterator[str]:
    """Limits of which one makes the other say nothing."""
    budget, triggers = policy.monitor.budget, policy.monitor.triggers
    if budget.max_retrains > 1 and budget.cooldown_seconds > budget.period_seconds:
        yield (
            f"monitor.budget.cooldown_seconds: {_span(budget.cooldown_seconds)} between retrainings is longer than "
            f"period_seconds ({_span(budget.period_seconds)}), in which max_retrains allows {budget.max_retrains}: "
            "lower it, or raise period_seconds"
        )
    if not any(triggers.model_dump().values()):
        yield "monitor.triggers: all are switched off: no check will ever start a retraining"
    elif policy.costs.error == 0 and triggers.labelled_error:
        yield "costs.error: 0: errors cost nothing, so monitor.triggers.labelled_error will never start a retraining"


def _of_steps(policy: Policy) -> Iterator[str]:
    """Steps that their own time limit, or that of the step that carries them out, ends."""
    release = policy.release
    if release.mode == "batch":
        return
    for index, step in enumerate(release.steps):
        if step.min_seconds > release.max_step_seconds:
            yield (
                f"release.steps.{index}.min_seconds: {_span(step.min_seconds)} is longer than max_step_seconds "
                f"({_span(release.max_step_seconds)}): no candidate could be judged; lower it"
            )
    use = policy.cluster.steps.get("deploy")
    shortest = sum(step.min_seconds for step in release.steps) + release.bake_seconds
    if use is not None and use.max_seconds is not None and use.max_seconds <= shortest:
        yield (
            f"cluster.steps.deploy.max_seconds: ends every release after {_span(use.max_seconds)}, but its steps and "
            f"bake_seconds take {_span(shortest)} at least; raise it well above"
        )


def _of_rows(policy: Policy) -> Iterator[str]:
    """Rows that no table can give, or features that say nothing."""
    gates, row_time = policy.gates, policy.data.row_time
    needed = len(policy.model.class_names) * gates.min_class_rows
    if needed > gates.min_rows:
        yield (
            f"gates.min_class_rows: {gates.min_class_rows} of each class are more than gates.min_rows asks for in all "
            f"({gates.min_rows}): the judgement waits for {needed}"
        )
    if (
        row_time is not None
        and row_time.start.replace(tzinfo=row_time.start.tzinfo or clock.now().tzinfo) > clock.now()
    ):
        yield f"data.row_time.start: {row_time.start} is in the future, and rows after now are not trained on"
    for name, feature in policy.model.features.items():
        if feature.min is not None and feature.min == feature.max:
            yield f"model.features.{name}.min: is also its max, {feature.min:g}: a feature of one value says nothing"


def _of_fairness(policy: Policy) -> Iterator[str]:
    """Protected columns whose groups nothing tells apart once a model serves."""
    for name in policy.gates.fairness.columns:
        feature = policy.model.features.get(name)
        if policy.data.labels is None and (feature is None or feature.privacy not in ("keep", "hash")):
            yield (
                f"gates.fairness.columns: the prediction log will not tell the groups of {name} apart, and data.labels "
                "names no table of outcomes that could: a challenger is judged by it, and checks do not watch it"
            )


def _of_age(policy: Policy, due: float) -> Iterator[str]:
    """Ages that rows have before their outcome is due."""
    history, triggers = policy.data.history_seconds, policy.monitor.triggers
    if history is not None and history <= due:
        yield (
            f"data.history_seconds: rows at most {_span(history)} old are trained on, and outcomes are due after "
            f"{_span(due)}: no row is ever both; raise it well above"
        )
    for field, age in (
        ("monitor.triggers.max_age_seconds", triggers.max_age_seconds),
        ("gates.stale_after_seconds", policy.gates.stale_after_seconds),
    ):
        if age is not None and age <= due:
            yield (
                f"{field}: the newest row of a training is already {_span(due)} old, when its outcome is due: every "
                f"champion would be too old at once; raise it above {due:g}"
            )


def _of_rate(policy: Policy, rows_a_day: float) -> Iterator[str]:
    """What so many rows a day cannot fulfil in time."""
    monitor, release = policy.monitor, policy.release
    said = f"{in_words(rows_a_day)} rows a day"
    history, least = policy.data.history_seconds, policy.train.min_rows + policy.gates.min_rows
    if history is not None and rows_a_day * history / DAY < least:
        yield (
            f"data.history_seconds: at {said} {_span(history)} hold about {rows_a_day * history / DAY:,.0f}, and "
            f"train.min_rows and gates.min_rows need {least:,}: no run could train; raise it"
        )
    in_window = rows_a_day * monitor.window_seconds / DAY
    if in_window < monitor.min_rows:
        days = max(1, round(2 * monitor.min_rows / rows_a_day + 0.5)) if rows_a_day else 0
        yield (
            f"monitor.min_rows: at {said} a window has about {in_window:,.0f}, {monitor.min_rows} are needed: every "
            f'check would say "too few rows"; ' + (f"window_seconds: {days * DAY} holds enough" if days else "")
        )
    elif in_window < monitor.performance.min_labels:
        yield (
            f"monitor.performance.min_labels: at {said} a window has about {in_window:,.0f} outcomes, "
            f"{monitor.performance.min_labels} are needed: performance would never be judged; lengthen window_seconds"
        )
    if release.mode == "served":
        yield from _of_harm(release, rows_a_day)


def _of_harm(release: Release, rows_a_day: float) -> Iterator[str]:
    """Steps that so few requests cannot end, or that end with more than the stated harm possible."""
    said, times = f"{in_words(rows_a_day)} rows a day", 1.0
    for index, step in enumerate(release.steps):
        daily, longest = rows_a_day * step.percent / 100, release.max_step_seconds
        needed, times = _ruled_out(release, index, daily)
        if daily * longest / DAY < needed:
            time = needed / max(daily, 1e-9) * DAY
            yield (
                f"release.steps.{index}.percent: at {said} a candidate at {step.percent} % answers about "
                f"{daily * longest / DAY:,.0f} within max_step_seconds ({_span(longest)}), {needed:,.0f} are needed: "
                f"no candidate could be judged; give it a larger percent, or {_span(time)} and more"
            )
            return
    if times >= FAR:
        yield _missed_harm(release, rows_a_day, times)


def _missed_harm(release: Release, rows_a_day: float, times: float) -> str:
    analysis, daily = release.analysis, rows_a_day * release.steps[-1].percent / 100
    rate = analysis.min_failure_rate + times * analysis.harm.failure_rate
    hours = math.ceil(_requests(release, len(release.steps) - 1, 1.0) / daily * DAY / 3600)
    return (
        f"release.analysis.harm: {in_words(rows_a_day)} rows a day are few: a candidate that fails in up to "
        f"{rate:.1%} of requests, {times:.2g} times this harm, may be promoted; expected_step_seconds: {3600 * hours} "
        f"makes the steps long enough to rule the harm out; `kedge plan --policy FILE --rps {rows_a_day / DAY:.2g}` "
        "shows each step"
    )


def _ruled_out(release: Release, index: int, daily: float) -> tuple[float, float]:
    """Requests that a step ends with, and how many times the stated harm they rule out."""
    expected = daily * release.expected_step_seconds / DAY
    for quarters in range(4, 4 * MAX_TIMES):
        needed = _requests(release, index, quarters / 4)
        if needed <= quarters / 4 * expected:
            return needed, quarters / 4
    return _requests(release, index, MAX_TIMES), MAX_TIMES


def _requests(release: Release, index: int, times: float) -> float:
    """Requests without a failure that rule out so many times the harm before the share that comes after a step."""
    analysis, steps = release.analysis, release.steps
    share = steps[index + 1].percent / 100 if index + 1 < len(steps) else 1.0
    rate = min(analysis.min_failure_rate + analysis.harm.failure_rate * times / share, 1.0)
    return max(steps[index].min_requests, RULED_OUT / rate)


def _of_labelled_steps(release: Release, due: float) -> Iterator[str]:
    """The first step that ends before the outcomes it wants are due."""
    for index, step in enumerate(release.steps):
        limit = (index + 1) * release.max_step_seconds
        if step.min_labels and due >= limit:
            yield (
                f"release.steps.{index}.min_labels: the first outcomes are due after {_span(due)}, but the step ends "
                f"after at most {_span(limit)}: no candidate could be judged"
            )
            return


def _of_release(policy: Policy, due: float) -> Iterator[str]:
    """A release that ends before the outcomes of its own requests are due."""
    release = policy.release
    if release.mode == "batch":
        return
    if any(step.min_labels for step in release.steps):
        yield from _of_labelled_steps(release, due)
        return
    shortest = sum(step.min_seconds for step in release.steps) + release.bake_seconds
    longest = release.max_rollout_seconds
    if due >= longest:
        yield (
            f"release: ends after at most {_span(longest)}, before its first outcomes are due ({_span(due)}): it is "
            f"judged {ALONE}"
        )
    elif due >= shortest:
        yield (
            f"release: may end after {_span(shortest)}, before its first outcomes are due ({_span(due)}): then it is "
            f"judged {ALONE}; `min_labels` of a step, or longer `bake_seconds`, wait for them"
        )


def _span(seconds: float) -> str:
    return clock.span(timedelta(seconds=seconds))
