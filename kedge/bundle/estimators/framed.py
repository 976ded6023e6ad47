"""A model that takes a pandas frame, asked with a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge.bundle.signature import Matrix, Signature


@dataclass(frozen=True)
class Framed:
    """An estimator that is fitted on, and asked with, a pandas frame of the features by name."""

    estimator: Any
    signature: Signature

    def predict_proba(self, matrix: Matrix) -> NDArray[np.float64]:
        """Probabilities of the classes, shape (n, classes)."""
        return np.asarray(self.estimator.predict_proba(frame(self.signature, matrix)), dtype=np.float64)

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """Values, shape (n,)."""
        return np.asarray(self.estimator.predict(frame(self.signature, matrix)), dtype=np.float64)


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
