"""Regret: when the risen error has paid for a retraining."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.monitoring import regret
from kedge.monitoring.regret import Regret
from kedge.policy.costs import RetrainingCosts

COSTS = RetrainingCosts()
START = datetime(2026, 3, 1, tzinfo=UTC)


def start(level: float = 0.2) -> Regret:
    return Regret.start(COSTS, level=level, tenure_id="promoted/1", trained_rows=2000, since=START)


def observed(state: Regret, wrong: list[int], rows: int = 250, costs: RetrainingCosts = COSTS) -> Regret:
    for hour, cost in enumerate(wrong, 1):
        state = regret.observe(
            state, costs, rows=rows, cost=cost, square=cost, end=START + timedelta(hours=state.served_checks + hour)
        )
    return state


def test_excess_is_what_lies_above_the_level_and_the_slack() -> None:
    state = observed(start(), [100])
    assert state.excess == pytest.approx(100 - 250 * (0.2 + 30 / 2000))
    assert state.drift == state.excess


def test_at_the_level_nothing_adds_up() -> None:
    state = observed(start(), [50] * 40)
    assert state.excess == state.drift == 0
    assert state.rows_since_change == 0


def test_the_change_point_is_the_end_of_the_last_check_without_drift() -> None:
    state = start()
    for hour, cost in enumerate([50, 50, 50, 90, 95, 90], 1):
        state = regret.observe(state, COSTS, rows=250, cost=cost, square=cost, end=START + timedelta(hours=hour))
    assert state.change_point == START + timedelta(hours=3)
    assert state.rows_since_change == 750


def test_a_level_once_held_is_never_given_up() -> None:
    state = observed(start(0.3), [50] * 3)
    assert state.level == pytest.approx(0.2)
    state = observed(regret.begin_tenure(state, "promoted/2", START), [100] * 9)
    assert state.level == pytest.approx(0.2)


def test_one_lucky_check_is_no_level() -> None:
    assert observed(start(), [10]).level == 0.2


def test_a_retraining_pays_when_the_excess_reaches_its_price() -> None:
    assert not regret.pays(observed(start(), [60]), COSTS, 200)
    state = observed(start(), [120])
    assert state.excess > state.needed()
    assert regret.pays(state, COSTS, 200)
    assert not regret.pays(state, COSTS, 251), "too few rows since the change to learn from"


def test_an_attempt_that_brought_nothing_triples_the_price() -> None:
    state = regret.asked(observed(start(), [120]), "key", by_excess=True)
    assert state.excess == 0
    assert regret.ended(state, COSTS, "rejected", useful=False).price == pytest.approx(3 * state.price)


def test_one_that_decided_better_brings_it_back() -> None:
    state = regret.asked(observed(start(), [120]), "key", by_excess=True)
    failed = regret.ended(state, COSTS, "rejected", useful=False)
    again = regret.asked(observed(failed, [200] * 4), "key", by_excess=True)
    won = regret.ended(again, COSTS, "promoted", useful=True)
    assert (won.floor, won.price) == (30, again.price)  # which fades towards the floor
    assert won.attempts == 0


def test_a_promotion_for_its_loss_alone_counts_as_an_attempt() -> None:
    state = regret.asked(observed(start(), [120]), "key", by_excess=True)
    state = regret.ended(state, COSTS, "promoted", useful=False)
    assert state.loss_only
    assert state.attempts == 1
    assert state.floor == 90


def test_what_showed_nothing_costs_no_share_of_the_error_budget() -> None:
    state = regret.asked(observed(start(), [120]), "key", by_excess=True)
    after = regret.ended(state, COSTS, "nothing shown", useful=False)
    assert (after.attempts, after.price) == (0, state.price)


def test_growth_of_the_price_fades_with_rows() -> None:
    state = regret.asked(observed(start(), [120]), "key", by_excess=True)
    state = regret.ended(state, COSTS, "rejected", useful=False)
    raised = Regret(**{**state.__dict__, "price": 290.0, "floor": 90.0})
    faded = regret.observe(raised, COSTS, rows=1600, cost=320, square=320, end=START)
    assert faded.price == pytest.approx(90 + 200 / 2)


def test_errors_that_cost_nothing_start_nothing() -> None:
    free = RetrainingCosts(error=0)
    assert not regret.pays(observed(start(), [250] * 20, costs=free), free, 200)


def test_runs_that_cost_nothing_wait_for_certainty_alone() -> None:
    free = RetrainingCosts(run=0, release=0)
    state = Regret.start(free, level=0.2, tenure_id="", trained_rows=1, since=START)
    assert state.price == 0
    assert regret.pays(observed(state, [90], costs=free), free, 200)


def test_eight_times_the_rows_outgrow_a_training() -> None:
    state = observed(start(), [50] * 55)
    assert not regret.outgrown(state, 8.0)
    assert regret.outgrown(observed(state, [50]), 8.0)
    assert not regret.outgrown(observed(state, [50]), None)
    assert not regret.outgrown(regret.asked(observed(state, [50]), "key", by_excess=False), 8.0)


def test_the_state_survives_a_record() -> None:
    state = observed(start(), [120, 90, 40])
    assert Regret.from_dict({**state.to_dict(), "of_a_later_version": 1}) == state


@given(st.lists(st.integers(0, 250), max_size=30), st.integers(0, 29), st.integers(0, 50))
def test_more_errors_in_the_first_checks_never_lower_the_excess(wrong: list[int], place: int, more: int) -> None:
    wrong = [min(cost, 200) for cost in wrong] or [50]
    place %= min(len(wrong), 2)  # before a level is taken from the served rows
    worse = [cost + more * (index == place) for index, cost in enumerate(wrong[:2])]
    assert observed(start(), worse).excess >= observed(start(), wrong[:2]).excess
