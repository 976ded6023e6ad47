"""XGBoost's boosted trees. Categories are split natively, a missing value takes the branch that lowers the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kedge.bundle import native
from kedge.bundle.committee import merged_booster
from kedge.bundle.estimators.estimator import Estimator, Rows, Settings
from kedge.bundle.manifest import Manifest
from kedge.bundle.predictor import Predictor, TreesPredictor
from kedge.bundle.signature import Matrix, Signature
from kedge.cpus import usable_cpus
from kedge.errors import BundleError
from kedge.measure import Floats
from kedge.store import write_file

NATIVE = ("eta", "gamma", "alpha", "lambda", "sketch_method", "refresh_leaf", "process_type", "max_cached_hist_node")
"""Parameters that its scikit-learn wrapper calls otherwise, or does not list."""
OWN = frozenset({
    "objective", "eval_metric", "num_class", "quantile_alpha", "seed", "random_state", "nthread", "n_jobs",
    "enable_categorical", "feature_types",
    "missing", "monotone_constraints", "verbosity", "booster", "device",
    "callbacks", "importance_type", "multi_strategy", "num_parallel_tree", "base_score", "validate_parameters",
})  # fmt: skip
"""Those that kedge sets, or on which the form of the model hangs."""


OBJECTIVES = {
    "binary": ("binary:logistic", "logloss"), "multiclass": ("multi:softprob", "mlogloss"),
    "squared": ("reg:squarederror", "rmse"), "absolute": ("reg:absoluteerror", "mae"),
    "poisson": ("count:poisson", "poisson-nloglik"), "quantile": ("reg:quantileerror", "quantile"),
}  # fmt: skip
"""What is minimised, and what says when to stop."""


class XGBoost(Estimator):
    """Gradient-boosted trees; the newer rows say after how many trees to stop."""

    name, format, ending = "xgboost", "xgboost", "ubj"
    libraries = ("xgboost",)
    stops_early = True
    beside_others = True

    def parameters(self, task: str) -> frozenset[str]:
        import xgboost

        wrapper = xgboost.XGBClassifier if task != "regression" else xgboost.XGBRegressor
        return frozenset((*wrapper().get_params(), *NATIVE, "trees", "depth")) - OWN

    def fit(self, settings: Settings, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:
        import xgboost

        given = dict(settings.parameters)
        trees, rate = given.pop("trees", 200), given.pop("learning_rate", 0.1)
        trees, rate = given.pop("n_estimators", trees), given.pop("eta", rate)
        patience = given.pop("early_stopping_rounds", 20)
        objective, metric = OBJECTIVES[settings.objective]
        parameters = {
            "objective": objective,
            "eval_metric": metric,
            **({"num_class": settings.classes} if settings.classes else {}),
            **({"quantile_alpha": settings.quantile} if settings.quantile is not None else {}),
            "max_depth": given.pop("depth", 6),
            "learning_rate": rate,
            "seed": settings.seed,
            "nthread": settings.threads,
            "tree_method": "hist",
            "verbosity": 0,
            **given,
        }
        if settings.monotone:
            parameters["monotone_constraints"] = f"({','.join(map(str, settings.directions))})"
        if newer is None:
            return xgboost.train(parameters, _table(settings, rows), rounds or trees)
        first = xgboost.train(
            parameters, _table(settings, rows), trees, evals=[(_table(settings, newer), "newer")], verbose_eval=False,
            early_stopping_rounds=patience,
        )  # fmt: skip
        return first[: first.best_iteration + 1]

    def rounds(self, model: Any) -> int | None:
        return int(model.num_boosted_rounds())

    def predict(self, objective: str, signature: Signature, model: Any, matrix: Matrix) -> Floats:  # noqa: ARG002
        import xgboost

        rows = xgboost.DMatrix(
            matrix, feature_names=list(signature.names), feature_types=signature.feature_types,
            enable_categorical=True, nthread=usable_cpus(),
        )  # fmt: skip
        return np.asarray(model.predict(rows), dtype=np.float64)

    def importance(self, model: Any, signature: Signature) -> Mapping[str, float]:
        gains = model.get_score(importance_type="total_gain")
        return {name: float(gains.get(name, 0.0)) for name in signature.names}

    def holds(self, model: Any) -> bool:
        return hasattr(model, "get_score") or hasattr(model, "get_booster")

    def save(self, model: Any, file: Path) -> None:
        booster = model.get_booster() if hasattr(model, "get_booster") else model
        best = booster.attributes().get("best_iteration")  # early stopping may have kept more
        write_file(file, bytes((booster if best is None else booster[: int(best) + 1]).save_raw("ubj")))

    def load(self, file: Path, manifest: Manifest, threads: int) -> Predictor:
        booster = native.Booster(file, threads)
        if booster.features != len(manifest.signature.inputs):
            raise BundleError(
                f"{file}: the model takes {booster.features} features, its signature has "
                f"{len(manifest.signature.inputs)}"
            )
        return TreesPredictor(booster, manifest.signature.feature_types)

    def merge(self, models: Sequence[Any], shares: Sequence[float]) -> Any:
        return merged_booster(models, shares)


def _table(settings: Settings, rows: Rows) -> Any:
    import xgboost

    return xgboost.DMatrix(
        rows.matrix, rows.label, weight=rows.weight,
        feature_names=list(settings.signature.names), feature_types=settings.signature.feature_types,
        enable_categorical=True, nthread=settings.threads,
    )  # fmt: skip
