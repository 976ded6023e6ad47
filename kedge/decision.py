"""What is done on a score, and what that costs: at a threshold, by the likeliest class, or by a matrix of costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kedge.measure import Floats, by_block
from kedge.policy import Model


def decide(model: Model, score: Floats) -> Floats:
    """The outcome decided for, by its code, shape (n,); of a number the score itself.

    Of two classes 1 from the threshold on. Of several the likeliest, or, with probabilities p and a matrix of costs C,
    the class j of the least expected cost, sum over k of p_k C_kj; the first of equal ones.

    >>> several = Model(name="m", target="y", task="multiclass", classes=("a", "b", "c"),
    ...     features={"x": {"type": "number"}}, costs={"matrix": [[0, 1, 1], [1, 0, 1], [9, 9, 0]]})
    >>> decide(several, np.array([[0.6, 0.2, 0.2], [0.9, 0.05, 0.05]])).tolist()
    [2.0, 0.0]
    """
    if model.task == "regression":
        return score
    if score.ndim == 1:
        return (score >= model.threshold).astype(np.float64)
    if model.costs.matrix is None:
        return np.asarray(np.argmax(score, axis=1), dtype=np.float64)
    return np.asarray(np.argmin(expected_costs(score, model.costs.matrix), axis=1), dtype=np.float64)


def expected_costs(score: Floats, matrix: tuple[tuple[float, ...], ...]) -> Floats:
    """Expected cost of deciding for each class, shape (n, classes), added up class by class."""
    found = np.zeros_like(score)
    for place, row in enumerate(matrix):  # no product of matrices: a row alone and in a batch must give equal bits
        found += score[:, place, np.newaxis] * np.asarray(row)
    return found


def wrong(model: Model, label: Floats, score: Floats) -> NDArray[np.bool_]:
    """Rows on which the decision is another class than came true."""
    return np.asarray(decide(model, score) != label)


def costs(model: Model, label: Floats, score: Floats) -> Floats:
    """What the decision on each row cost, in the unit of ``model.costs``, shape (n,): nothing where it was right.

    >>> model = Model(name="m", target="y", features={"x": {"type": "number"}}, costs={"false_negative": 20})
    >>> costs(model, np.array([1.0, 0.0, 0.0]), np.array([0.01, 0.6, 0.01])).tolist()
    [20.0, 1.0, 0.0]
    """
    known = matrix(model)
    return by_block(lambda came, said: known[came.astype(np.int64), decide(model, said).astype(np.int64)], label, score)


def matrix(model: Model) -> Floats:
    """Cost of deciding for each outcome where each came true, shape (classes, classes)."""
    if model.task == "binary":
        return np.array([[0.0, model.costs.false_positive], [model.costs.false_negative, 0.0]])
    if model.costs.matrix is not None:
        return np.array(model.costs.matrix)
    return 1 - np.eye(len(model.classes))


def mean_mistake(model: Model) -> float:
    """Mean cost of the mistakes that there are: the unit in which costs are counted as wrong decisions."""
    size = len(model.class_names)
    return float(matrix(model).sum() / (size * (size - 1)))


def dearest_mistake(model: Model) -> float:
    """Cost of the dearest mistake."""
    return float(matrix(model).max())
