"""Logistic, ridge, quantile or Poisson regression: the simple baseline that must be beaten to deserve trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kedge.bundle.estimators.estimator import Rows, Settings
from kedge.bundle.estimators.sklearn import SklearnEstimator
from kedge.bundle.signature import Signature

OWN = frozenset({"random_state", "n_jobs", "class_weight", "multi_class", "verbose", "warm_start", "quantile"})
MAX_QUANTILE_ROWS = 5000
"""Newest rows, at most, that a linear quantile is fitted to: it is a linear programme of as many unknowns."""


class Linear(SklearnEstimator):
    """Numbers filled with the median and scaled, categories one column each, then a linear model."""

    name = "linear"
    constrainable = False

    def parameters(self, task: str) -> frozenset[str]:
        tasks = ("squared", "absolute", "poisson") if task == "regression" else (task,)
        return frozenset(name for each in tasks for name in _model(each, 0).get_params()) - OWN

    def fit(self, settings: Settings, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:  # noqa: ARG002
        from sklearn.pipeline import Pipeline

        model = _model(settings.objective, settings.seed).set_params(**settings.parameters)
        if settings.objective in ("absolute", "quantile"):
            model.set_params(quantile=settings.quantile or 0.5)
            rows = rows[-MAX_QUANTILE_ROWS:]
        pipeline = Pipeline([("columns", columns(settings.signature)), ("model", model)])
        return pipeline.fit(rows.matrix, rows.label, model__sample_weight=rows.weight)

    def importance(self, model: Any, signature: Signature) -> Mapping[str, float]:
        """|coefficient| of scaled columns by feature; a category's columns are added up."""
        numbers, categories = _positions(signature)
        sizes = np.abs(np.atleast_2d(model.named_steps["model"].coef_)).sum(axis=0)
        owners = list(numbers)
        if categories:
            spread = model.named_steps["columns"].named_transformers_["categories"].named_steps["spread"]
            ends = spread.get_feature_names_out([str(place) for place in categories])
            owners += [int(name.split("_", 1)[0]) for name in ends]
        found = dict.fromkeys(signature.names, 0.0)
        for place, size in zip(owners, sizes, strict=True):
            found[signature.names[place]] += float(size)
        return found


def columns(signature: Signature) -> Any:
    """Numbers filled with the median and scaled, categories one column each: what any estimator can take."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers, categories = _positions(signature)
    number = Pipeline([
        ("fill", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())
    ])  # fmt: skip
    category = Pipeline([
        ("fill", SimpleImputer(strategy="constant", fill_value=-1)),
        ("spread", OneHotEncoder(handle_unknown="ignore", min_frequency=10)),
    ])  # fmt: skip
    # Mostly zeros stay sparse: two categories of 400 values would be 800 columns of them.
    return ColumnTransformer([("numbers", number, numbers), ("categories", category, categories)])


def _model(objective: str, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression, PoissonRegressor, QuantileRegressor, Ridge

    match objective:
        case "binary" | "multiclass":
            return LogisticRegression(max_iter=1000, random_state=seed)
        case "poisson":
            return PoissonRegressor(alpha=1e-4, max_iter=1000)
        case "absolute" | "quantile":
            return QuantileRegressor(alpha=1e-4)
        case _:
            return Ridge(tol=1e-8)


def _positions(signature: Signature) -> tuple[list[int], list[int]]:
    numbers = [place for place, each in enumerate(signature.inputs) if each.type != "category"]
    categories = [place for place, each in enumerate(signature.inputs) if each.type == "category"]
    return numbers, categories
