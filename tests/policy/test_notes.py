from typing import Any

import pytest

from kedge import policy as policies
from kedge.policy.notes import notes
from kedge.scaffold.pace import pace

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


def noted(rows_a_day: float | None = None, **sections: Any) -> list[str]:
    model = MODEL | sections.pop("model", {})
    data = {"source": {"format": "log"}} | sections.pop("data", {})
    rules = {"model": model, "data": data, "labels": {"delay_seconds": 0}} | sections
    return notes(policies.parse(rules), rows_a_day)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"monitor": {"schedule": "0 0 30 2 *"}}, "monitor.schedule: '0 0 30 2 *' is a day that no year has"),
        (
            {"monitor": {"schedule": "0 6 * * 1", "window_seconds": DAY}},
            "monitor.window_seconds: checks are up to 7 days apart and look at 24 h: rows between are never looked at; "
            "raise it to 604800",
        ),
        (
            {"monitor": {"budget": {"cooldown_seconds": 60 * DAY}}},
            "monitor.budget.cooldown_seconds: 60 days between retrainings is longer than period_seconds (30 days)",
        ),
        (
            {"monitor": {"triggers": {"labelled_error": False, "growth": None}}},
            "monitor.triggers: all are switched off",
        ),
        ({"costs": {"error": 0}}, "costs.error: 0: errors cost nothing"),
        (
            {"release": {"max_step_seconds": 60, "steps": [{"percent": 5, "min_seconds": 300}]}},
            "release.steps.0.min_seconds: 5 min is longer than max_step_seconds (1 min): no candidate could",
        ),
        (
            {"cluster": {"steps": {"deploy": {"max_seconds": 3600}}}},
            "cluster.steps.deploy.max_seconds: ends every release after 1 h, but its steps and bake_seconds take 1.05",
        ),
        (
            {"labels": {"delay_seconds": 3 * DAY}, "data": {"history_seconds": 2 * DAY}},
            "data.history_seconds: rows at most 2 days old are trained on, and outcomes are due after 3 days: no row",
        ),
        (
            {"labels": {"delay_seconds": 3 * DAY}, "monitor": {"triggers": {"max_age_seconds": DAY}}},
            "monitor.triggers.max_age_seconds: the newest row of a training is already 3 days old",
        ),
        (
            {"labels": {"delay_seconds": 3 * DAY}, "gates": {"stale_after_seconds": DAY}},
            "gates.stale_after_seconds: the newest row of a training is already 3 days old",
        ),
        ({"gates": {"min_rows": 30}}, "gates.min_class_rows: 20 of each class are more than gates.min_rows asks for"),
        (
            {"model": {"features": {"x": {"type": "number", "min": 2, "max": 2}}}},
            "model.features.x.min: is also its max, 2: a feature of one value says nothing",
        ),
    ],
)
def test_demands_that_contradict_each_other_are_named_with_field_and_remedy(sections: Any, said: str) -> None:
    assert [note for note in noted(**sections) if note.startswith(said)]


@pytest.mark.parametrize(
    "only", [{"metrics": True}, {"new_labels": 100}, {"max_age_seconds": DAY}, {"drift_and_estimate": True}]
)
def test_one_trigger_that_is_left_is_not_told_to_be_none(only: Any) -> None:
    triggers = {"labelled_error": False, "growth": None} | only
    assert not [note for note in noted(monitor={"triggers": triggers}) if "switched off" in note]


def test_the_defaults_contradict_nothing_at_a_rate_that_they_fit() -> None:
    assert noted() == noted(10_000) == []


def test_a_rate_of_rows_that_cannot_fill_a_window_or_a_step_is_named() -> None:
    assert noted(25) == [
        'monitor.min_rows: at 25 rows a day a window has about 25, 200 are needed: every check would say "too few '
        'rows"; window_seconds: 1382400 holds enough',
        "release.steps.0.percent: at 25 rows a day a candidate at 5 % answers about 4 within max_step_seconds "
        "(3 days), 12 are needed: no candidate could be judged; give it a larger percent, or 9.98 days and more",
    ]


@pytest.mark.parametrize("rows_a_day", [10, 25, 158, 500, 1500, 1900, 5000, 1e6])
def test_what_init_writes_for_a_rate_is_met_by_that_rate(rows_a_day: float) -> None:
    fits = pace(rows_a_day)
    monitor = {
        "schedule": fits.schedule,
        "window_seconds": fits.window_seconds,
        "min_rows": fits.min_rows,
        "performance": {"min_labels": fits.min_labels},
    }
    steps = [{"percent": percent, "min_requests": fits.min_requests} for percent in fits.percents]
    release = {"max_step_seconds": fits.max_step_seconds, "steps": steps}
    said = noted(rows_a_day, monitor=monitor, release=release)
    assert [note for note in said if not note.startswith("release.analysis.harm: ")] == []


def test_traffic_too_little_to_find_the_stated_harm_is_told_with_what_would_find_it() -> None:
    assert noted(500) == [
        "release.analysis.harm: 500 rows a day are few: a candidate that fails in up to 4.1% of requests, 4 times "
        "this harm, may be promoted; expected_step_seconds: 158400 makes the steps long enough to rule the harm out; "
        "`kedge plan --policy FILE --rps 0.0058` shows each step"
    ]
    assert noted(500, release={"expected_step_seconds": 158_400}) == []
    assert noted(500, release={"analysis": {"harm": {"failure_rate": 0.1}}}) == []


def test_groups_that_no_check_can_tell_apart_are_said() -> None:
    def unwatched(privacy: str = "keep", labels: Any = None) -> list[str]:
        features = {"x": {"type": "number"}, "sex": {"type": "category", "privacy": privacy}}
        data = {"source": {"format": "csv", "location": "t.csv"}, "time_column": "t", "extra_columns": ["origin"]}
        rules = {
            "model": {"name": "m", "target": "y", "features": features},
            "data": data | ({"labels": labels} if labels else {}),
            "gates": {"fairness": {"columns": ["sex", "origin"]}},
        }
        return [note.split("groups of ")[1].split()[0] for note in notes(policies.parse(rules)) if "fairness" in note]

    assert unwatched() == ["origin"]
    assert unwatched(privacy="drop") == ["sex", "origin"]
    assert unwatched(privacy="hash", labels={"source": {"format": "csv", "location": "o.csv"}}) == []
