from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from kedge.evaluation.decisions import decide
from kedge.policy import Model
from kedge.policy.model import Costs

MODEL = Model(name="m", target="y", features={"x": {"type": "number"}})


def world(rows: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(size=rows) * 2
    return odds, (rng.random(rows) < expit(odds)).astype(float)


def noisy(odds: np.ndarray, error: float, seed: int, sure: float = 1.0) -> np.ndarray:
    return expit(sure * (odds + np.random.default_rng(seed).normal(size=len(odds)) * error))


def test_costs_are_those_of_the_policy_by_hand() -> None:
    model = MODEL.model_copy(update={"costs": Costs(false_positive=1, false_negative=3)})  # act from 0.25 on
    label = np.array([1.0, 1.0, 0.0, 0.0])
    found = decide(model, label, np.array([0.3, 0.2, 0.2, 0.9]), np.array([0.9, 0.9, 0.3, 0.3]), 0.0)
    assert (found.challenger_cost, found.champion_cost) == (1.0, 0.5)  # (3 + 1) / 4 and (1 + 1) / 4
    assert (found.only_challenger_wrong, found.only_champion_wrong) == (1, 1)
    assert found.increase == 1.0
    assert (found.saved, found.saved_error) == (-2.0, pytest.approx(10**0.5))  # -3 and 1


def test_fewer_mistakes_that_cost_more_save_nothing() -> None:
    model = MODEL.model_copy(update={"costs": Costs(false_positive=1, false_negative=20)})  # act from 1/21 on
    label = np.repeat([1.0, 0.0], 50)
    missed = np.where(np.arange(100) < 9, 0.01, label)  # nine missed
    alarmed = np.where(np.arange(100) >= 64, 0.9, label)  # 36 false alarms
    found = decide(model, label, missed, alarmed, 0.0)
    assert (found.only_challenger_wrong, found.only_champion_wrong) == (9, 36)
    assert not found.saves(0)
    assert decide(model, label, alarmed, missed, 0.0).saves(1.64)


def test_being_too_sure_is_no_difference_in_decisions() -> None:
    odds, label = world()
    found = decide(MODEL, label, expit(odds), expit(1.5 * odds), 0.0)
    assert found.challenger_cost == found.champion_cost
    assert found.p_cost == 1.0
    assert found.p_calibrated > 0.1
    assert not found.harm(0.1)


def test_harm_that_the_costs_hardly_show_is_seen_in_the_calibrated_loss() -> None:
    odds, label = world(1000, 3)
    found = decide(MODEL, label, noisy(odds, 1.0, 1), noisy(odds, 0.5, 2, 2.0), 0.0)
    assert found.p_cost > 10 * found.p_calibrated
    assert found.p_calibrated < 0.005
    assert found.harm(0.1)


def test_a_loss_is_no_harm_where_decisions_are_shown_to_be_cheaper() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(5000) < 0.5).astype(float)
    good, poor = np.where(label > 0.5, 0.6, 0.4), np.where(label > 0.5, 0.97, 0.03)
    off, few = rng.random(5000) < 0.2, rng.random(5000) < 0.1
    champion = np.where(off, 1 - good, poor)  # wrong in 20 %, mildly
    challenger = np.where(few, 1 - poor, good)  # wrong in 10 %, badly
    found = decide(MODEL, label, challenger, champion, 0.0)
    assert found.p_cost > 0.999
    assert found.p_calibrated < 0.01
    assert not found.harm(0.1)


def test_a_rise_within_the_margin_is_not_shown() -> None:
    odds, label = world(20_000)
    challenger, champion = noisy(odds, 0.6, 1), expit(odds)
    assert decide(MODEL, label, challenger, champion, 0.0).harm(0.05)
    assert not decide(MODEL, label, challenger, champion, 0.5).harm(0.05)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_can_be_compared(label: float) -> None:
    found = decide(MODEL, np.full(100, label), np.full(100, 0.4), np.full(100, 0.6), 0.0)
    assert found.p_calibrated == 1.0
    assert found.harm(0.1) == (label == 1.0)
