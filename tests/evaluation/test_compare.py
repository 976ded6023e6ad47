from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kedge.evaluation.compare import holm, paired


def losses(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.exponential(size=count), rng.exponential(size=count)


@pytest.mark.parametrize(("rows", "blocks"), [(4, 2), (100, 10), (900, 30), (30_000, 30)])
def test_with_equal_blocks_it_is_the_t_test_on_their_means(rows: int, blocks: int) -> None:
    champion, challenger = losses(rows, rows)
    found = paired(champion, challenger)
    means = (champion - challenger).reshape(blocks, -1).mean(axis=1)
    wanted = stats.ttest_1samp(means, 0, alternative="greater")
    interval = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert found.blocks == blocks
    assert found.improvement == pytest.approx(means.mean())
    assert found.p_value == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_blocks_of_unequal_length_worked_by_hand() -> None:
    # 5 rows, 2 blocks: (1, 3) and (2, 4, 5); m = 3, block means 2 and 11/3
    # error^2 = (2 * 1^2 + 3 * (2/3)^2) / (5 * 1) = (2 + 4/3) / 5 = 2/3; t = 3 / sqrt(2/3), 1 degree of freedom
    found = paired(np.array([1.0, 3.0, 2.0, 4.0, 5.0]), np.zeros(5))
    assert found.p_value == pytest.approx(stats.t.sf(3 / np.sqrt(2 / 3), 1))


def test_neighbours_that_err_alike_raise_no_false_alarm() -> None:
    """AR(1) differences of mean zero: a test that takes rows for independent rejects a third of the time at 5 %."""
    rng = np.random.default_rng(0)
    rejected = naive = 0
    for _ in range(300):
        noise = rng.normal(size=2000)
        for index in range(1, 2000):
            noise[index] += 0.8 * noise[index - 1]
        rejected += paired(noise, np.zeros(2000)).p_value <= 0.05
        naive += stats.ttest_1samp(noise, 0, alternative="greater").pvalue <= 0.05
    assert naive / 300 > 0.2
    assert rejected / 300 < 0.1


@given(st.integers(4, 500), st.integers(0, 1000))
def test_swapping_the_models_turns_the_difference_around(rows: int, seed: int) -> None:
    champion, challenger = losses(seed, rows)
    found, turned = paired(champion, challenger), paired(challenger, champion)
    assert found.improvement == pytest.approx(-turned.improvement)
    assert found.p_value == pytest.approx(1 - turned.p_value)
    assert found.low <= found.improvement <= found.high


def test_a_model_is_no_better_than_itself() -> None:
    loss, _ = losses(1, 400)
    assert paired(loss, loss).p_value == 1.0


def test_the_same_gain_on_every_row_is_certain() -> None:
    loss = np.full(64, 0.5)
    assert paired(loss + 0.25, loss).p_value == 0.0


@pytest.mark.parametrize(("champion", "challenger"), [(3, 3), (4, 5)])
def test_losses_of_too_few_or_other_rows_are_refused(champion: int, challenger: int) -> None:
    with pytest.raises(ValueError, match="same rows, at least 4"):
        paired(np.ones(champion), np.ones(challenger))


def test_holm_by_hand() -> None:
    # sorted 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5 * 1; none below the one before
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_calls_no_more_than_each_test_alone_and_no_fewer_than_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert raw <= value <= min(1.0, raw * len(p_values))
