"""A linear model as what it is: one number a feature, added up.

A scikit-learn pipeline that fills, scales and spreads columns before a linear model takes five milliseconds for one
row. Whatever its steps are, its raw score is a sum of one term a feature: a slope times the value, or an entry a
category, or the entry of a missing value. The terms are read off by asking the pipeline, in 64 bits, about rows that
differ from an empty one in one feature; random rows then show whether the model is additive at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kedge.bundle.signature import Input, Matrix

Raw = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Link = Callable[[float], float]
PROBES = 200
TOLERANCE = 1e-7  # of the raw score's scale; what is not additive misses it by far


@dataclass(frozen=True)
class Additive:
    """The terms of an additive model, against a row whose values are all missing."""

    bias: float
    """Raw score of the row whose values are all missing."""
    slopes: tuple[float, ...]
    at_zero: tuple[float, ...]
    """Numbers add ``at_zero + slope * value``."""
    entries: tuple[tuple[float, ...], ...]
    """Categories add the entry of their code; empty for numbers."""
    link: Link = float
    """From the raw score to the score: nothing, the logistic function or the exponential."""

    quick: ClassVar[bool] = True

    def score_row(self, row: bytes) -> float:
        """The score of one encoded row; the same bits as :meth:`score`."""
        raw = self.bias
        for value, slope, zero, entries in zip(
            memoryview(row).cast("f"), self.slopes, self.at_zero, self.entries, strict=True
        ):
            if value == value:
                raw += entries[int(value)] if entries else zero + slope * value
        return self.link(raw)

    def score(self, matrix: Matrix) -> NDArray[np.float64]:
        """Probabilities (binary) or values of encoded rows."""
        raw = np.full(len(matrix), self.bias)
        for place in range(len(self.slopes)):  # one by one: the order of a sum decides its last bit
            raw += self._term(matrix, place)
        return raw if self.link is float else np.array([self.link(value) for value in raw.tolist()])

    def contributions(self, matrix: Matrix) -> NDArray[np.float64]:
        """The terms of each row, the bias last."""
        bias = np.full(len(matrix), self.bias)
        return np.column_stack([*(self._term(matrix, place) for place in range(len(self.slopes))), bias])

    def _term(self, matrix: Matrix, place: int) -> NDArray[np.float64]:
        column = matrix[:, place].astype(np.float64)
        known = ~np.isnan(column)
        if self.entries[place]:
            codes = np.where(known, column, 0).astype(np.int64)
            return np.where(known, np.asarray(self.entries[place])[codes], 0.0)
        return np.where(known, self.at_zero[place] + self.slopes[place] * column, 0.0)


@dataclass(frozen=True)
class AdditiveClasses:
    """An additive model for each class, whose raw scores become probabilities together."""

    classes: Sequence[Additive]

    quick: ClassVar[bool] = True

    def score_row(self, row: bytes) -> list[float]:
        """The probabilities of one encoded row; the same bits as :meth:`score`."""
        return _softmax([each.score_row(row) for each in self.classes])

    def score(self, matrix: Matrix) -> NDArray[np.float64]:
        """Probabilities of encoded rows, shape (n, classes)."""
        raw = np.column_stack([each.score(matrix) for each in self.classes])
        return np.array([_softmax(row) for row in raw.tolist()]).reshape(raw.shape)

    def contributions(self, matrix: Matrix) -> NDArray[np.float64]:
        """The terms of each row by class, the bias last."""
        return np.stack([each.contributions(matrix) for each in self.classes], axis=1)


def find(model: Any, inputs: Sequence[Input], objective: str) -> Additive | AdditiveClasses | None:
    """The terms of a scikit-learn model; None if it is not additive."""
    with np.errstate(over="ignore"):  # the probes go far beyond what a model of counts expects
        return _asked(model, inputs, objective)


def _asked(model: Any, inputs: Sequence[Input], objective: str) -> Additive | AdditiveClasses | None:
    if objective == "multiclass":
        return _of_classes(model, inputs)
    if objective == "binary":
        raw = getattr(model, "decision_function", None)
        return _found(raw, inputs, _sigmoid) if raw is not None else None
    if objective == "poisson" and hasattr(model, "steps") and hasattr(model[-1], "coef_"):
        last = model[-1]  # its prediction is the exponential of this
        return _found(lambda rows: model[:-1].transform(rows) @ last.coef_ + last.intercept_, inputs, math.exp)
    return _found(model.predict, inputs, float)


def _of_classes(model: Any, inputs: Sequence[Input]) -> AdditiveClasses | None:
    raw = getattr(model, "decision_function", None)
    if raw is None:
        return None
    found = []
    for place in range(len(model.classes_) if hasattr(model, "classes_") else _width(raw, inputs)):
        each = _found(partial(_column, raw, place), inputs, float)
        if each is None:
            return None
        found.append(each)
    return AdditiveClasses(found)


def _column(raw: Raw, place: int, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return raw(rows)[:, place]


def _width(raw: Raw, inputs: Sequence[Input]) -> int:
    return int(raw(np.zeros((1, len(inputs)))).shape[1])


def _found(raw: Raw, inputs: Sequence[Input], link: Link) -> Additive | None:
    """The terms of a model whose raw scores (log-odds, or values) are ``raw``; None if it is not additive."""
    try:
        found = _terms(raw, inputs, link)
        probes = _probes(inputs)
        wanted = raw(probes)
    except ValueError:  # a model that takes no missing values
        return None
    seen = found.contributions(probes).sum(axis=1)  # type: ignore[arg-type]
    if not np.isfinite(wanted).all():  # as of a committee of models of counts, whose exponential the probes overflow
        return None
    near = np.allclose(seen, wanted, rtol=TOLERANCE, atol=TOLERANCE * max(1.0, float(np.abs(wanted).max())))
    return found if near else None


def _terms(raw: Raw, inputs: Sequence[Input], link: Link) -> Additive:
    empty = np.full((1, len(inputs)), np.nan)
    bias = float(raw(empty)[0])
    slopes, at_zero, entries = [], [], []
    for place, each in enumerate(inputs):
        values = [float(code) for code in range(len(each.categories))] or [0.0, 1.0]
        rows = np.repeat(empty, len(values), axis=0)
        rows[:, place] = values
        terms = (raw(rows) - bias).tolist()
        slopes.append(0.0 if each.categories else terms[1] - terms[0])
        at_zero.append(0.0 if each.categories else terms[0])
        entries.append(tuple(terms) if each.categories else ())
    return Additive(bias, tuple(slopes), tuple(at_zero), tuple(entries), link)


def _probes(inputs: Sequence[Input]) -> NDArray[np.float64]:
    random = np.random.default_rng(0)
    columns = []
    for each in inputs:
        if each.categories:
            drawn = random.integers(0, len(each.categories), PROBES).astype(float)
        else:
            drawn = random.normal(size=PROBES) * 10.0 ** random.integers(-1, 4, PROBES)
        columns.append(np.where(random.random(PROBES) < 0.2, np.nan, drawn))
    return np.column_stack(columns)


def _softmax(raw: Sequence[float]) -> list[float]:
    largest = max(raw)
    odds = [math.exp(value - largest) for value in raw]
    total = sum(odds)
    return [each / total for each in odds]


def _sigmoid(raw: float) -> float:
    if raw >= 0:
        return 1 / (1 + math.exp(-raw))
    odds = math.exp(max(raw, -700.0))
    return odds / (1 + odds)
