"""What a policy implies that its author may not expect."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from kedge.clock import span
from kedge.policy.policy import Policy

ALONE = "on failed requests and latency alone"


def notes(policy: Policy) -> list[str]:
    """In words, each with the field it is about; empty: nothing to be said.

    >>> from kedge.policy import parse
    >>> model = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    >>> rules = {"model": model, "data": {"source": {"format": "log"}}, "labels": {"delay_seconds": 86400}}
    >>> notes(parse(rules))[0][:65]
    'release: may end after 1.05 h, before its first outcomes are due '
    """
    due = policy.labels.due_seconds
    if due is None:
        return ["labels: no delay is stated: checks estimate it from the log, and a canary takes their newest estimate"]
    return list(_of_release(policy, due))


def _of_release(policy: Policy, due: float) -> Iterator[str]:
    """A release that ends before the outcomes of its own requests are due."""
    release = policy.release
    shortest = sum(step.min_seconds for step in release.steps) + release.bake_seconds
    longest = len(release.steps) * release.max_step_seconds + release.bake_seconds
    for index, step in enumerate(release.steps):
        limit = (index + 1) * release.max_step_seconds
        if step.min_labels and due >= limit:
            yield (
                f"release.steps.{index}.min_labels: the first outcomes are due after {_span(due)}, but the step ends "
                f"after at most {_span(limit)}: no candidate could be judged"
            )
            return
    if any(step.min_labels for step in release.steps):
        return
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
    return span(timedelta(seconds=seconds))
