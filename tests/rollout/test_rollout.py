"""The release as a state machine, on a platform in memory."""

from dataclasses import replace
from datetime import timedelta
from shutil import rmtree

import pytest

from kedge import records
from kedge.errors import ReleaseError, SlotNotReady, StoreError
from kedge.policy.release import Step
from kedge.rollout.evidence import Differences, Observed, Paired
from kedge.rollout.model import Route
from kedge.rollout.rollout import run
from tests.records.made import record
from tests.rollout.conftest import START, Killed

OLD, NEW = "a" * 40, "b" * 40


def kinds(store):
    return [item.kind for item in records.read(store, "fraud")]


def steps(platform):
    """Weights of slot green as they changed, each once."""
    weights = [route.weights.get("green", 0) for route in platform.routes]
    return [weight for weight, before in zip(weights, [None, *weights], strict=False) if weight != before]


def test_first_release_of_a_model_gets_all_traffic_after_the_smoke_test(platform, release, store):
    asked = release(platform)
    outcome = run(asked)
    assert outcome.result == "promoted"
    assert platform.current_route == Route(weights={"blue": 100}, revision=platform.current_route.revision)
    assert asked.published == [(NEW, None)]
    assert kinds(store) == ["release-started", "promoted"]


def test_first_release_that_fails_its_smoke_test_leaves_nothing_served(platform, release):
    platform.behaviours[NEW] = platform.behaviour(NEW).__class__(golden=0.01)
    outcome = run(release(platform))
    assert outcome.result == "rolled-back"
    assert "differ by 0.01 from training" in outcome.reason
    assert platform.current_route.weights == {}
    assert platform.slots == {}


def test_candidate_as_good_as_the_champion_takes_every_step_bakes_and_becomes_champion(served, release, store):
    asked = release(served)
    outcome = run(asked)
    assert outcome.result == "promoted", outcome.reason
    assert steps(served) == [0, 10, 50, 95, 100]
    assert asked.published == [(NEW, OLD)]
    assert served.slots.keys() == {"green"}
    assert served.current_route.rollout is None
    promoted = records.latest(store, "fraud", records.Promoted)
    assert promoted.data.previous == OLD
    assert [span["percent"] for span in promoted.data.evidence] == [10, 50, 95]
    assert promoted.data.evidence[0]["candidate"]["requests"] >= 50


def test_no_step_is_left_before_its_seconds_and_the_candidates_own_requests(served, release, change):
    slow_traffic = change(max_step_seconds=10_000)
    served.rate = 2.0
    run(release(served, policy=slow_traffic))
    first, second, baking = (
        next(route for route in served.routes if route.weights.get("green") == weight) for weight in (10, 50, 95)
    )
    at_ten = (second.rollout.since - first.rollout.since).total_seconds()
    assert at_ten >= 50 / (2.0 * 0.10)
    assert (baking.rollout.since - second.rollout.since).total_seconds() >= 100 / (2.0 * 0.5)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"failing": 0.3}, "failed requests"),
        ({"latency_ms": 60.0}, "latency"),
        ({"wrong": 0.5}, "decided wrongly"),
        ({"dies_after_s": 20.0}, "not ready"),
        ({"golden": 0.1}, "smoke"),
        ({"crashes": True}, "the model cannot be read"),
        ({"never_ready": True}, "still loading"),
    ],
)
def test_bad_candidate_is_rolled_back_with_its_reason(served, release, store, fault, word):
    served.behaviours[NEW] = replace(served.behaviour(NEW), **fault)
    asked = release(served)
    outcome = run(asked)
    assert outcome.result == "rolled-back"
    assert word in outcome.reason
    assert served.current_route.weights == {"blue": 100}
    assert served.slots.keys() == {"blue"}
    assert asked.published == [(OLD, None)]
    assert records.latest(store, "fraud", records.RolledBack).data.reason == outcome.reason


def test_dead_candidate_whose_share_moves_to_the_champion_never_looks_healthy(served, release):
    served.dead_share_moves = True
    served.behaviours[NEW] = replace(served.behaviour(NEW), dies_after_s=10.0)
    outcome = run(release(served))
    assert outcome.result == "rolled-back"
    assert 50 not in steps(served)


