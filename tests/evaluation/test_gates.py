from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kedge.evaluation.compare import Paired
from kedge.evaluation.gates import Measured, Slice, judge
from kedge.policy import Gates

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
        ({"rows": 199}, {}, "rows"),
        ({"constant_loss": 0.3}, {}, "loss"),
        ({}, {"max_loss": 0.29}, "loss"),
        ({"paired": dataclasses.replace(BETTER, p_value=0.051)}, {}, "improvement"),
        ({}, {"min_improvement": 0.021}, "improvement"),
        ({"paired": dataclasses.replace(BETTER, improvement=-0.001, p_value=0.6)}, {"alpha": 0.7}, "improvement"),
        ({"slices": [part(challenger_loss=0.34)]}, {}, "slices"),
    ],
)
def test_each_limit_fails_its_gate_alone(changes: dict[str, Any], gates: dict[str, Any], gate: str) -> None:
    assert failed(measured(**changes), **gates) == [gate]


WORSE = Paired(improvement=-0.02, low=-0.03, high=0.01, p_value=0.9, blocks=30, rows=1000)


@pytest.mark.parametrize(
    ("changes", "gates", "sentences"),
    [
        (
            {"slices": [part(), part(value="BE", challenger_loss=0.27)]},
            {},
            [
                "1,000 rows to judge on, must be at least 200",
                "loss 0.3, must be below 0.6, that of always saying the mean of the training rows",
                "loss 0.02 lower than the champion's (95 % interval 0.01 to 0.03, paired test p = 0.01), must be lower "
                "with p at most 0.05",
                "worst slice country = AT (200 rows): loss +0.0% against the champion's, must be at most +10.0%",
            ],
        ),
        (
            {"rows": 90, "paired": WORSE, "slices": [part(), part(value="BE", challenger_loss=0.6)]},
            {"max_loss": 0.2, "min_improvement": 0.005},
            [
                "90 rows to judge on, must be at least 200",
                "loss 0.3, must be at most 0.2 and below 0.6, that of always saying the mean of the training rows",
                "loss 0.02 higher than the champion's (95 % interval -0.01 to 0.03, paired test p = 0.9), must be at "
                "least 0.005 lower with p at most 0.05",
                "worst slice country = BE (200 rows): loss +100.0% against the champion's, must be at most +10.0%",
            ],
        ),
        (
            {"paired": None, "slices": [part(champion_loss=None)]},
            {},
            [
                "1,000 rows to judge on, must be at least 200",
                "loss 0.3, must be below 0.6, that of always saying the mean of the training rows",
                "there is no champion yet to compare with",
            ],
        ),
    ],
)
def test_each_fact_is_said_once_with_figure_and_limits(
    changes: dict[str, Any], gates: dict[str, Any], sentences: list[str]
) -> None:
    verdicts = judge(Gates(**gates), measured(**changes))
    assert [verdict.sentence for verdict in verdicts] == sentences
    assert len({verdict.name for verdict in verdicts}) == len(verdicts)


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


def test_a_slice_that_was_perfect_may_not_become_worse() -> None:
    assert failed(measured(slices=[part(champion_loss=0.0, challenger_loss=0.01)])) == ["slices"]
    assert failed(measured(slices=[part(champion_loss=0.0, challenger_loss=0.0)])) == []


def test_without_a_champion_nothing_is_compared_and_the_constant_is_still_to_be_beaten() -> None:
    alone = measured(paired=None, slices=[part(champion_loss=None)])
    assert failed(alone) == []
    assert failed(dataclasses.replace(alone, challenger_loss=0.7)) == ["loss"]
