"""The story is judged by the records alone."""

from datetime import timedelta

import pytest

from kedge.demo import story
from kedge.demo.payments import START
from tests.records.made import record

ACTIONS = {"a": "none", "b": "warn", "c": "quarantine", "d": "none", "e": "none"}


def event(day: float, kind: str, *, bundle: str = "b", **data):
    about = {} if kind == "check" else {"bundle": bundle}
    time = START + timedelta(days=day)
    return record(kind, f"{kind}-{day}", time, model="payments", **about, **data)


def good_story() -> list:
    checks = [
        event(number + 1, "check", action=ACTIONS[episode.letter])
        for episode in story.EPISODES
        for number in range(episode.first, episode.last + 1)
    ]
    return [
        *checks,
        event(17.5, "check", action="retrain"),
        event(19, "promoted", bundle="b"),
        event(25, "evaluated", passed=True),
        event(27, "rolled-back", bundle="c", reason="wrong more often"),
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
    ],
)
def test_one_event_too_many_spoils_its_episode(extra, claim):
    assert failed([*good_story(), extra]) == [claim]


@pytest.mark.parametrize(("kind", "claim"), [("promoted", "(d)"), ("rolled-back", "(e)"), ("evaluated", "(e)")])
def test_one_event_too_few_spoils_its_episode(kind, claim):
    assert failed([x for x in good_story() if x.kind != kind]) == [claim]


def test_a_demo_without_any_record_fails_every_episode_but_says_so():
    missing = story.expectations([])
    assert {x.claim[:3] for x in missing if not x.came_true} == {"(a)", "(b)", "(c)", "(d)", "(e)"}
    assert missing[0].seen == "no check"