def test_step_without_enough_requests_ends_without_a_verdict_and_condemns_nobody(served, release):
    served.rate = 0.1
    outcome = run(release(served))
    assert outcome.result == "not-judged"
    assert "600 s at canary 10 % without enough evidence" in outcome.reason
    assert "of 50 requests of the candidate" in outcome.reason


def test_candidate_that_turns_bad_while_baking_goes_back_in_one_change_of_the_weights(served, release):
    class TurnsBad:
        def __getattr__(self, name):
            baking = served.current_route.rollout is not None and served.current_route.rollout.state == "bake"
            return {"failing": 0.5 if baking else 0.0}.get(name, getattr(healthy, name))

    healthy = served.behaviour(NEW)
    served.behaviours[NEW] = TurnsBad()
    outcome = run(release(served))
    assert outcome.result == "rolled-back"
    assert "failed requests at the bake" in outcome.reason
    assert steps(served) == [0, 10, 50, 95, 0]
    assert served.slots["blue"][0] == OLD


def test_candidate_that_looks_worse_on_few_requests_leaves_the_bake_and_is_condemned_by_nobody(served, release, store):
    asked, rows = release(served), Differences.of([1.0] * 30 + [-1.0] * 5)

    def observe(rollout, spans):
        if spans[-1].state != "bake":
            return served.observe(rollout, spans)
        served.rate = 0.01
        return [Observed(span=span, paired=Paired(decisions=rows, losses=rows)) for span in spans]

    asked.observe = observe
    outcome = run(asked)
    assert (outcome.result, outcome.reason.split(":")[0]) == (
        "not-judged", "looks worse, on too few requests for a verdict",
    )  # fmt: skip
    assert served.current_route.weights == {"blue": 100}
    served.rate = 20.0
    assert run(release(served)).result == "promoted"


def test_shadow_is_mirrored_first_and_its_slot_gets_no_weight(served, release, change):
    outcome = run(release(served, policy=change(shadow_percent=50, shadow_requests=200)))
    assert outcome.result == "promoted"
    mirrored = [route for route in served.routes if route.mirror is not None]
    assert mirrored
    assert all(route.weights == {"blue": 100} for route in mirrored)
    assert steps(served) == [0, 10, 50, 95, 100]


def test_failing_shadow_is_rolled_back_before_any_client_saw_it(served, release, change):
    served.behaviours[NEW] = replace(served.behaviour(NEW), failing=0.5)
    outcome = run(release(served, policy=change(shadow_percent=50)))
    assert outcome.result == "rolled-back"
    assert "50 % mirrored" in outcome.reason
    assert steps(served) == [0]


def test_shadow_on_a_platform_that_cannot_mirror_is_refused_before_anything_is_deployed(served, release, change):
    served.mirrors = False
    outcome = run(release(served, policy=change(shadow_percent=50)))
    assert outcome.result == "refused"
    assert "release.shadow_percent to 0" in outcome.reason
    assert served.slots.keys() == {"blue"}
    assert run(release(served)).result == "promoted"


def test_mirror_and_weight_are_gone_before_the_slot_is_removed(served, release):
    served.behaviours[NEW] = replace(served.behaviour(NEW), failing=0.5)
    run(release(served))  # the platform refuses to remove a slot that gets traffic
    assert served.removed == ["green"]


def test_bundle_rolled_back_is_refused_until_a_person_approves_it(served, release, store):
    served.behaviours[NEW] = replace(served.behaviour(NEW), failing=0.5)
    run(release(served))
    again = run(release(served))
    assert again.result == "refused"
    assert "failed requests" in again.reason

    served.behaviours.clear()
    approval = record("approved", NEW, served.now, actor="ada")
    records.append(store, approval)
    assert run(release(served)).result == "promoted"
    assert [item.key[-1] for item in records.read(store, "fraud", records.ReleaseStarted)] == ["1", "2"]


def test_bundle_that_the_platform_could_not_start_may_be_released_again_without_anyones_word(platform, release, store):
    platform.behaviours[NEW] = replace(platform.behaviour(NEW), not_started=True)
    outcome = run(release(platform))
    assert (outcome.result, outcome.not_started) == ("not-judged", True)
    assert "KServe has not made its Deployment yet" in outcome.reason
    assert records.latest(store, "fraud", records.RolledBack).data.not_started is True
    assert (platform.current_route.weights, platform.current_route.rollout, platform.slots) == ({}, None, {})
    platform.behaviours.clear()
    assert run(release(platform)).result == "promoted"


