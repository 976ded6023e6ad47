from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from kedge.evaluation import curves


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=80))
def test_the_area_is_scikit_learns_with_ties(pairs: list[tuple[bool, int]]) -> None:
    label, score = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    found = curves.roc(label, score)
    if label.min() == label.max():
        assert found is None
        return
    assert found is not None
    assert found.area == pytest.approx(metrics.roc_auc_score(label, score))
    assert (found.false_positive_rate[0], found.true_positive_rate[0]) == (0, 0)
    assert (found.false_positive_rate[-1], found.true_positive_rate[-1]) == (1, 1)


def test_every_point_is_the_share_caught_at_its_threshold() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(500) < 0.3).astype(float)
    score = rng.normal(size=500) + label
    found = curves.roc(label, score, most=40)
    assert found is not None
    assert len(found.threshold) <= 41
    assert np.isfinite(found.threshold).all()
    for alarm, caught, threshold in zip(
        found.false_positive_rate, found.true_positive_rate, found.threshold, strict=True
    ):
        assert caught == pytest.approx((score >= threshold)[label == 1].mean())
        assert alarm == pytest.approx((score >= threshold)[label == 0].mean())


def test_calibration_bins_hold_every_row_once_and_agree_with_the_truth() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(20_000)
    label = (rng.random(20_000) < score).astype(float)
    bins = curves.calibration(label, score)
    assert sum(each.rows for each in bins) == 20_000
    assert [each.mean_score for each in bins] == pytest.approx(np.arange(0.05, 1, 0.1), abs=0.01)
    assert [each.positive_share for each in bins] == pytest.approx([each.mean_score for each in bins], abs=0.05)
