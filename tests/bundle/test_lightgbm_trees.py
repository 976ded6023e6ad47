"""One row by trees.c has the bits of LightGBM's own library, whatever the row; what it cannot score goes to that."""

from __future__ import annotations

from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest

from kedge.bundle.estimators.lightgbm import LightGBM

CATEGORIES = [3, 4]
EDGES = np.array([0, 1e-36, -1e-36, 1e-35, -1e-35, np.inf, -np.inf, 3e38, np.nan], np.float32)


def table(count=900, seed=0):
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, 5)).astype(np.float32)
    matrix[:, 3:] = random.integers(0, (6, 40), (count, 2))
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    return matrix, np.nan_to_num(matrix[:, 0]) + (matrix[:, 3] == 2) + random.logistic(size=count) / 2


def loaded(folder, **parameters):
    matrix, raw = table()
    objective = parameters["objective"]
    label = {"binary": raw > 0, "multiclass": np.digitize(raw, [-1, 1]), "poisson": np.abs(raw).round()}.get(
        objective, raw
    )
    data = lightgbm.Dataset(matrix, label.astype(float), categorical_feature=CATEGORIES)
    model = lightgbm.train({"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, **parameters}, data, 12)
    LightGBM().save(model, folder / "model.txt")
    inputs = SimpleNamespace(signature=SimpleNamespace(inputs=range(5)))
    return model, LightGBM().load(folder / "model.txt", inputs, 1)


@pytest.mark.parametrize(
    ("parameters", "compiled"),
    [
        ({"objective": "binary", "sigmoid": 0.7}, True),
        ({"objective": "multiclass", "num_class": 3, "max_cat_to_onehot": 10}, True),
        ({"objective": "regression", "use_missing": False}, True),
        ({"objective": "quantile", "alpha": 0.9}, True),
        ({"objective": "regression", "monotone_constraints": [1, 0, 0, 0, 0]}, True),
        ({"objective": "poisson", "boosting": "dart"}, True),
        ({"objective": "binary", "min_data_in_leaf": 800}, True),
        ({"objective": "binary", "zero_as_missing": True}, False),
        ({"objective": "regression", "reg_sqrt": True}, False),
        ({"objective": "binary", "boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1}, False),
    ],
)
def test_one_row_has_the_bits_of_the_library(tmp_path, parameters, compiled):
    model, predictor = loaded(tmp_path, **parameters)
    rows = table(seed=1)[0]
    random = np.random.default_rng(2)
    rows[:, :3] = np.where(random.random((len(rows), 3)) < 0.3, random.choice(EDGES, (len(rows), 3)), rows[:, :3])
    rows[::7, 3:] = random.choice([-1, 50, 1000], (len(rows[::7]), 2))
    assert [predictor.score_row(row.tobytes()) for row in rows] == model.predict(rows).tolist()
    assert (predictor.score_row.__name__ == "score_row_in_doubles") == compiled


def test_a_row_of_another_length_is_refused(tmp_path):
    _, predictor = loaded(tmp_path, objective="binary")
    with pytest.raises(ValueError, match="a row of 5 features is needed, got 16 bytes"):
        predictor.score_row(bytes(16))
