"""What a check tells about how outcomes arrive, with the lines of the policy to write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta

from kedge.clock import span
from kedge.monitoring.messages import moment
from kedge.monitoring.outcomes import Outcomes
from kedge.policy import Policy
from kedge.records.cohort import Cohort, Delays

MAX_LONE = 0.9
"""Share of the predictions up to which outcomes of one class alone look as if the others were never told."""


def of_scores(nan_scores: int, rows: int) -> tuple[str, ...]:
    """That scores are missing: they are in no figure."""
    return (f"{nan_scores:,} of {rows:,} scores of the window are no finite number",) if nan_scores else ()


def of_protected(unwatched: Mapping[str, str]) -> tuple[str, ...]:
    """Which groups are not watched, and why."""
    return tuple(f"fairness of {name} is not watched: it {why}" for name, why in unwatched.items())


def of_labels(policy: Policy, due: Outcomes, cohort: Cohort) -> tuple[str, ...]:
    """What people should know of a cohort's outcomes."""
    found = []
    if cohort.reason:
        found.append(f"labels incomplete, so the loss is not judged: {cohort.reason}")
    elif due.span.judged < due.span.start:
        since, until = moment(due.span.judged), moment(due.span.start)
        found.append(f"predictions of {since} to {until} waited too long for a verdict, and get none")
    if due.delays is not None:
        found += _of_delays(policy, due.delays)
    return tuple(found)


def _of_delays(policy: Policy, known: Delays) -> list[str]:
    if known.due_seconds is None:
        return []
    stated, hours = policy.labels.due_seconds, math.ceil(known.due_seconds / 3600) * 3600
    told = "; ".join(
        f"{name or 'half'} after {_span(delay.median)} (90 % after {_span(delay.q90)})"
        for name, delay in known.classes.items()
    )
    slack = policy.monitor.window_seconds / 24
    if known.differ(slack):
        return [f"outcomes are known at different times, {told}: write `labels: {{complete_after_seconds: {hours}}}`"]
    if stated is not None and known.due_seconds > stated + slack:
        return [f"outcomes take longer than stated, {told}: write `labels: {{delay_seconds: {hours}}}`"]
    only = next(iter(known.classes))
    lone = policy.model.task == "binary" and len(known.classes) == 1 and known.classes[only].share < MAX_LONE
    if not lone or known.seconds < 2 * known.due_seconds:
        return []
    line = f"labels: {{complete_after_seconds: {hours}, absent_means: negative}}"
    hint = f"if the others are negative, write `{line}`" if only == "positive" else "positive ones are missing"
    return [
        f"only {only} outcomes are ever told, of {known.classes[only].share:.1%} of the predictions within "
        f"{_span(known.seconds)}: {hint}"
    ]


def _span(seconds: float) -> str:
    return span(timedelta(seconds=seconds))
