"""The story is judged by the records alone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kedge.demo import story
from kedge.demo.payments import START
from tests.records.made import record

ACTIONS = {"b": "warn", "c": "quarantine"}


def event(day: float, kind: str, *, bundle: str = "b", **data):
    about = {} if kind == "check" else {"bundle": bundle}
    time = START + timedelta(days=day)
    return record(kind, f"{kind}-{day}", time, model="payments", **about, **data)


def good_story() -> list:
    checks = [
        event(number + 1, "check", action=ACTIONS.get(episode.letter, "none"))
        for episode in story.EPISODES
        for number in range(episode.first, episode.last + 1)
    ]
    return [
        *checks,
        event(17.5, "check", action="retrain"),
        event(19, "promoted", bundle="b"),
        event(25, "evaluated", passed=True),
        event(27, "rolled-back", bundle="c", reason="scores on the same rows: -1.3 standard deviations"),
        event(29.1, "evaluated", bundle="d", passed=True),
        event(29.5, "rolled-back", bundle="d", reason="latency at 20 %: 12 of 14 above 50 ms"),
        event(31.1, "evaluated", bundle="e", passed=True),
        event(33, "rolled-back", bundle="e", reason="decisions on the same rows: cost 0.1 more"),
    ]


def failed(records: list) -> list[str]:
    return [x.claim[:3] for x in story.expectations(records) if not x.came_true]


def test_the_story_as_told_comes_true():
    assert failed(good_story()) == []


@pytest.mark.parametrize(
    ("extra", "claim"),
    [
        (event(3, "check", action="warn"), "(a)"),
        (event(8.5, "run-started"), "(b)"),
        (event(11.5, "run-started"), "(c)"),
        (event(20, "rolled-back"), "(d)"),
        (event(28, "promoted"), "(e)"),
        (event(30, "promoted"), "(f)"),
    ],
)
def test_one_event_too_many_spoils_its_episode(extra, claim):
    assert failed([*good_story(), extra]) == [claim]


@pytest.mark.parametrize(
    ("kind", "claims"),
    [("promoted", ["(d)"]), ("rolled-back", ["(e)", "(f)", "(g)"]), ("evaluated", ["(e)", "(f)", "(g)"])],
)
def test_one_event_too_few_spoils_its_episode(kind, claims):
    assert failed([x for x in good_story() if x.kind != kind]) == claims


def test_a_candidate_that_is_found_by_something_else_spoils_its_episode():
    story_as_told = good_story()
    reason = replace(story_as_told[-3].data, reason="failed requests at 20 %")
    story_as_told[-3] = replace(story_as_told[-3], data=reason)
    assert failed(story_as_told) == ["(f)"]


def test_a_demo_without_any_record_fails_every_episode_but_says_so():
    missing = story.expectations([])
    assert {x.claim[:3] for x in missing if not x.came_true} == {f"({letter})" for letter in "abcdefg"}
    assert missing[0].seen == "no check"
