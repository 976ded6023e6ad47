"""What is served scores to the last bit what was trained."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from kedge import bundle
from kedge.bundle import additive, native, trees
from kedge.bundle.predictor import PipelinePredictor, TreesPredictor
from kedge.errors import NotExplainable
from tests.bundle import models

SIGNATURE = bundle.Signature.of(models.payments_policy().model)
TYPES = SIGNATURE.feature_types


def random_rows(count, seed=0):
    """Encoded rows far and near, with ties on round numbers, every code and a tenth missing."""
    random = np.random.default_rng(seed)
    rows = np.empty((count, 5), np.float32)
    rows[:, 0] = np.round(random.lognormal(3, 2, count), random.integers(0, 4))
    rows[:, 1] = random.integers(-100, 5000, count)
    rows[:, 2] = np.round(random.normal(0.5, 1, count), 3)
    rows[:, 3] = random.integers(0, 2, count)
    rows[:, 4] = random.integers(0, len(models.COUNTRIES), count)
    rows[random.random(rows.shape) < 0.1] = np.nan
    return rows


def reference(booster, rows):
    table = xgboost.DMatrix(rows, feature_types=TYPES, enable_categorical=True, feature_names=booster.feature_names)
    return booster.predict(table)


def saved(booster, folder):
    booster.save_model(folder / "model.ubj")
    return native.Booster(folder / "model.ubj", threads=1)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_trees_score_100_000_random_rows_as_xgboost_does_to_the_last_bit(tmp_path, task):
    booster = models.booster(task, 30, 6)
    predictor = TreesPredictor(saved(booster, tmp_path), TYPES)
    rows = random_rows(100_000)
    wanted = reference(booster, rows)
    assert predictor.quick
    assert np.isnan(rows).any(axis=0).all()
    assert predictor.score(rows).astype(np.float32).tobytes() == wanted.tobytes()
    requests = [predictor.score(part) for part in np.array_split(rows, 77)]
    assert np.concatenate(requests).astype(np.float32).tobytes() == wanted.tobytes()
    singles = np.array([predictor.score_row(row.tobytes()) for row in rows])
    assert singles.astype(np.float32).tobytes() == wanted.tobytes()
    assert (singles == singles.astype(np.float32)).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_depth": 1},
        {"max_depth": 3, "max_cat_to_onehot": 100},
        {"max_depth": 6, "max_cat_to_onehot": 1, "base_score": 0.9},
        {"max_depth": 0, "grow_policy": "lossguide", "max_leaves": 64},
        {"max_depth": 5, "num_parallel_tree": 3, "subsample": 0.5},
        {"max_depth": 4, "tree_method": "exact"},
        {"max_depth": 4, "scale_pos_weight": 30, "learning_rate": 1.0},
        {"max_depth": 12, "min_child_weight": 0},
        {"max_depth": 0, "grow_policy": "lossguide", "max_leaves": 300, "min_child_weight": 0},
    ],
)
def test_every_kind_of_tree_is_prepared_for_single_rows_and_keeps_its_bits(tmp_path, parameters):
    table = models.payments()
    matrix, label = SIGNATURE.encode(table), models.outcomes(table, "binary")
    types = TYPES
    if parameters.get("tree_method") == "exact":
        types = ["q"] * 5  # it knows no categories
    data = xgboost.DMatrix(matrix, label, feature_types=types, enable_categorical=True)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1} | parameters, data, 10)
    scorer = trees.build(saved(booster, tmp_path), types)
    assert scorer is not None
    rows = random_rows(3000, seed=1)
    wanted = booster.predict(xgboost.DMatrix(rows, feature_types=types, enable_categorical=True))
    assert np.array([scorer.score_row(row.tobytes()) for row in rows], np.float32).tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    "parameters",
    [
        {"booster": "dart", "rate_drop": 0.5},
        {"objective": "reg:tweedie"},
    ],
)
def test_what_cannot_be_prepared_goes_to_the_library_and_keeps_its_bits(tmp_path, parameters):
    table = models.payments()
    matrix, label = SIGNATURE.encode(table), models.outcomes(table, "binary")
    data = xgboost.DMatrix(matrix, label)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1} | parameters, data, 10)
    predictor = TreesPredictor(saved(booster, tmp_path), ["q"] * 5)
    rows = random_rows(200)
    wanted = booster.predict(xgboost.DMatrix(rows))
    assert not predictor.quick
    assert predictor.score(rows).astype(np.float32).tobytes() == wanted.tobytes()
    singles = np.array([predictor.score_row(row.tobytes()) for row in rows], np.float32)
    assert singles.tobytes() == wanted.tobytes()


def test_values_near_the_largest_make_an_infinite_threshold_and_the_model_loads_and_keeps_its_bits(tmp_path):
    missing = np.arange(400) % 2 == 0
    matrix = np.full((400, 1), 3e38, np.float32)
    matrix[missing] = np.nan
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(matrix, missing), 2)
    assert b"Infinity" in booster.save_raw("json")
    predictor = TreesPredictor(saved(booster, tmp_path), ["q"])
    assert predictor.quick
    rows = np.array([[np.nan], [3e38], [-3e38], [0]], np.float32)
    wanted = booster.predict(xgboost.DMatrix(rows))
    singles = np.array([predictor.score_row(row.tobytes()) for row in rows], np.float32)
    assert singles.tobytes() == predictor.score(rows).astype(np.float32).tobytes() == wanted.tobytes()


def test_trees_that_differ_from_the_library_in_one_bit_are_not_used(tmp_path, monkeypatch):
    booster = saved(models.booster("regression"), tmp_path)
    assert trees.build(booster, TYPES) is not None
    laid_out = trees.laid_out

    def one_bit_off(library, found, codes, link, bases):
        return laid_out(library, found, codes, link, [float(np.nextafter(np.float32(bases[0]), np.float32(9e9)))])

    monkeypatch.setattr(trees, "laid_out", one_bit_off)
    assert trees.build(booster, TYPES) is None


def test_a_row_or_a_matrix_of_another_width_reaches_no_compiled_code(tmp_path):
    forest = trees.build(saved(models.booster(), tmp_path), TYPES)
    assert forest is not None
    with pytest.raises(ValueError, match="5 features is needed, got 16 bytes"):
        forest.score_row(np.zeros(4, np.float32).tobytes())
    with pytest.raises(ValueError, match=r"5 features is needed, got one of shape \(3, 6\)"):
        forest.score(np.zeros((3, 6), np.float32))


def test_a_compiled_library_that_cannot_be_used_is_said_and_xgboost_predicts_the_same(tmp_path, monkeypatch):
    wanted = TreesPredictor(saved(models.booster(), tmp_path), TYPES).score_row(random_rows(1)[0].tobytes())
    broken = tmp_path / "libtrees.so"
    for content, said in ((None, "is not there"), (b"no library", "cannot be loaded")):
        if content is not None:
            broken.write_bytes(content)
        monkeypatch.setattr(trees, "LIBRARY", broken)
        trees._loaded.cache_clear()
        predictor = TreesPredictor(saved(models.booster(), tmp_path), TYPES)
        assert said in trees.fault()
        assert "make install" not in trees.fault()  # where there is no checkout, nobody can
        assert not predictor.quick
        assert predictor.score_row(random_rows(1)[0].tobytes()) == wanted
    monkeypatch.undo()
    trees._loaded.cache_clear()
    assert trees.fault() == ""


def test_contributions_are_xgboosts_and_sum_to_the_log_odds(tmp_path):
    booster = models.booster()
    predictor = TreesPredictor(saved(booster, tmp_path), TYPES)
    rows = random_rows(50)
    found = predictor.contributions(rows)
    table = xgboost.DMatrix(rows, feature_types=TYPES, enable_categorical=True, feature_names=booster.feature_names)
    np.testing.assert_array_equal(found, booster.predict(table, pred_contribs=True))
    scores = predictor.score(rows)
    np.testing.assert_allclose(found.sum(axis=1), np.log(scores / (1 - scores)), atol=1e-4)


def test_no_rows_give_no_scores(tmp_path):
    predictor = TreesPredictor(saved(models.booster(), tmp_path), TYPES)
    assert predictor.score(np.empty((0, 5), np.float32)).shape == (0,)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_linear_pipeline_is_served_as_its_terms_within_a_millionth_of_the_pipeline(tmp_path, task):
    opened = models.written(tmp_path / "made", kind="sklearn", task=task)
    predictor = opened.load_model()
    assert isinstance(predictor, additive.Additive)
    rows = random_rows(5000)
    pipeline = models.linear(task)
    wanted = pipeline.predict_proba(rows)[:, 1] if task == "binary" else pipeline.predict(rows)
    np.testing.assert_allclose(predictor.score(rows), wanted, atol=1e-6, rtol=1e-6)
    singles = np.array([predictor.score_row(row.tobytes()) for row in rows])
    assert singles.tobytes() == predictor.score(rows).tobytes()


def test_linear_contributions_sum_to_the_raw_score_and_a_missing_value_adds_nothing(tmp_path):
    predictor = models.written(tmp_path / "made", kind="sklearn").load_model()
    rows = random_rows(100)
    found = predictor.contributions(rows)
    np.testing.assert_allclose(found.sum(axis=1), models.linear().decision_function(rows.astype(float)), rtol=1e-9)
    assert (found[:, :-1][np.isnan(rows)] == 0).all()


def test_scikit_learn_model_that_is_not_linear_is_served_as_it_is(tmp_path):
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    table = models.payments()
    matrix = SIGNATURE.encode(table)
    curved = make_pipeline(SimpleImputer(), StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=1000))
    curved.fit(matrix, models.outcomes(table, "binary"))
    predictor = models.written(tmp_path / "made", kind="sklearn", model=curved).load_model()
    assert isinstance(predictor, PipelinePredictor)
    np.testing.assert_array_equal(predictor.score(matrix), curved.predict_proba(matrix)[:, 1])
    assert predictor.score_row(matrix[0].tobytes()) == curved.predict_proba(matrix[:1])[0, 1]
    with pytest.raises(NotExplainable, match="not linear"):
        predictor.contributions(matrix)
