"""A model that takes a pandas frame, asked with a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kedge import code
from kedge.bundle.signature import Matrix, Signature
from kedge.errors import TransformError


@dataclass(frozen=True)
class Framed:
    """An estimator that is fitted on, and asked with, a pandas frame of the features by name."""

    estimator: Any
    signature: Signature

    def predict_proba(self, matrix: Matrix) -> NDArray[np.float64]:
        """Probabilities of the classes, shape (n, classes).

        Raises:
            TransformError: the estimator raises, or gives something else.
        """
        chances = self._asked("predict_proba", matrix)
        known = getattr(self.estimator, "classes_", ())
        if chances.ndim != 2 or (len(known) and chances.shape[1] != len(known)):
            self._refuse(f"an array of shape {chances.shape}", "one probability of each class")
        if ((chances < 0) | (chances > 1)).any():
            self._refuse("numbers below 0 or above 1", "probabilities")
        return chances

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """Values, shape (n,).

        Raises:
            TransformError: the estimator raises, or gives something else.
        """
        values = self._asked("predict", matrix)
        if values.size != len(matrix):
            self._refuse(f"an array of shape {values.shape}", "one value a row")
        return values.reshape(len(matrix))

    def _asked(self, method: str, matrix: Matrix) -> NDArray[np.float64]:
        try:
            given = getattr(self.estimator, method)(frame(self.signature, matrix))
            said = np.asarray(given, dtype=np.float64)
        except code.FAULTS as exc:  # its text may hold values of rows
            raise TransformError(
                f"train.estimators: {method} of {type(self.estimator).__name__} raises {code.fault(exc)}, or gives no "
                "numbers; it must take every row that the policy allows, with missing values and texts never seen"
            ) from None
        if len(said) != len(matrix):
            self._refuse(f"{len(said):,} rows for {len(matrix):,}", "one for each")
        if not np.isfinite(said).all():
            self._refuse("NaN or an infinite number", "a finite one")
        return said

    def _refuse(self, given: str, wanted: str) -> NoReturn:
        raise TransformError(f"train.estimators: {type(self.estimator).__name__} gives {given}; it must give {wanted}")


def frame(signature: Signature, matrix: Matrix) -> Any:
    """The pandas frame of a matrix: 64-bit numbers, NaN where missing; categories as texts, None where missing.

    >>> from kedge.bundle import Input
    >>> signature = Signature((Input(name="amount", type="number"),
    ...                        Input(name="country", type="category", categories=("AT", "DE"))))
    >>> frame(signature, np.array([[12, 1], [np.nan, np.nan]], np.float32)).values.tolist()
    [[12.0, 'DE'], [nan, None]]
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    for place, each in enumerate(signature.inputs):
        values = matrix[:, place].astype(np.float64)
        if each.type == "category":
            texts = np.array([*each.categories, None], dtype=object)
            values = texts[np.where(np.isnan(values), len(texts) - 1, values).astype(np.int64)]
        columns[each.name] = values
    return pd.DataFrame(columns)
