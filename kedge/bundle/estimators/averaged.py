"""A forest as what it is: trees whose answers are averaged.

scikit-learn starts a job of its own for every tree, which for one row costs fifty times the walk through it. Here the
trees are asked directly and added up in its order, so that the result has the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kedge.bundle.committee import Committee
from kedge.bundle.predictor import first_of
from kedge.bundle.signature import Matrix
from kedge.choice import Score
from kedge.errors import NotExplainable


@dataclass(frozen=True)
class Averaged:
    """Forests, each with its share."""

    forests: Sequence[Sequence[Any]]
    """Of each its trees, as scikit-learn's compiled code has them."""
    shares: Sequence[float]
    column: int | slice
    """Of a tree's answer: the positive class' (binary), all (multiclass), or the value."""

    quick: ClassVar[bool] = False

    def score(self, matrix: Matrix) -> NDArray[np.float64]:
        """Probabilities or values of encoded rows."""
        rows = np.ascontiguousarray(matrix, np.float32)
        means = [self._mean(forest, rows) for forest in self.forests]
        if len(means) == 1:
            return means[0]
        return np.asarray(np.average(means, axis=0, weights=self.shares) * sum(self.shares), dtype=np.float64)

    def score_row(self, row: bytes) -> Score:
        """The score of one encoded row; the same bits as :meth:`score`."""
        return first_of(self.score(np.frombuffer(row, np.float32)[np.newaxis]))

    def contributions(self, matrix: Matrix) -> NDArray[np.float64]:  # noqa: ARG002
        raise NotExplainable("contributions of a random forest")

    def _mean(self, forest: Sequence[Any], rows: Matrix) -> NDArray[np.float64]:
        total: Any = 0.0
        for tree in forest:
            total += tree.predict(rows).reshape(len(rows), -1)[:, self.column]
        return np.asarray(total / len(forest), dtype=np.float64)


def find(model: Any, task: str) -> Averaged | None:
    """The trees of random forests, one or a committee of them; None if it is something else."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    members, shares = (model.members, model.weights) if isinstance(model, Committee) else ([model], [1.0])
    kind = RandomForestRegressor if task == "regression" else RandomForestClassifier
    if not all(type(member) is kind and member.n_outputs_ == 1 for member in members):
        return None
    if task == "binary" and not all(len(member.classes_) == 2 for member in members):
        return None
    forests = [[tree.tree_ for tree in member.estimators_] for member in members]
    columns: dict[str, int | slice] = {"binary": 1, "multiclass": slice(None), "regression": 0}
    return Averaged(forests, [float(share) for share in shares], columns[task])
