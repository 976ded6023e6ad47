"""The two estimators. Each is fitted on older rows, stopped and measured on newer ones, then fitted on all of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge import measure
from kedge.bundle import Matrix, Signature
from kedge.bundle.committee import Committee
from kedge.cpus import usable_cpus
from kedge.measure import Floats, losses
from kedge.policy import Policy

SELECTION_SHARE = 0.2
"""Newest share of the rows of a fit, on which it is stopped and measured."""


@dataclass(frozen=True)
class Rows:
    """Encoded rows in time order: matrix (n, k), label (n,), time (n,) in microseconds, weight (n,) or None."""

    matrix: Matrix
    label: Floats
    time: NDArray[np.int64]
    weight: Floats | None = None

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, part: slice) -> Rows:
        weight = None if self.weight is None else self.weight[part]
        return Rows(self.matrix[part], self.label[part], self.time[part], weight)

    def weighted(self, half_life: float | None) -> Rows:
        """The rows weighing by their ages against the newest of them, see :func:`weights`."""
        return replace(self, weight=weights((self.time.max() - self.time) / 1e6, half_life))


@dataclass(frozen=True)
class FittedCandidate:
    """An estimator with the settings that rows gave it: fitted on the older of them, stopped by the newest fifth."""

    name: str
    measure: Callable[[], float]
    fit: Callable[[Rows], Any]
    """Fits with these settings."""

    @cached_property
    def loss(self) -> float:
        """Mean loss on the newest fifth."""
        return self.measure()


def split(rows: int) -> int:
    """How many of so many rows are the older ones; the newest fifth are the others, at least one.

    >>> split(1000)
    800
    """
    return rows - max(1, round(rows * SELECTION_SHARE))


def try_xgboost(policy: Policy, signature: Signature, rows: Rows) -> FittedCandidate:
    """Gradient-boosted trees; the newer rows say after how many trees to stop.

    Categories are split natively (`feature_types` "c"), a missing value takes the branch that lowers the loss.
    """
    import xgboost

    settings = policy.train.xgboost
    parameters = {
        "objective": "binary:logistic" if policy.model.task == "binary" else "reg:squarederror",
        "eval_metric": "logloss" if policy.model.task == "binary" else "rmse",
        "max_depth": settings.depth,
        "learning_rate": settings.learning_rate,
        "seed": policy.train.seed,
        "nthread": policy.train.threads or usable_cpus(),
        "tree_method": "hist",
        "verbosity": 0,
    }

    def table(rows: Rows) -> Any:
        return xgboost.DMatrix(
            rows.matrix, rows.label, weight=rows.weight,
            feature_names=list(signature.names), feature_types=signature.feature_types,
            enable_categorical=True, nthread=parameters["nthread"],
        )  # fmt: skip

    older, newer = rows[: split(len(rows))], rows[split(len(rows)) :]
    first = xgboost.train(
        parameters, table(older), settings.trees, evals=[(table(newer), "newer")], verbose_eval=False,
        early_stopping_rounds=settings.early_stopping_rounds,
    )  # fmt: skip
    trees = first.best_iteration + 1
    return FittedCandidate(
        "xgboost",
        lambda: mean_loss(policy, newer.label, score(policy, first[:trees], signature, newer.matrix)),
        lambda rows: xgboost.train(parameters, table(rows), trees),
    )


def try_linear(policy: Policy, signature: Signature, rows: Rows) -> FittedCandidate:
    """Logistic or ridge regression: numbers filled with the median and scaled, categories one column each."""

    def fit(rows: Rows) -> Any:
        return _linear(policy, signature).fit(rows.matrix, rows.label, model__sample_weight=rows.weight)

    older, newer = rows[: split(len(rows))], rows[split(len(rows)) :]
    return FittedCandidate(
        "linear", lambda: mean_loss(policy, newer.label, score(policy, fit(older), signature, newer.matrix)), fit
    )


def weights(ages: Floats, half_life: float | None) -> Floats | None:
    """Weight of rows by age, both shape (n,), ages and half-life in seconds: ``2 ** (-age / half_life)``.

    Old rows still steady the fit where the relation held, and give way where it changed.

    >>> weights(np.array([0.0, 60.0, 120.0]), 60.0).tolist()
    [1.0, 0.5, 0.25]
    """
    return None if half_life is None else np.exp2(-ages / half_life)


ESTIMATORS: Mapping[str, Callable[[Policy, Signature, Rows], FittedCandidate]] = {
    "xgboost": try_xgboost,
    "linear": try_linear,
}


def importance(model: Any, signature: Signature) -> dict[str, float]:
    """Share of each feature in the model, summing to 1: total gain of its splits, or |coefficient| of scaled columns.

    A member of a committee has the share of its weight. All zeros if the model uses none.
    """
    if isinstance(model, Committee):
        members = [importance(member, signature) for member in model.members]
        return {
            name: sum(weight * shares[name] for weight, shares in zip(model.weights, members, strict=True))
            for name in signature.names
        }
    raw = _gain(model, signature) if hasattr(model, "get_score") else _coefficients(model, signature)
    total = sum(raw.values())
    return {name: value / total if total else 0.0 for name, value in raw.items()}


def score(policy: Policy, model: Any, signature: Signature, matrix: Matrix) -> Floats:
    """Scores of a fitted model, shape (n,): probabilities or values."""
    if hasattr(model, "get_score"):
        import xgboost

        rows = xgboost.DMatrix(
            matrix, feature_names=list(signature.names), feature_types=signature.feature_types,
            enable_categorical=True, nthread=usable_cpus(),
        )  # fmt: skip
        return np.asarray(model.predict(rows), dtype=np.float64)
    scores = model.predict_proba(matrix)[:, 1] if policy.model.task == "binary" else model.predict(matrix)
    return np.asarray(scores, dtype=np.float64)


def mean_loss(policy: Policy, label: Floats, scores: NDArray[Any]) -> float:
    """Mean loss of scores, in the unit of the policy's task."""
    return float(losses(policy.model.task, label, np.asarray(scores, dtype=np.float64)).mean())


