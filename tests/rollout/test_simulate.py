"""Simulated releases: the judge's promises on traffic that is not the one it was tuned on."""

import pytest

from kedge import policy as policies
from kedge.errors import UsageError
from kedge.policy.release import Step
from kedge.rollout.plan import plan
from kedge.rollout.simulate import Scenario, simulate, summary

DAY = 86_400


@pytest.fixture
def defaults():
    return policies.parse(
        {
            "model": {"name": "m", "target": "y", "features": {"x": {"type": "number"}}},
            "data": {"source": {"format": "log"}},
        }
    )


def ends(policy, rollouts=20, seed=11, **fields):
    return summary(list(simulate(policy, Scenario(**fields), rollouts=rollouts, seed=seed)))


EQUAL = {"rps": 10, "base_error": 0.01, "candidate_error": 0.01}


def test_an_equal_candidate_is_promoted_through_a_wandering_rate_and_an_outage_of_both(defaults):
    ended = ends(defaults, 12, bake_outage=600, wander=0.5, **EQUAL)
    assert (ended["promoted"], ended["median_seconds"]) == (1, None)


@pytest.mark.parametrize(
    ("harm", "bad_answers"),
    [
        ({"candidate_error": 0.05}, 20),
        ({"candidate_error": 0.03}, 60),
        ({"latency_ratio": 2}, 20),
        ({"score_shift": -0.5}, 20),
        ({"accuracy_loss": 0.03}, 20),
    ],
)
def test_harm_is_rolled_back_before_it_costs_much(defaults, harm, bad_answers):
    ended = ends(defaults, **{**EQUAL, **harm})
    assert ended["rolled_back"] >= 0.95
    assert ended["median_bad_answers"] <= bad_answers


def test_a_hundred_requests_a_day_release_within_days_and_condemn_nobody(defaults):
    scenario = Scenario(rps=100 / DAY, base_error=0.01, candidate_error=0.01, label_delay=DAY)
    ended = list(simulate(defaults, scenario, rollouts=6, seed=12))
    assert {one.result for one in ended} <= {"promoted", "held"}
    assert sum(one.result == "promoted" and one.seconds <= 5 * DAY for one in ended) >= 5


def test_the_same_seed_simulates_the_same_releases_and_more_of_them_begin_alike(defaults):
    scenario = Scenario(rps=10, base_error=0.01, candidate_error=0.2)
    few, more = (list(simulate(defaults, scenario, rollouts=count, seed=3)) for count in (2, 4))
    assert few == more[:2]
    assert more[2:] != list(simulate(defaults, scenario, rollouts=2, seed=4))


def test_several_processes_simulate_the_same_releases(defaults):
    scenario = Scenario(rps=10, base_error=0.01, candidate_error=0.2)
    one, two = (list(simulate(defaults, scenario, rollouts=6, seed=3, processes=count)) for count in (1, 2))
    assert one == two


@pytest.fixture
def private(defaults):
    feature = defaults.model.features["x"].model_copy(update={"privacy": "drop"})
    return defaults.model_copy(update={"model": defaults.model.model_copy(update={"features": {"x": feature}})})


def released(policy, **fields):
    return policy.model_copy(update={"release": policy.release.model_copy(update=fields)})


def test_private_features_are_compared_slot_by_slot_which_takes_longer_or_on_copies(defaults, private):
    worse = {**EQUAL, "accuracy_loss": 0.1}
    open_log, slots = (ends(policy, 6, **worse) for policy in (defaults, private))
    copies = ends(released(private, shadow_percent=50, shadow_requests=3000), 6, **worse)
    assert open_log["rolled_back"] == slots["rolled_back"] == copies["rolled_back"] == 1
    assert open_log["median_seconds"] < slots["median_seconds"]
    assert (copies["median_bad_answers"], copies["median_seconds"] < slots["median_seconds"]) == (0, True)
    assert ends(private, 6, **EQUAL)["promoted"] == 1


def test_a_shadow_of_all_requests_is_compared_with_the_champion_that_answers_them(defaults):
    shadow = released(defaults, shadow_percent=100, shadow_requests=2000)
    ended = ends(shadow, 6, **EQUAL | {"candidate_error": 0.2})
    assert (ended["rolled_back"], ended["median_bad_answers"]) == (1, 0)


def test_a_bake_without_a_champion_is_compared_with_the_first_step(defaults):
    """So an outage of both condemns a candidate, which a small share of the champion's would prevent."""
    alone = released(defaults, bake_champion_percent=0)
    assert ends(alone, 4, **EQUAL)["promoted"] == 1
    assert ends(alone, 4, bake_outage=600, **EQUAL)["rolled_back"] == 1


def test_all_traffic_at_once_is_judged_by_the_guards_limits_or_the_shadow_before(defaults):
    at_once = {"steps": (Step(percent=100),), "bake_champion_percent": 0}
    worse = EQUAL | {"candidate_error": 0.3}
    alone = ends(released(defaults, **at_once), 4, **worse)
    assert (alone["rolled_back"], alone["median_seconds"] < 120) == (1, True)
    assert ends(released(defaults, **at_once), 2, **EQUAL)["promoted"] == 1
    shadow = released(defaults, **at_once, shadow_percent=1, shadow_requests=1)
    assert ends(shadow, 4, **EQUAL | {"candidate_error": 0.05})["rolled_back"] == 1


def test_a_service_that_nobody_asks_is_held_and_condemned_by_nobody(defaults):
    assert ends(defaults, 3, rps=1e-6, candidate_error=1.0)["held"] == 1


@pytest.mark.parametrize("planned", [plan, lambda policy, **fields: ends(policy, 3, **fields)])
def test_tables_have_no_requests_to_plan_or_simulate(defaults, planned):
    with pytest.raises(UsageError, match=r"m: release\.mode is batch"):
        planned(released(defaults, mode="batch"), rps=10)


def test_a_plan_says_how_long_steps_take_and_what_harm_they_find(defaults):
    planned = plan(defaults, rps=10, base_error=0.01, rollouts=10)
    assert planned.promoted == 1
    assert list(planned.steps) == ["canary 5 %", "canary 25 %", "canary 50 %", "bake 95 %"]
    assert planned.steps["bake 95 %"] == 3600
    assert (planned.failures, planned.latency) == (0.03, 2.0)
    assert planned.decisions in (0.02, 0.03)
