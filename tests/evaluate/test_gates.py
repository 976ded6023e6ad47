from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from components.evaluate.compare import Paired
from components.evaluate.gates import Measured, Slice, judge
from components.policy import Gates

BETTER = Paired(improvement=0.02, low=0.01, high=0.03, p_value=0.01, blocks=30, rows=1000)


def measured(**changes: Any) -> Measured:
    seen = Measured(rows=1000, challenger_loss=0.3, constant_loss=0.6, paired=BETTER)
    return dataclasses.replace(seen, **changes)


def part(**changes: Any) -> Slice:
    one = Slice(feature="country", value="AT", rows=200, challenger_loss=0.3, champion_loss=0.3)
    return dataclasses.replace(one, **changes)


def failed(seen: Measured, **gates: Any) -> list[str]:
    return [verdict.name for verdict in judge(Gates(**gates), seen) if not verdict.passed]


def test_a_better_challenger_passes_every_gate() -> None:
    assert failed(measured()) == []


@pytest.mark.parametrize(
    ("changes", "gates", "gate"),
    [
        ({"rows": 199}, {}, "min_rows"),
        ({"constant_loss": 0.3}, {}, "constant"),
        ({}, {"max_loss": 0.29}, "max_loss"),
        ({"paired": dataclasses.replace(BETTER, p_value=0.051)}, {}, "alpha"),
        ({}, {"min_improvement": 0.021}, "min_improvement"),
        ({"slices": [part(challenger_loss=0.34)]}, {}, "max_slice_loss_increase"),
    ],
)
def test_each_gate_fails_on_its_own(changes: dict[str, Any], gates: dict[str, Any], gate: str) -> None:
    assert failed(measured(**changes), **gates) == [gate]


@pytest.mark.parametrize(
    ("changes", "gates"),
    [
        ({"rows": 200}, {}),
        ({}, {"max_loss": 0.3}),
        ({"paired": dataclasses.replace(BETTER, p_value=0.05)}, {}),
        ({}, {"min_improvement": 0.02}),
        ({"slices": [part(challenger_loss=0.2, champion_loss=0.1)]}, {"max_slice_loss_increase": 1.0}),
    ],
)
def test_thresholds_are_inclusive(changes: dict[str, Any], gates: dict[str, Any]) -> None:
    assert failed(measured(**changes), **gates) == []


def test_a_small_slice_is_reported_not_judged() -> None:
    assert failed(measured(slices=[part(rows=99, challenger_loss=3.0)])) == []


def test_the_worst_slice_is_named_with_its_increase() -> None:
    seen = measured(slices=[part(), part(value="BE", challenger_loss=0.6)])
    sentence = next(v.sentence for v in judge(Gates(), seen) if v.name == "max_slice_loss_increase")
    assert sentence == "worst slice country = BE: loss +100.0% (200 rows), at most +10.0% allowed"


def test_a_slice_that_was_perfect_may_not_become_worse() -> None:
    assert failed(measured(slices=[part(champion_loss=0.0, challenger_loss=0.01)])) == ["max_slice_loss_increase"]
    assert failed(measured(slices=[part(champion_loss=0.0, challenger_loss=0.0)])) == []


def test_without_a_champion_only_the_comparing_gates_are_passed_and_say_so() -> None:
    alone = measured(paired=None, slices=[part(champion_loss=None)])
    assert failed(alone) == []
    reasons = {v.name: v.sentence for v in judge(Gates(), alone)}
    assert all("no champion" in reasons[name] for name in ("alpha", "min_improvement", "max_slice_loss_increase"))
    assert failed(dataclasses.replace(alone, challenger_loss=0.7)) == ["constant"]