def test_slot_that_was_tried_and_did_not_come_up_is_the_bundles_fault(platform, release, store):
    platform.behaviours[NEW] = replace(platform.behaviour(NEW), never_ready=True)
    assert run(release(platform)).not_started is False
    assert not records.latest(store, "fraud", records.RolledBack).data.not_started
    assert run(release(platform)).result == "refused"


def test_manual_approval_is_waited_for_before_anything_is_deployed(served, release, change, store):
    manual = change(approval="manual")
    assert run(release(served, policy=manual)).result == "refused"
    assert served.slots.keys() == {"blue"}
    records.append(store, record("approved", NEW, served.now))
    assert run(release(served, policy=manual)).result == "promoted"


def test_release_of_the_bundle_that_has_all_traffic_changes_nothing(served, release, store):
    outcome = run(release(served, OLD))
    assert outcome.result == "promoted"
    assert served.routes == []


def test_second_bundle_is_refused_while_another_is_being_released(served, release):
    first = release(served)
    served.kill_at = 20
    with pytest.raises(BaseException):  # noqa: B017, PT011  (killed)
        run(first)
    served.kill_at = None
    outcome = run(release(served, "c" * 40))
    assert outcome.result == "refused"
    assert "is being released since" in outcome.reason


@pytest.mark.parametrize("fault", [{}, {"failing": 0.4}, {"golden": 1.0}])
def test_rollout_killed_at_any_effect_goes_on_and_ends_the_same_way(release, fault, tmp_path, request):
    from kedge.store import open_store

    ends = set()
    for kill_at in range(1, 400):
        platform = type(request.getfixturevalue("platform"))()
        store = open_store(tmp_path / f"store-{kill_at}")
        platform.slots["blue"] = (OLD, platform.now)
        platform.current_route = Route(weights={"blue": 100}, revision=1)
        platform.behaviours[NEW] = replace(platform.behaviour(NEW), **fault)
        platform.kill_at = kill_at
        first = release(platform)
        first.store = store
        try:
            run(first)
        except BaseException as exc:
            assert type(exc).__name__ == "Killed", exc  # noqa: PT017
        else:
            break  # every effect of the release was a place to die at
        platform.kill_at = None
        second = release(platform)
        second.store = store
        outcome = run(second)
        reasons = [item.data.reason for item in records.read(store, "fraud", records.Promoted, records.RolledBack)]
        ends.add((outcome.result, platform.current_route.rollout, tuple(sorted(platform.slots)), len(reasons)))
        assert kinds(store).count("release-started") == 1
    else:
        pytest.fail("the release never ended")
    expected = ("promoted", None, ("green",), 1) if not fault else ("rolled-back", None, ("blue",), 1)
    alternative = ("refused", *expected[1:])  # killed after the route was cleared: nothing was left to do
    assert ends <= {expected, alternative}
    assert kill_at > 10


def test_two_processes_on_one_rollout_do_no_harm(served, release, store):
    """The other process does a whole round whenever this one sleeps."""
    other = release(served)
    one = release(served)
    busy = False

    def sleep(seconds):
        nonlocal busy
        served.sleep(seconds)
        if not busy:
            busy = True
            other.sleep = served.sleep
            run(other)

    one.sleep = sleep
    assert run(one).result == "promoted"
    assert kinds(store).count("promoted") == 2  # the champion's and, once, the candidate's
    assert served.current_route.weights == {"green": 100}


def test_candidate_nobody_can_see_ends_without_a_verdict(served, release):
    asked = release(served)

    def blind(rollout, spans):
        raise StoreError("the log cannot be read")

    asked.observe = blind
    outcome = run(asked)
    assert outcome.result == "not-judged"
    assert "no evidence could be read 5 times in a row: the log cannot be read" in outcome.reason


def test_traffic_on_both_slots_without_a_rollout_is_refused_not_guessed_at(served, release):
    served.slots["green"] = (NEW, served.now)
    served.current_route = Route(weights={"blue": 60, "green": 40}, revision=1)
    with pytest.raises(ReleaseError, match="both slots"):
        run(release(served, "c" * 40))


def failed_while(platform):
    """Requests that a slot failed although the other one answered."""
    return sum(traffic.errors for traffic in platform.counters.values())


