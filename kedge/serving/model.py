"""One bundle being served: rows in, scores and decisions out, whatever protocol brought the rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kedge.bundle import Bundle, Matrix, Predictor
from kedge.choice import choose
from kedge.errors import BundleError, DataError, NotExplainable, TransformError
from kedge.serving.rejection import RequestRejected

Row = Mapping[str, Any]


class Scored(NamedTuple):
    """What one request asked and was told; scores and predictions have one entry a row.

    Of several classes a score is the list of all probabilities, and a prediction the place of a class.
    """

    rows: Sequence[Row]
    scores: list[Any]
    predictions: list[float]
    encode_seconds: float
    score_seconds: float


class ServedModel:
    """A loaded bundle in a slot.

    Args:
        bundle: Verified by ``open_bundle``.
        predictor: Its loaded model.
        slot: Which of the two places of a release this is, such as ``blue``.
    """

    def __init__(self, bundle: Bundle, predictor: Predictor, slot: str) -> None:
        self.name = bundle.manifest.name
        self.version = bundle.id
        self.slot = slot
        self.signature = bundle.signature
        self.binary = bundle.manifest.task == "binary"
        self.classes = tuple(str(each) for each in bundle.manifest.classes)
        self._bundle = bundle
        self._threshold = bundle.manifest.threshold
        self._costs = bundle.manifest.costs
        self._predictor = predictor
        self.derived = [name for name in self.signature.model.names if name not in self.signature.names]
        self.quick = predictor.quick and self.signature.model is self.signature  # own feature code takes milliseconds

    def warm_up(self) -> None:
        """Predict the golden rows once, so that the first request finds everything loaded.

        Raises:
            BundleError: a score is not finite: the model must not be served.
        """
        rows = self._bundle.golden_rows()
        for some in (rows, rows[:1]):
            if not np.isfinite(self.score(some).scores).all():
                raise BundleError(f"bundle {self.version}: a golden row's score is not finite; it must not be served")

    def score(self, rows: Sequence[Row]) -> Scored:
        """Score rows of features by name.

        Raises:
            RequestRejected: 400, naming the row and the feature.
        """
        began = time.perf_counter()
        try:
            if len(rows) == 1:
                row = self.signature.encode_row(rows[0])
                encoded = time.perf_counter()
                scores: list[Any] = [self._predictor.score_row(row)]
            else:
                matrix = self.signature.encode_rows(rows)
                encoded = time.perf_counter()
                scores = self._predictor.score(matrix).tolist()
        except (DataError, TransformError) as exc:
            raise _rejection(exc) from None
        return Scored(rows, scores, self.decide(scores), encoded - began, time.perf_counter() - encoded)

    def decide(self, scores: list[Any]) -> list[float]:
        """1 from the threshold on, else 0 (binary), the place of a class (multiclass), or the value itself."""
        if self.classes:
            return [float(choose(each, self._costs)) for each in scores]
        if not self.binary:
            return scores
        threshold = self._threshold
        return [1.0 if score >= threshold else 0.0 for score in scores]

    def explain(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """What each of the model's columns adds to the raw score of each row, and the bias as ``_bias``; of several
        classes by class.

        Raises:
            RequestRejected: 400 for rows at fault, 501 for a model that cannot be explained.
        """
        try:
            matrix: Matrix = self.signature.encode_rows(rows)
            parts = self._predictor.contributions(matrix)
        except (DataError, TransformError, NotExplainable) as exc:
            raise _rejection(exc) from None
        names = (*self.signature.model.names, "_bias")
        if not self.classes:
            return [dict(zip(names, row, strict=True)) for row in parts.tolist()]
        return [
            {name: dict(zip(names, of_class, strict=True)) for name, of_class in zip(self.classes, row, strict=True)}
            for row in parts.tolist()
        ]


def _rejection(fault: DataError | TransformError | NotExplainable) -> RequestRejected:
    """What the client is told: its rows are at fault, the model's code is, or what it asks for is not to be had."""
    match fault:
        case TransformError():
            return RequestRejected(500, str(fault))
        case NotExplainable():
            return RequestRejected(501, f"this model cannot be explained: {fault}")
        case _:
            return RequestRejected(400, str(fault))
