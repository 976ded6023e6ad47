"""What people may hold a release by, and what its progress says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kedge import records
from kedge.errors import SlotNotReady, UsageError
from kedge.policy.release import Freeze
from kedge.rollout import progress
from kedge.rollout.holds import frozen
from kedge.rollout.rollout import run
from kedge.rollout.suspend import resume, suspend
from tests.records.made import record

NEW = "b" * 40


def during(platform, asked, when, change):
    """Make a change once, when it is time."""
    before, done = asked.sleep, []

    def sleep(seconds):
        before(seconds)
        rollout = platform.current_route.rollout
        if rollout is not None and not done and when(rollout):
            done.append(True)
            change()

    asked.sleep = sleep
    return asked


def at(percent):
    return lambda rollout: rollout.state == "canary" and rollout.weights["green"] == percent


def after(platform, seconds):
    return lambda rollout: (platform.now - rollout.started).total_seconds() > seconds


def entered(platform, percent):
    """When the candidate first had a share, in seconds since the beginning."""
    first = next(route for route in platform.routes if route.weights.get("green") == percent)
    return (first.rollout.since - platform.routes[0].rollout.started).total_seconds()


def test_suspended_release_stays_at_its_share_until_it_is_resumed(served, release):
    asked = during(served, release(served), at(10), lambda: suspend(served, actor="ada", reason="closing"))
    during(served, asked, after(served, 900), lambda: resume(served))
    assert run(asked).result == "promoted"
    assert entered(served, 50) >= 900


def test_suspended_candidate_that_is_worse_is_rolled_back(served, release):
    served.behaviours[NEW] = type(served.behaviour(NEW))(failing=0.3)
    asked = during(served, release(served), at(10), lambda: suspend(served, actor="ada", reason=""))
    assert run(asked).result == "rolled-back"


def test_nothing_runs_that_could_be_suspended(served):
    with pytest.raises(UsageError, match=r"no release runs; `release\.suspend: true`"):
        suspend(served, actor="ada", reason="")


def test_no_share_rises_while_frozen(served, release, change):
    begins, ends = served.now + timedelta(seconds=30), served.now + timedelta(seconds=1200)
    assert run(release(served, policy=change(freeze=(Freeze(since=begins, until=ends),)))).result == "promoted"
    assert entered(served, 10) < 30
    assert entered(served, 50) >= 1190


def test_first_traffic_waits_for_the_end_of_a_freeze(served, release, change):
    ends = served.now + timedelta(seconds=600)
    assert run(release(served, policy=change(freeze=(Freeze(until=ends),)))).result == "promoted"
    assert entered(served, 10) >= 590


@pytest.mark.parametrize(("gone_seconds", "result"), [(30, "promoted"), (90, "not-judged")])
def test_candidate_that_is_taken_away_while_a_freeze_holds_it_has_its_time_to_come_back(
    served, release, change, gone_seconds, result
):
    predict, began = served.predict, served.now

    def drained(slot, rows):
        if 300 <= (served.now - began).total_seconds() < 300 + gone_seconds:
            raise SlotNotReady("slot green did not answer")
        return predict(slot, rows)

    served.predict = drained
    held = change(freeze=(Freeze(until=began + timedelta(seconds=600)),))
    assert run(release(served, policy=held)).result == result


def test_step_waits_for_its_own_approval(served, release, policy, change, store):
    first, second = policy.release.steps
    named = change(steps=(first, second.model_copy(update={"approval": "manual", "name": "half"})))

    def approve():
        seen = progress.read(store, "fraud")
        assert seen is not None
        assert seen.held == f"step half waits for `kedge approve {NEW[:12]} --step half`"
        records.append(store, record("approved", f"{NEW}-step-half", served.now, bundle=NEW, step="half"))

    assert run(during(served, release(served, policy=named), after(served, 900), approve)).result == "promoted"
    assert entered(served, 50) >= 900
    assert not records.read_state(store, "fraud").approved(NEW)  # of the step, not of the bundle


def test_progress_says_what_is_there_against_what_is_needed_and_how_long_it_may_take(served, release, store):
    seen = []
    midway = during(
        served,
        release(served),
        lambda rollout: at(10)(rollout) and (served.now - rollout.since).total_seconds() > 22,
        lambda: seen.append(progress.words(progress.read(store, "fraud"), served.now)),
    )
    run(midway)
    assert seen == [
        "canary 10 %: 40 of 50 requests, 20 of 60 s, errors 0/40 against 0/360, p95 2 ms against 2 ms; "
        "about 35 s more, at most 9.58 min; then 50 %"
    ]
    assert progress.read(store, "fraud").state == "promoted"


def test_looks_are_kept_for_the_picture_and_bounded(served, release, change, store):
    run(release(served, policy=change(bake_seconds=3000)))
    looks = progress.read(store, "fraud").looks
    assert 50 < len(looks) <= progress.MAX_LOOKS
    assert {look.percent for look in looks} >= {10, 50, 95}
    assert all("errors" in look.evidence for look in looks)


def test_the_look_that_decided_is_the_last_of_the_picture(served, release, store):
    served.behaviours[NEW] = replace(served.behaviour(NEW), failing=0.5)
    assert run(release(served)).result == "rolled-back"
    seen = progress.read(store, "fraud")
    assert seen.state == "rolled-back"
    assert seen.looks[-1].evidence["errors"] >= 1


@pytest.mark.parametrize(
    ("day", "hour", "closed"), [(6, 3, False), (6, 23, True), (7, 3, True), (7, 6, False), (7, 23, False)]
)
def test_freeze_over_midnight_belongs_to_the_day_on_which_it_begins(day, hour, closed):
    friday_night = Freeze(weekdays=("fri",), hours=(22, 6))
    assert frozen(friday_night, datetime(2026, 3, day, hour, tzinfo=UTC)) is closed
