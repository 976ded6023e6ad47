"""The circuit breaker after a release, and absolute limits."""

from dataclasses import replace
from datetime import timedelta
from shutil import rmtree

import pytest

from kedge import records
from kedge.errors import StoreError
from kedge.policy.release import Guard
from kedge.rollout.guard import look
from kedge.rollout.limits import exceeded
from kedge.rollout.model import Route, Traffic
from kedge.rollout.rollout import run
from tests.rollout.conftest import START, Behaviour, Killed

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def kept(policy, change):
    """The policy with a day in which the replaced champion is kept."""
    return change(guard=policy.release.guard.model_copy(update={"keep_seconds": 86_400, "max_latency_ms": 10.0}))


@pytest.fixture
def promoted(served, release, kept):
    """NEW was released over OLD, which is kept."""
    assert run(release(served, policy=kept)).result == "promoted"
    served.routes.clear()
    return served


@pytest.mark.parametrize(("fault", "word"), [({"failing": 0.3}, "failed requests"), ({"latency_ms": 30.0}, "latency")])
def test_champion_that_exceeds_a_limit_goes_back_in_one_change_of_weights(promoted, release, kept, store, fault, word):
    promoted.behaviours[NEW] = replace(promoted.behaviour(NEW), **fault)
    seen = look(release(promoted, None, policy=kept), 40)
    assert seen.verdict == "rolled back"
    assert word in seen.reasons[0]
    assert promoted.routes[0].weights == {"blue": 100}
    kept_word = records.latest(store, "fraud", records.RolledBack)
    assert (kept_word.actor, kept_word.data.bundle) == ("guard", NEW)
    assert records.read_state(store, "fraud").champion_bundle == OLD
    assert run(release(promoted, policy=kept)).result == "refused"


@pytest.mark.parametrize("fault", [{}, {"failing": 0.05}, {"latency_ms": 8.0}])
def test_champion_within_its_limits_stays(promoted, release, kept, fault):
    promoted.behaviours[NEW] = replace(promoted.behaviour(NEW), **fault)
    assert look(release(promoted, None, policy=kept), 40).verdict == "within limits"
    assert promoted.routes == []


def test_slot_of_a_replaced_champion_is_emptied_when_its_time_is_over(promoted, release, kept):
    assert look(release(promoted, None, policy=kept), 40).removed == ""
    promoted.sleep(86_400)
    assert look(release(promoted, None, policy=kept), 40).removed == OLD
    assert promoted.slots.keys() == {"green"}


def test_clock_that_was_set_within_the_look_empties_no_slot(promoted, release, kept):
    asked, ahead, passes = release(promoted, None, policy=kept), [0], promoted.sleep

    def sleep(seconds):
        passes(seconds)
        ahead[0] = 400

    asked.clock = lambda: promoted.now + timedelta(days=ahead[0])
    asked.monotonic, asked.sleep = lambda: (promoted.now - START).total_seconds(), sleep
    assert look(asked, 40).removed == ""


def test_store_that_is_empty_now_is_named_and_nothing_moves(promoted, release, kept, store):
    promoted.behaviours[NEW] = Behaviour(failing=0.3)
    rmtree(store.url)
    with pytest.raises(StoreError, match=r"is empty: it has no store\.json"):
        look(release(promoted, None, policy=kept), 40)
    assert promoted.routes == []


def test_outage_of_both_condemns_nobody(promoted, release, kept, store):
    for bundle in (OLD, NEW):
        promoted.behaviours[bundle] = replace(promoted.behaviour(bundle), failing=0.5)
    seen = look(release(promoted, None, policy=kept), 40)
    assert (seen.verdict, [route.weights for route in promoted.routes]) == (
        "not judged",
        [{"blue": 100}, {"green": 100}],
    )
    assert "so does slot blue (failed requests: 400 of 800" in str(seen)
    assert records.latest(store, "fraud", records.RolledBack) is None
    assert (promoted.current_route.rollout, promoted.slots.keys()) == (None, {"blue", "green"})
    assert "no better" in str(look(release(promoted, None, policy=kept), 40))
    assert len(promoted.routes) == 2  # the traffic does not go to and fro
    promoted.behaviours[OLD] = Behaviour()
    promoted.sleep(600)
    assert look(release(promoted, None, policy=kept), 40).verdict == "rolled back"


def test_dead_champion_hands_over_and_is_not_condemned(promoted, release, kept, store):
    promoted.unready["green"] = [((promoted.now - START).total_seconds(), 1e9)]
    seen = look(release(promoted, None, policy=kept), 40)
    assert (seen.verdict, promoted.current_route.weights) == ("rolled back", {"blue": 100})
    assert "slot green does not answer: pod evicted" in str(seen)
    assert not records.latest(store, "fraud", records.RolledBack).data.condemned


def test_champion_that_is_back_by_the_end_of_the_look_stays(promoted, release, kept):
    now = (promoted.now - START).total_seconds()
    promoted.rate, promoted.unready["green"] = 0.0, [(now, now + 1)]
    assert look(release(promoted, None, policy=kept), 40).verdict == "within limits"