def calibration(label: Floats, scores: Floats) -> dict[str, float]:
    """Intercept and slope of :func:`measure.calibration`; empty without both classes, when there is nothing to fit."""
    if label.min() == label.max():
        return {}
    intercept, slope = measure.calibration(label, scores)
    return {"calibration_intercept": intercept, "calibration_slope": slope}


def _linear(policy: Policy, signature: Signature) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
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
    columns = ColumnTransformer([("numbers", number, numbers), ("categories", category, categories)])
    seed = policy.train.seed
    model = LogisticRegression(max_iter=1000, random_state=seed) if policy.model.task == "binary" else Ridge(tol=1e-8)
    return Pipeline([("columns", columns), ("model", model)])


def _positions(signature: Signature) -> tuple[list[int], list[int]]:
    numbers = [place for place, each in enumerate(signature.inputs) if each.type != "category"]
    categories = [place for place, each in enumerate(signature.inputs) if each.type == "category"]
    return numbers, categories


def _gain(booster: Any, signature: Signature) -> dict[str, float]:
    gains = booster.get_score(importance_type="total_gain")
    return {name: float(gains.get(name, 0.0)) for name in signature.names}


def _coefficients(pipeline: Any, signature: Signature) -> dict[str, float]:
    """|coefficient| by feature; a category's columns are added up."""
    numbers, categories = _positions(signature)
    sizes = np.abs(np.ravel(pipeline.named_steps["model"].coef_))
    owners = list(numbers)
    if categories:
        spread = pipeline.named_steps["columns"].named_transformers_["categories"].named_steps["spread"]
        ends = spread.get_feature_names_out([str(place) for place in categories])
        owners += [int(name.split("_", 1)[0]) for name in ends]
    found = dict.fromkeys(signature.names, 0.0)
    for place, size in zip(owners, sizes, strict=True):
        found[signature.names[place]] += float(size)
    return found
