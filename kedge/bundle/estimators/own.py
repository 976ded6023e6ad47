"""A team's own estimator, by import path: any classifier or regressor with scikit-learn's interface, or a pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from kedge import code
from kedge.bundle.committee import Committee
from kedge.bundle.estimators.estimator import Rows, Settings
from kedge.bundle.estimators.framed import Framed, frame
from kedge.bundle.estimators.linear import columns
from kedge.bundle.estimators.sklearn import SklearnEstimator
from kedge.code import Package
from kedge.errors import UsageError

GIVEN = (
    "it gets numbers with NaN and texts with None where a value is missing, labels 0, 1, ... of classes: fill and "
    "encode in a pipeline what it cannot take"
)


class Own(SklearnEstimator):
    """What an import path such as ``sklearn.ensemble:ExtraTreesClassifier`` or ``churn.model:build`` names.

    It is a class, a function without needed arguments that makes an estimator, or an estimator that is not fitted. A
    team's own learns from a pandas frame with the features by name, and is served on one. scikit-learn's own stand
    behind the columns of the linear baseline: filled, scaled, a column for each category.

    Args:
        path: ``module:attribute``. Modules other than scikit-learn's run only where the installation allows code.
        package: The one that the policy names by `code`; modules that it does not have are those installed.

    Raises:
        UsageError: there is no such thing, or it is no estimator.
    """

    constrainable = False

    def __init__(self, path: str, package: Package | None = None) -> None:
        self.name = path  # type: ignore[misc]  # of this one estimator
        self._package = package
        self._of_the_library = path.split(".")[0] == "sklearn"

    def parameters(self, task: str) -> frozenset[str]:  # noqa: ARG002
        return frozenset(self._made().get_params())

    def fit(self, settings: Settings, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:  # noqa: ARG002
        from sklearn.pipeline import Pipeline

        estimator = self._made()
        self._refuse_other_task(estimator, settings)
        seeds = {name: settings.seed for name in estimator.get_params() if name.split("__")[-1] == "random_state"}
        estimator.set_params(**seeds, **settings.parameters)
        if self._of_the_library:
            estimator = Pipeline([("columns", columns(settings.signature)), ("model", estimator)])
        weights = {} if rows.weight is None else {_weight_of(estimator, self.name): rows.weight}
        table = rows.matrix if self._of_the_library else frame(settings.signature, rows.matrix)
        try:
            fitted = estimator.fit(table, rows.label, **weights)
        except code.FAULTS as exc:  # its text may hold values of rows; scikit-learn's own gets numbers alone
            plain = self._of_the_library and isinstance(exc, (TypeError, ValueError))
            said = str(exc) if plain else code.fault(exc)
            raise UsageError(f"train.estimators: {self.name} cannot be fitted: {said}; {GIVEN}") from None
        if fitted is None:
            raise UsageError(f"train.estimators: {self.name}: its fit returns nothing; it must return the estimator")
        return fitted if self._of_the_library else Framed(fitted, settings.signature)

    def _refuse_other_task(self, estimator: Any, settings: Settings) -> None:
        from sklearn.base import is_classifier

        if settings.classifies and not (is_classifier(estimator) and hasattr(estimator, "predict_proba")):
            lacks = "ClassifierMixin among its bases" if hasattr(estimator, "predict_proba") else "predict_proba"
            raise UsageError(f"train.estimators: {self.name} has no {lacks}, which task {settings.task} needs")
        if not settings.classifies and is_classifier(estimator):
            raise UsageError(f"train.estimators: {self.name} is a classifier; task regression needs a regressor")

    def merge(self, models: Sequence[Any], shares: Sequence[float]) -> Any:
        """Their probabilities averaged, which every classifier has; of a regression their values."""
        return Committee(list(models), [float(share) for share in shares], hasattr(models[0], "predict_proba"))

    def _made(self) -> Any:
        module, _, attribute = self.name.partition(":")
        if self._package is not None and module.partition(".")[0] in self._package.names:
            named = self._package.attribute(self.name, "train.estimators")
        else:
            if not self._of_the_library:
                code.require_allowed(f"train.estimators: {self.name}")
            named = code.attribute(module, attribute, f"train.estimators: {self.name}")
        from sklearn.base import BaseEstimator, clone

        try:
            made = named() if inspect.isclass(named) or inspect.isfunction(named) else named
            made = clone(made) if isinstance(made, BaseEstimator) else made
        except code.FAULTS as exc:
            raise UsageError(
                f"train.estimators: {self.name} cannot be made: {code.fault(exc)}; it is called without arguments, and "
                "an __init__ keeps what it gets under the same names"
            ) from exc
        if not isinstance(made, BaseEstimator) or not hasattr(made, "fit"):
            raise UsageError(
                f"train.estimators: {self.name} is a {type(made).__name__}; it must be a scikit-learn estimator or "
                "pipeline, or a class or function that makes one: derive a class of your own from ClassifierMixin or "
                "RegressorMixin, and BaseEstimator, of sklearn.base"
            )
        return made


def _weight_of(estimator: Any, path: str) -> str:
    """The name under which an estimator's ``fit`` takes the weights of rows: in a pipeline those of its last step."""
    last, prefix = estimator, ""
    while hasattr(last, "steps"):
        prefix += f"{last.steps[-1][0]}__"
        last = last.steps[-1][1]
    if "sample_weight" not in inspect.signature(last.fit).parameters:
        raise UsageError(
            f"train.estimators: {path} takes no weights of rows; leave train.half_life_seconds and train.class_weight "
            "away"
        )
    return f"{prefix}sample_weight"