def test_traffic_never_goes_back_to_a_slot_that_does_not_answer(promoted, release, kept):
    promoted.behaviours[NEW] = replace(promoted.behaviour(NEW), failing=0.5)
    promoted.unready["blue"] = [(0.0, 1e9)]
    assert look(release(promoted, None, policy=kept), 40).verdict == "exceeds limits"
    assert promoted.routes == []


def test_guard_that_was_killed_between_traffic_and_record_is_finished_by_the_next(promoted, release, kept, store):
    promoted.behaviours[NEW] = replace(promoted.behaviour(NEW), failing=0.5)
    asked = release(promoted, None, policy=kept)

    def sleep(seconds):
        if promoted.current_route.rollout is not None:
            raise Killed
        promoted.sleep(seconds)

    asked.sleep = sleep
    with pytest.raises(Killed):
        look(asked, 40)
    promoted.sleep(700)
    assert look(release(promoted, None, policy=kept), 40).verdict == "within limits"
    assert records.latest(store, "fraud", records.RolledBack).data.bundle == NEW
    assert promoted.current_route.rollout is None


def test_with_nothing_to_roll_back_to_the_limit_is_told_and_nothing_moves(promoted, release, kept):
    promoted.slots.pop("blue")
    promoted.behaviours[NEW] = replace(promoted.behaviour(NEW), failing=0.5)
    seen = look(release(promoted, None, policy=kept), 40)
    assert (seen.verdict, promoted.routes) == ("exceeds limits", [])
    assert "is not kept any more; `kedge rollback` deploys it" in str(seen)


def test_release_that_runs_judges_its_candidate_itself(served, release, kept):
    served.current_route = Route(weights={"blue": 100}, revision=1)
    asked = release(served, policy=kept)
    sleep = asked.sleep
    looks = []

    def sleeping(seconds):
        sleep(seconds)
        if served.current_route.rollout and served.current_route.rollout.state == "canary" and not looks:
            looks.append(look(release(served, None, policy=kept), 1))

    asked.sleep = sleeping
    assert run(asked).result == "promoted"
    assert looks[0].verdict == "a release runs"


def killed_halfway(asked, served):
    """A release whose process dies while its candidate has half of the traffic."""
    sleep = asked.sleep

    def killed(seconds):
        sleep(seconds)
        if served.current_route.weights.get("green") == 50:
            raise Killed

    asked.sleep = killed
    with pytest.raises(Killed):
        run(asked)


def test_candidate_of_a_release_that_nobody_works_on_any_more_is_rolled_back(served, release, kept):
    killed_halfway(release(served, policy=kept), served)
    served.behaviours[NEW] = replace(served.behaviour(NEW), failing=0.5)
    assert look(release(served, None, policy=kept), 40).verdict == "a release runs"
    served.sleep(700)
    assert look(release(served, None, policy=kept), 40).verdict == "rolled back"
    assert served.current_route.weights == {"blue": 100}
    assert served.current_route.rollout is None


def test_candidate_beside_a_champion_that_fails_too_is_not_judged(served, release, kept):
    killed_halfway(release(served, policy=kept), served)
    for bundle in (OLD, NEW):
        served.behaviours[bundle] = replace(served.behaviour(bundle), failing=0.5)
    served.sleep(700)
    assert look(release(served, None, policy=kept), 40).verdict == "not judged"
    assert served.current_route.weights == {"blue": 50, "green": 50}


def test_weights_that_changed_while_it_counted_judge_nobody(promoted, release, kept):
    promoted.behaviours[NEW] = replace(promoted.behaviour(NEW), failing=0.5)
    asked = release(promoted, None, policy=kept)

    def sleep(seconds):
        promoted.sleep(seconds)
        promoted.set_route(promoted.current_route)

    asked.sleep = sleep
    assert look(asked, 40).verdict == "changed"


def test_model_that_nobody_serves_is_no_fault(platform, release):
    assert look(release(platform, None), 40).verdict == "nobody serves"


def test_limits_count_slow_requests_by_the_bucket_that_they_surely_exceed():
    guard = Guard(max_latency_ms=100)
    slow = Traffic(requests=100, latency={50.0: 50, 100.0: 30, 200.0: 20})
    assert exceeded(slow, guard) == ("latency: 95th percentile 200 ms of 100 requests, tolerated 100 ms",)
    assert exceeded(slow, Guard(max_latency_ms=150)) == ()  # of the bucket from 100 to 200 nobody knows


def test_guard_that_nobody_feeds_moves_nothing_and_says_how_little_it_saw(promoted, release, kept):
    promoted.rate = 0.0
    promoted.behaviours[NEW] = replace(promoted.behaviour(NEW), failing=1.0)
    seen = look(release(promoted, None, policy=kept), 40)
    assert (seen.verdict, seen.requests) == ("within limits", 0)
    assert promoted.routes == []
