"""Limits on metrics: what live labels show to be broken, and how often without cause."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import binom

from kedge import metrics
from kedge.monitoring import limits
from kedge.policy import Policy, parse
from kedge.records import Interval
from tests.monitoring.world import RULES


def asked(*metrics: dict[str, object], schedule: str = "0 * * * *") -> Policy:
    return parse({**RULES, "metrics": list(metrics), "monitor": {"schedule": schedule}})


def rows(count: int, caught: float, *, positives: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores that find so many of the positives and a tenth of the others."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < positives).astype(float)
    said = random.random(count) < np.where(labels == 1, caught, 0.1)
    return labels, np.where(said, 0.9, 0.1)


def broken(
    policy: Policy, labels: np.ndarray, scores: np.ndarray, released: Mapping[str, Interval] | None = None
) -> list[str]:
    figures = [metrics.figure(metric, policy.model, labels, scores) for metric in policy.metrics]
    return list(limits.broken(policy, [(labels, scores)], figures, released or {}))


@pytest.mark.parametrize(
    ("metric", "caught", "words"),
    [
        ({"name": "recall", "min": 0.8}, 0.6, "must be at least 0.8"),
        ({"name": "cost", "max": 0.2}, 0.3, "must be at most 0.2"),
        ({"name": "recall", "max_drop": 0.1}, 0.6, "was 0.9 when it was released and may be worse by 0.1"),
    ],
)
def test_a_limit_that_rows_show_to_be_broken_is_named_with_figure_and_interval(metric, caught, words):
    released = Interval(value=0.9, low=0.87, high=0.93)
    (sentence,) = broken(asked(metric), *rows(4000, caught), {"recall": released})
    assert f"{metric['name']} 0." in sentence
    assert "over 4,000 rows with an outcome" in sentence
    assert words in sentence
    assert not broken(asked(metric), *rows(4000, 0.95), {"recall": released})


def test_a_drop_from_figures_that_no_evaluation_recorded_is_not_judged():
    assert not broken(asked({"name": "recall", "max_drop": 0.1}), *rows(4000, 0.2))


def test_few_positives_prove_nothing_and_ten_missed_ones_do():
    policy = asked({"name": "recall", "min": 0.8})
    labels = np.zeros(1000)
    labels[[100, 500]] = 1.0
    assert not broken(policy, labels, np.zeros(1000))
    labels[np.arange(8) * 100 + 50] = 1.0
    assert "recall 0 " in broken(policy, labels, np.zeros(1000))[0]


@pytest.mark.parametrize("level", [3.5e-5, 1e-2])
def test_of_independent_rows_a_share_at_its_limit_is_called_at_most_so_often(level):
    for true in (0.5, 0.8, 0.95, 0.99):
        for count in (3, 20, 100, 1000):
            chances = np.array([limits.chernoff(k / count, true, count) for k in range(count + 1)])
            called = (chances <= level) & (np.arange(count + 1) < true * count)
            assert binom.pmf(np.flatnonzero(called), count, true).sum() <= level


@pytest.mark.parametrize("name", ["recall", "f1", "auc"])
def test_a_month_at_the_limit_raises_nothing_and_one_well_below_it_is_found(name):
    """Checks of six months, of the rows so far; one month in twenty may call."""
    true = {"recall": 0.8, "f1": 0.787, "auc": 0.85}[name]
    policy = asked({"name": name, "min": true}, schedule="0 0 * * *")
    calls = [
        any(broken(policy, *(part[:count] for part in rows(900, 0.8, seed=seed))) for count in (100, 500))
        for seed in range(6)
    ]
    assert sum(calls) <= 1
    assert broken(policy, *rows(900, 0.4))


def test_the_level_is_shared_by_all_looks_of_a_month():
    both = asked({"name": "recall", "min": 0.8, "max_drop": 0.1})
    assert limits.level(both) == pytest.approx(0.05 / 2 / 2 / 720)
