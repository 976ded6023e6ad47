from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from kedge.measure import losses


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_the_mean_loss_is_scikit_learns_log_loss_also_for_certain_scores(pairs: list[tuple[bool, float]]) -> None:
    label, score = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    wanted = log_loss(label, np.column_stack([1 - score, score]), labels=[0, 1])
    assert losses("binary", label, score).mean() == pytest.approx(wanted, rel=1e-6, abs=1e-9)