def served_by(platform, slot):
    return platform.counters[slot].requests if slot in platform.counters else 0


def ended(store):
    return records.latest(store, "fraud", records.Promoted, records.RolledBack).data


def test_dead_champion_leaves_the_traffic_to_the_candidate_which_is_promoted(served, release, store):
    served.unready["blue"] = [(20.0, 1e9)]
    outcome = run(release(served))
    assert outcome.result == "promoted"
    assert "slot blue is not ready: pod evicted; the candidate answered all traffic" in outcome.reason
    assert served.current_route.weights == {"green": 100}
    states = [route.rollout.state for route in served.routes if route.rollout]
    assert states[-2:] == ["failover", "promoted"]
    assert failed_while(served) <= 0.95 * served.rate * 10  # until the second look at the dead slot, no longer
    assert ended(store).evidence[-1]["state"] == "failover"


def test_candidate_without_a_champion_is_not_promoted_on_requests_that_nobody_sent(served, release, change):
    served.unready["blue"] = [(20.0, 2000.0)]
    served.rate = 0.02
    unneeding = tuple(step.model_copy(update={"min_requests": 0}) for step in release(served).policy.release.steps)
    asked = release(served, policy=change(steps=unneeding, bake_seconds=60))
    run(asked)
    first = next(route for route in served.routes if route.rollout and route.rollout.state == "failover")
    later = served.routes[served.routes.index(first) + 1]
    assert (later.rollout.since - first.rollout.since).total_seconds() > 1900  # when the champion is back, not before


def test_champion_that_is_back_for_good_is_compared_with_again(served, release):
    served.unready["blue"] = [(20.0, 80.0)]
    outcome = run(release(served))
    assert outcome.result == "promoted"
    assert steps(served) == [0, 10, 100, 10, 50, 95, 100]
    assert outcome.reason.startswith("no worse than the champion")


def test_champion_that_answers_only_between_its_crashes_gets_no_traffic_back(served, release):
    served.unready["blue"] = [(20.0 + 40 * each, 40.0 + 40 * each) for each in range(50)]
    assert run(release(served)).result == "promoted"
    assert steps(served) == [0, 10, 100]


def test_candidate_that_fails_without_a_champion_keeps_the_traffic_until_the_champion_is_back(
    served, release, policy, change
):
    served.unready["blue"] = [(20.0, 400.0)]
    served.behaviours[NEW] = replace(served.behaviour(NEW), latency_ms=4.0)
    guard = policy.release.guard.model_copy(update={"max_latency_ms": 2.0})
    said = []
    asked = release(served, policy=change(guard=guard))
    asked.say = said.append
    outcome = run(asked)
    assert outcome.result == "rolled-back"
    assert "without a champion beside it: latency: 95th percentile 4 ms" in outcome.reason
    assert [text for text in said if "it keeps the traffic" in text]
    assert served.current_route.weights == {"blue": 100}
    back = next(route for route in reversed(served.routes) if route.weights == {"blue": 100} and route.rollout)
    assert (back.rollout.since - served.routes[0].rollout.started).total_seconds() >= 400


def test_neither_slot_answering_moves_nothing(served, release):
    served.unready = {"blue": [(20.0, 100.0)], "green": [(20.0, 100.0)]}
    outcome = run(release(served))
    assert outcome.result == "promoted"
    assert steps(served) == [0, 10, 50, 95, 100]


def test_candidate_whose_pod_goes_away_waits_without_traffic_and_takes_its_step_again(served, release, store):
    served.unready["green"] = [(20.0, 50.0)]
    outcome = run(release(served))
    assert outcome.result == "promoted"
    assert steps(served) == [0, 10, 0, 10, 50, 95, 100]
    assert [span.get("cut", "") for span in ended(store).evidence[:2]] == ["the candidate did not answer", ""]


def test_candidate_whose_pod_does_not_come_back_is_not_judged_and_may_be_released_again(served, release, store):
    served.unready["green"] = [(20.0, 200.0)]
    outcome = run(release(served))
    assert (outcome.result, ended(store).condemned) == ("not-judged", False)
    assert "pod evicted after 6" in outcome.reason
    assert served.current_route.weights == {"blue": 100}
    served.sleep(200)
    assert run(release(served)).result == "promoted"


