"""The estimators, each in a file of its own, and which of them a model is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kedge.bundle.committee import Committee
from kedge.bundle.estimators.catboost import CatBoost
from kedge.bundle.estimators.estimator import Estimator, Rows, Settings, weights
from kedge.bundle.estimators.forest import Forest
from kedge.bundle.estimators.histogram import Histogram
from kedge.bundle.estimators.lightgbm import LightGBM
from kedge.bundle.estimators.linear import Linear
from kedge.bundle.estimators.own import Own
from kedge.bundle.estimators.xgboost import XGBoost
from kedge.code import Package
from kedge.errors import BundleError

__all__ = ["ESTIMATORS", "FORMATS", "Estimator", "Rows", "Settings", "merge", "named", "of", "weights"]

ESTIMATORS: Mapping[str, Estimator] = {
    each.name: each for each in (XGBoost(), LightGBM(), CatBoost(), Forest(), Histogram(), Linear())
}
FORMATS: Mapping[str, Estimator] = {each.format: each for each in ESTIMATORS.values()}
"""By format of the model files one that reads and writes them."""


def named(name: str, package: Package | None = None) -> Estimator:
    """The estimator that ``train.estimators`` names so; an import path is a team's own, in its package or installed."""
    return Own(name, package) if ":" in name else ESTIMATORS[name]


def of(model: Any) -> Estimator:
    """The one that saves a model and predicts with it.

    Raises:
        BundleError: none does.
    """
    first = model.members[0] if isinstance(model, Committee) else model
    found = next((each for each in FORMATS.values() if each.holds(first)), None)
    if found is None:
        raise BundleError(
            f"a model of type {type(first).__name__} cannot be kept; give one of XGBoost, LightGBM, CatBoost or "
            "scikit-learn"
        )
    return found


def merge(members: Sequence[Any], shares: Sequence[float], by: Estimator | None = None) -> Any:
    """One model of several of one kind and one signature, see :meth:`Estimator.merge`.

    Args:
        members: At least one.
        shares: One for each.
        by: Their estimator; default: that of the first.

    Returns:
        What :func:`kedge.bundle.write` keeps: the only member, or what the estimator makes of them.

    Raises:
        BundleError: models that cannot be added up, such as boosters of several objectives.
    """
    if len(members) == 1 and shares[0] == 1:
        return members[0]
    return (by or of(members[0])).merge(members, shares)
