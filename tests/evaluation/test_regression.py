from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from kedge.evaluation.regression import fit, residuals

VALUES = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def test_errors_worked_by_hand() -> None:
    """Residuals -1, 0, 2, 1: squares sum to 6, sizes to 4; the labels 1, 2, 6, 7 of mean 4 vary by 9 + 4 + 4 + 9."""
    found = fit(np.array([1.0, 2.0, 6.0, 7.0]), np.array([2.0, 2.0, 4.0, 6.0]))
    assert found.rmse == pytest.approx(1.5**0.5)
    assert found.mae == 1.0
    assert found.r_squared == pytest.approx(1 - 6 / 26)


def test_exact_values_have_no_error_and_their_mean_explains_nothing() -> None:
    label = np.array([1.0, 2.0, 6.0])
    exact, mean = fit(label, label), fit(label, np.full(3, 3.0))
    assert (exact.rmse, exact.mae, exact.r_squared) == (0, 0, 1)
    assert mean.r_squared == 0
    assert mean.rmse == pytest.approx(label.std())


def test_where_all_labels_are_equal_there_is_nothing_to_explain() -> None:
    found = fit(np.full(3, 0.1), np.array([0.1, 0.1, 0.4]))  # their mean is not 0.1 to the last bit
    assert found.r_squared is None
    assert found.mae == pytest.approx(0.1)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=60))
def test_errors_are_scikit_learns(pairs: list[tuple[float, float]]) -> None:
    label, score = (np.array(column) for column in zip(*pairs, strict=True))
    found = fit(label, score)
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(label, score))
    assert found.mae == pytest.approx(metrics.mean_absolute_error(label, score))
    if label.min() == label.max():
        assert found.r_squared is None
    else:
        assert found.r_squared == pytest.approx(metrics.r2_score(label, score))


def test_a_target_in_another_unit_scales_the_errors_and_leaves_r_squared() -> None:
    rng = np.random.default_rng(0)
    label = rng.normal(size=200)
    score = label + rng.normal(size=200) / 2
    euro, cent = fit(label, score), fit(100 * label, 100 * score)
    assert (cent.rmse, cent.mae) == pytest.approx((100 * euro.rmse, 100 * euro.mae))
    assert cent.r_squared == pytest.approx(euro.r_squared)


def test_residual_bins_hold_every_row_once_in_the_order_of_the_predicted_value() -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0, 10, 5000)
    label = score + 2 + rng.uniform(-1, 1, 5000)
    bins = residuals(label, score)
    assert sum(each.rows for each in bins) == 5000
    assert [each.mean_score for each in bins] == pytest.approx(np.arange(0.5, 10), abs=0.2)
    assert [each.mean for each in bins] == pytest.approx([2.0] * 10, abs=0.1)
    assert [each.low for each in bins] == pytest.approx([1.2] * 10, abs=0.1)
    assert [each.high for each in bins] == pytest.approx([2.8] * 10, abs=0.1)


def test_a_bin_worked_by_hand() -> None:
    """Twenty rows of one residual but one: ten bins of two, and the fifth is off by -1 and +3."""
    score = np.arange(20.0)
    label = score.copy()
    label[[8, 9]] += [-1.0, 3.0]
    bins = residuals(label, score)
    assert [each.mean for each in bins] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert (bins[4].rows, bins[4].mean_score) == (2, 8.5)
    assert (bins[4].low, bins[4].high) == pytest.approx((-0.6, 2.6))


def test_fewer_rows_than_bins_are_a_bin_each() -> None:
    assert [each.mean for each in residuals(np.array([4.0, 1.0, 1.0]), np.array([3.0, 2.0, 1.0]))] == [0.0, -1.0, 1.0]