def test_candidate_whose_server_ends_by_itself_again_is_at_fault(served, release, store):
    served.crashed.add("green")
    served.unready["green"] = [(20.0, 30.0), (45.0, 60.0)]
    outcome = run(release(served))
    assert (outcome.result, ended(store).condemned) == ("rolled-back", True)
    assert outcome.reason.endswith("2 times by itself since it was ready")


def test_candidate_whose_server_ends_again_and_again_between_the_looks_is_at_fault(served, release, store):
    served.crashed.add("green")
    served.unready["green"] = [(14.5, 14.6), (15.0, 15.1)]  # up again before anybody looks
    outcome = run(release(served))
    assert (outcome.result, ended(store).condemned) == ("rolled-back", True)
    assert outcome.reason == "its server ended: 2 times by itself since it was ready"


def test_pod_that_is_taken_away_again_and_again_ends_without_a_verdict(served, release, store):
    served.unready["green"] = [(20.0 + 30 * each, 30.0 + 30 * each) for each in range(20)]
    outcome = run(release(served))
    assert (outcome.result, ended(store).condemned) == ("not-judged", False)
    assert served.current_route.weights == {"blue": 100}


def test_requests_that_failed_while_the_pod_was_going_away_do_not_count_against_the_bundle(served, release):
    served.rate = 200.0
    served.unready["green"] = [(18.0, 40.0)]
    assert run(release(served)).result == "promoted"


@pytest.mark.parametrize("edited", [{"blue": 40, "green": 60}, {"blue": 40, "green": 40}, {"green": 100}, {}])
def test_route_that_another_hand_edited_ends_the_release_without_a_verdict(served, release, edited):
    asked = release(served)

    def sleep(seconds):
        served.sleep(seconds)
        rollout = served.current_route.rollout
        if rollout is not None and rollout.state == "canary" and served.current_route.weights.get("green") == 10:
            served.set_route(replace(served.current_route, weights=edited))

    asked.sleep = sleep
    outcome = run(asked)
    assert outcome.result == "not-judged"
    assert "edited by another hand" in outcome.reason
    assert served.current_route.weights == {"blue": 100}


YEAR = 365 * 86_400


def killed_at(served, asked, state, step=0):
    """The release, ended as by kill -9 where it first waits in a state."""
    passes = asked.sleep

    def sleep(seconds):
        passes(seconds)
        rollout = served.current_route.rollout
        if rollout is not None and (rollout.state, rollout.step) == (state, step):
            raise Killed

    asked.sleep = sleep
    with pytest.raises(Killed):
        run(asked)


@pytest.mark.parametrize(
    ("percents", "after"), [((20,), [20, 95, 100]), ((5, 90), [5, 90, 95, 100]), ((30, 50), [95, 100])]
)
def test_policy_whose_steps_changed_meanwhile_raises_no_share_unseen(served, release, change, percents, after):
    killed_at(served, release(served), "canary", 1)
    assert served.current_route.weights == {"blue": 50, "green": 50}
    served.routes.clear()
    steps = tuple(Step(percent=percent, min_requests=50) for percent in percents)
    assert run(release(served, policy=change(steps=steps))).result == "promoted"
    shares = [route.weights["green"] for route in served.routes if route.weights != {"blue": 50, "green": 50}]
    assert list(dict.fromkeys(shares)) == after


def test_store_that_is_emptied_meanwhile_gets_no_records(served, release, store):
    killed_at(served, release(served), "bake")
    rmtree(store.url)
    with pytest.raises(StoreError, match=r"is empty: it has no store\.json"):
        run(release(served))
    assert list(store.keys("records")) == []
    assert served.current_route.rollout.state in ("bake", "promoted")  # to be gone on with when it is back


@pytest.mark.parametrize("state", ["deploy", "waiting"])
@pytest.mark.parametrize("edited", [{"blue": 50, "green": 50}, {"green": 100}, {}])
def test_route_that_is_edited_while_the_candidate_has_no_traffic_ends_the_release(served, release, state, edited):
    served.unready["green"] = [(20.0, 60.0)]
    killed_at(served, release(served), state)
    served.current_route = replace(served.current_route, weights=edited)
    outcome = run(release(served))
    assert (outcome.result, served.current_route.weights) == ("not-judged", {"blue": 100})
    assert "edited by another hand" in outcome.reason


