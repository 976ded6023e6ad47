"""scikit-learn's random forest. A category is its code, in the order of the alphabet; a missing value has a branch."""

from __future__ import annotations

from typing import Any

from kedge.bundle.estimators.estimator import Rows, Settings
from kedge.bundle.estimators.sklearn import SklearnEstimator

OWN = frozenset({
    "random_state", "n_jobs", "class_weight", "monotonic_cst", "verbose", "warm_start", "oob_score",
})  # fmt: skip


class Forest(SklearnEstimator):
    """Trees on random rows and features, whose probabilities (values) are averaged."""

    name = "forest"
    objectives = frozenset({"binary", "multiclass", "squared", "absolute", "poisson"})

    def parameters(self, task: str) -> frozenset[str]:
        return frozenset(_forest(task != "regression").get_params()) - OWN

    def fit(self, settings: Settings, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:  # noqa: ARG002
        given = {"n_estimators": 200, "min_samples_leaf": 5, **settings.parameters}
        if settings.loss != "squared":
            given = {"criterion": {"absolute": "absolute_error"}.get(settings.loss, settings.loss), **given}
        constraints = {"monotonic_cst": settings.directions} if settings.monotone else {}
        forest = _forest(settings.classifies).set_params(
            random_state=settings.seed, n_jobs=settings.threads, **constraints, **given
        )
        forest.fit(rows.matrix, rows.label, sample_weight=rows.weight)
        return forest.set_params(n_jobs=None)  # threads would add the trees up in any order


def _forest(classifier: bool) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    return RandomForestClassifier() if classifier else RandomForestRegressor()
