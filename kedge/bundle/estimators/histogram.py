"""scikit-learn's histogram gradient boosting. Categories are split natively up to 255 of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kedge.bundle.estimators.estimator import Rows, Settings
from kedge.bundle.estimators.sklearn import SklearnEstimator
from kedge.bundle.signature import Matrix

OWN = frozenset({
    "random_state", "class_weight", "monotonic_cst", "verbose", "warm_start", "categorical_features", "loss",
    "quantile", "early_stopping", "validation_fraction", "scoring",
})  # fmt: skip
MAX_CATEGORIES = 255
"""A feature with more of them is taken for a number."""


class Histogram(SklearnEstimator):
    """Gradient-boosted trees on binned features; the newer rows say after how many to stop."""

    name = "histogram"
    stops_early = True

    def parameters(self, task: str) -> frozenset[str]:
        return frozenset((*_boosting(task != "regression").get_params(), "early_stopping_rounds")) - OWN

    def fit(self, settings: Settings, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:
        from threadpoolctl import threadpool_limits

        given = {"max_iter": 200, **settings.parameters}
        patience = given.pop("early_stopping_rounds", given.pop("n_iter_no_change", 20))
        if not settings.classifies:
            named = {"squared": "squared_error", "absolute": "absolute_error"}
            given |= {"loss": named.get(settings.objective, settings.objective), "quantile": settings.quantile}
        boosting = _boosting(settings.classifies).set_params(
            random_state=settings.seed,
            categorical_features=[
                each.type == "category" and len(each.categories) <= MAX_CATEGORIES for each in settings.signature.inputs
            ],
            monotonic_cst=settings.directions if settings.monotone else None,
            early_stopping=newer is not None,
            n_iter_no_change=patience,
            **given,
        )
        if rounds is not None:
            boosting.set_params(max_iter=rounds)
        with threadpool_limits(settings.threads, "openmp"):
            if newer is None:
                return boosting.fit(_some_value(rows.matrix), rows.label, rows.weight)
            boosting.fit(
                _some_value(rows.matrix), rows.label, rows.weight,
                X_val=newer.matrix, y_val=newer.label, sample_weight_val=newer.weight,
            )  # fmt: skip
        best = int(np.argmax(boosting.validation_score_))  # of no tree, of one, of two, ...
        boosting._predictors = boosting._predictors[: max(1, best)]
        return boosting

    def rounds(self, model: Any) -> int | None:
        return len(model._predictors)


def _some_value(matrix: Matrix) -> Matrix:
    """The matrix with 0 in columns without any value, which scikit-learn cannot bin; no tree splits a constant."""
    empty = np.isnan(matrix).all(axis=0)
    return np.where(empty, np.float32(0), matrix) if empty.any() else matrix


def _boosting(classifier: bool) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return HistGradientBoostingClassifier() if classifier else HistGradientBoostingRegressor()
