"""A model that was loaded: a matrix in, scores out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kedge.bundle import native, trees
from kedge.bundle.signature import Matrix
from kedge.choice import Score
from kedge.errors import NotExplainable

Scores = NDArray[np.float64]
MAX_ROWS = 4096  # scored on one thread; more are worth XGBoost's threads


class Predictor(Protocol):
    """Scores encoded rows; see :meth:`kedge.bundle.Signature.encode`. Safe to use from several threads."""

    @property
    def quick(self) -> bool:
        """Whether one row takes microseconds, so that an event loop need not leave it to a thread."""

    def score(self, matrix: Matrix) -> Scores:
        """Probability of the positive label (binary) or the value (regression) of each row; shape (n,). Of several
        classes the probability of each; shape (n, classes)."""

    def score_row(self, row: bytes) -> Score:
        """The same, to the last bit, of one row from ``Signature.encode_row``."""

    def contributions(self, matrix: Matrix) -> Scores:
        """What each feature adds to the score before the link (log-odds if binary), the bias in the last column; the
        sum of a row is the raw score; shape (n, k + 1), of several classes (n, classes, k + 1).

        Raises:
            NotExplainable: the model cannot say.
        """


class TreesPredictor:
    """Trees saved by XGBoost: the same bits as ``xgboost.Booster.predict``, for one row and for many."""

    def __init__(self, booster: native.Booster, feature_types: list[str]) -> None:
        self._booster = booster
        self._feature_types = feature_types
        self._forest = trees.build(booster, feature_types)
        self.quick = self._forest is not None
        self.score_row: Callable[[bytes], Score] = self._forest.score_row if self._forest else self._score_row

    def score(self, matrix: Matrix) -> Scores:
        forest = self._forest if len(matrix) <= MAX_ROWS else None
        return (forest.score if forest else self._booster.predict)(matrix).astype(np.float64)

    def contributions(self, matrix: Matrix) -> Scores:
        return self._booster.contributions(matrix, self._feature_types).astype(np.float64)

    def _score_row(self, row: bytes) -> Score:
        return first_of(self._booster.predict(_matrix(row)))


class PipelinePredictor:
    """A scikit-learn estimator on encoded rows, for what is not additive.

    Few rows are scored on one thread: others that wait for their share of one row cost more than they save.
    """

    quick = False

    def __init__(self, estimator: Any, task: str, threads: int) -> None:
        from threadpoolctl import ThreadpoolController

        self._estimator = estimator
        self._task = task
        self._threads = threads
        self._pools = ThreadpoolController()

    def score(self, matrix: Matrix) -> Scores:
        with self._pools.limit(limits=1 if len(matrix) <= MAX_ROWS else self._threads):
            return predicted(self._estimator, self._task, matrix)

    def score_row(self, row: bytes) -> Score:
        return first_of(self.score(_matrix(row)))

    def contributions(self, matrix: Matrix) -> Scores:  # noqa: ARG002
        raise NotExplainable(f"contributions of a {type(self._estimator).__name__} that is not linear")


def predicted(estimator: Any, task: str, matrix: Matrix) -> Scores:
    """Scores by a scikit-learn estimator: probabilities of class 1, of several classes all of them, or values."""
    if task == "regression":
        return np.asarray(estimator.predict(matrix), dtype=np.float64)
    chances = np.asarray(estimator.predict_proba(matrix), dtype=np.float64)
    return chances[:, 1] if task == "binary" else chances


def softmax(raw: Scores) -> Scores:
    """Probabilities of raw scores, shape (n, classes).

    >>> softmax(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    odds = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)


def first_of(scores: NDArray[Any]) -> Score:
    """The score of the first row."""
    found: Score = scores[0].tolist()
    return found


def _matrix(row: bytes) -> Matrix:
    return np.frombuffer(row, np.float32)[np.newaxis]
