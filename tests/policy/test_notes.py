from typing import Any

import pytest

from kedge import policy as policies
from kedge.policy.notes import notes

DAY = 86_400
MODEL = {"name": "fraud", "target": "is_fraud", "features": {"x": {"type": "number"}}}


def said(delay: float | None, **release: Any) -> list[str]:
    labels = {} if delay is None else {"complete_after_seconds": delay}
    rules = {"model": MODEL, "data": {"source": {"format": "log"}}, "labels": labels, "release": release}
    return notes(policies.parse(rules))


def test_outcomes_that_come_within_the_shortest_release_need_no_words() -> None:
    assert said(0) == said(3600) == []


def test_a_release_that_may_end_before_its_outcomes_are_due_is_told_with_what_it_is_judged_on() -> None:
    assert said(DAY) == [
        "release: may end after 1.05 h, before its first outcomes are due (24 h): then it is judged on failed requests "
        "and latency alone; `min_labels` of a step, or longer `bake_seconds`, wait for them"
    ]


def test_a_release_that_always_ends_before_its_outcomes_are_due_is_told_so() -> None:
    assert said(30 * DAY) == [
        "release: ends after at most 9.04 days, before its first outcomes are due (30 days): it is judged on failed "
        "requests and latency alone"
    ]


def test_steps_that_wait_for_outcomes_need_no_words_if_they_can_have_them() -> None:
    steps = [{"percent": 20}, {"percent": 50, "min_labels": 50}]
    assert said(1.5 * DAY, steps=steps, max_step_seconds=DAY) == []


@pytest.mark.parametrize("delay", [2 * DAY, 30 * DAY])
def test_a_step_that_waits_for_outcomes_it_cannot_have_is_named(delay: float) -> None:
    steps = [{"percent": 20}, {"percent": 50, "min_labels": 50}]
    assert said(delay, steps=steps, max_step_seconds=DAY) == [
        f"release.steps.1.min_labels: the first outcomes are due after {delay / DAY:g} days, but the step ends after "
        "at most 2 days: no candidate could be judged"
    ]


def test_a_delay_nobody_stated_is_told_to_be_estimated() -> None:
    assert said(None) == [
        "labels: no delay is stated: checks estimate it from the log, and a canary takes their newest estimate"
    ]