@pytest.mark.parametrize("edited", [{"blue": 50, "green": 50}, {"blue": 100}])
def test_traffic_that_another_hand_gives_a_dead_champion_goes_back_to_who_answers(served, release, edited):
    served.unready["blue"] = [(20.0, 1e9)]
    killed_at(served, release(served), "failover")
    served.current_route = replace(served.current_route, weights=edited)
    served.routes.clear()
    assert run(release(served)).result == "promoted"
    assert all(route.weights == {"green": 100} for route in served.routes)


@pytest.mark.parametrize("jump", [86_400, -86_400, YEAR, -YEAR])
@pytest.mark.parametrize("at", [1.0, 12.0, 27.0, 150.0])  # while it comes up, in a step, while it waits, in the bake
def test_a_clock_that_is_set_ends_no_release_early_late_or_with_a_verdict(served, release, store, at, jump):
    served.unready["green"] = [(20.0, 40.0)]
    asked, said = release(served), []
    asked.say, asked.monotonic = said.append, lambda: (served.now - START).total_seconds()

    def wrong():
        seconds = (served.now - START).total_seconds()
        return served.now + timedelta(seconds=jump if seconds >= at else 0)

    asked.clock = wrong
    outcome = run(asked)
    assert (outcome.result, steps(served)) == ("promoted", [0, 10, 0, 10, 50, 95, 100])
    assert len([text for text in said if text.startswith("the clock was set")]) == 1
    assert 240 < (served.now - START).total_seconds() < 600  # two steps and the bake, watched to their end


def test_a_process_that_goes_on_after_the_clock_went_back_does_not_wait_for_a_year(served, release):
    asked = release(served)
    served.kill_at = served.calls + 14
    with pytest.raises(Killed):
        run(asked)
    served.kill_at = None
    assert served.current_route.rollout.state == "canary"
    again = release(served)
    again.monotonic = lambda: (served.now - START).total_seconds()
    again.clock = lambda: served.now - timedelta(seconds=YEAR)
    began = served.now
    assert run(again).result == "promoted"
    assert served.now - began < timedelta(seconds=600)


def test_slot_that_nobody_can_reach_for_the_smoke_test_is_not_judged(served, release):
    def unreachable(slot, rows):
        served._effect()
        raise SlotNotReady("slot green at http://green did not answer: connection timed out")

    served.predict = unreachable
    outcome = run(release(served))
    assert outcome.result == "not-judged"
    assert "connection timed out" in outcome.reason


def test_replaced_champion_stays_warm_as_long_as_the_guard_keeps_it(served, release, policy, change):
    kept = change(guard=policy.release.guard.model_copy(update={"keep_seconds": 600}))
    assert run(release(served, policy=kept)).result == "promoted"
    assert {slot: bundle for slot, (bundle, _) in served.slots.items()} == {"blue": OLD, "green": NEW}
    assert served.current_route.weights == {"green": 100}
    served.keeps = False
    assert run(release(served, "c" * 40, policy=kept)).result == "promoted"
    assert {slot: bundle for slot, (bundle, _) in served.slots.items()} == {"blue": "c" * 40}


@pytest.mark.parametrize("at", [5.0, 20.0, 150.0])  # in the shadow, in the first step, in the bake
@pytest.mark.parametrize("back", [60.0, 1e9])
def test_champion_that_crash_loops_never_gets_or_loses_traffic_by_it(served, release, change, store, at, back):
    """Whatever the state: who answers gets the traffic, and nobody is condemned."""
    served.crashed.add("blue")
    served.unready["blue"] = [(at, at + back)]
    outcome = run(release(served, policy=change(shadow_percent=50, shadow_requests=100)))
    assert outcome.result == "promoted"
    assert served.current_route.weights == {"green": 100}
    assert served.slots["green"][0] == NEW
    assert failed_while(served) <= served.rate * 10


@pytest.mark.parametrize("at", [5.0, 20.0, 150.0])
def test_candidate_whose_pod_is_deleted_in_any_state_takes_that_state_again(served, release, change, store, at):
    served.unready["green"] = [(at, at + 20)]
    outcome = run(release(served, policy=change(shadow_percent=50, shadow_requests=100)))
    assert outcome.result == "promoted"
    assert [item.kind for item in records.read(store, "fraud")][-1] == "promoted"
