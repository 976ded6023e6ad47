"""A model that was loaded: a matrix in, scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from components.bundle import native
from components.bundle.manifest import Manifest
from components.bundle.signature import Matrix
from components.errors import BundleError

Scores = NDArray[np.float64]
TRUSTED = {"numpy.dtype"}  # beyond what skops trusts itself; the imputers keep one


class Predictor(Protocol):
    """Scores encoded rows; see :meth:`components.bundle.Signature.encode`."""

    def score(self, matrix: Matrix) -> Scores:
        """Probability of the positive label (binary) or the value (regression) of each row; shape (n,)."""

    def contributions(self, matrix: Matrix) -> Scores:
        """What each feature adds to the score before the link (log-odds if binary), the bias in the last column; the
        sum of a row is the raw score; shape (n, k + 1)."""


class XGBoostPredictor:
    """Trees saved by XGBoost, evaluated by its own library: the same bits as ``xgboost.Booster.predict``."""

    def __init__(self, booster: native.Booster, feature_types: list[str]) -> None:
        self._booster = booster
        self._feature_types = feature_types

    def score(self, matrix: Matrix) -> Scores:
        return self._booster.predict(matrix).astype(np.float64)

    def contributions(self, matrix: Matrix) -> Scores:
        return self._booster.contributions(matrix, self._feature_types).astype(np.float64)


class SklearnPredictor:
    """A scikit-learn estimator on encoded rows."""

    def __init__(self, estimator: Any, binary: bool) -> None:
        self._estimator = estimator
        self._binary = binary

    def score(self, matrix: Matrix) -> Scores:
        if self._binary:
            return np.asarray(self._estimator.predict_proba(matrix)[:, 1], dtype=np.float64)
        return np.asarray(self._estimator.predict(matrix), dtype=np.float64)

    def contributions(self, matrix: Matrix) -> Scores:
        raise NotImplementedError("contributions of a scikit-learn model")


def load_xgboost(file: Path, manifest: Manifest, threads: int) -> Predictor:
    """Load ``model.ubj``."""
    booster = native.Booster(file, threads)
    if booster.features != len(manifest.signature.inputs):
        raise BundleError(
            f"{file}: the model takes {booster.features} features, its signature has {len(manifest.signature.inputs)}"
        )
    return XGBoostPredictor(booster, manifest.signature.feature_types)


def load_sklearn(file: Path, manifest: Manifest, threads: int) -> Predictor:  # noqa: ARG001
    """Load ``model.skops``: a format that runs no code; types beyond scikit-learn's and numpy's are refused."""
    import skops.io

    try:
        unknown = set(skops.io.get_untrusted_types(file=file)) - TRUSTED
        if unknown:
            raise BundleError(f"{file}: holds types that are not trusted: {', '.join(sorted(unknown))}")
        return SklearnPredictor(skops.io.load(file, trusted=sorted(TRUSTED)), manifest.task == "binary")
    except BundleError:
        raise
    except Exception as exc:  # whatever a damaged archive raises
        raise BundleError(f"{file}: skops cannot read it: {exc}") from exc
