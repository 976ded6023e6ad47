"""Metrics by name: what each is, which way is better, and how sure a figure, or a difference of two, is.

A mean of rows has a standard error of its own; F1 and AUC are no means, so their errors come from drawing blocks of
neighbouring rows anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge import code, decision, student_t
from kedge.errors import UsageError
from kedge.measure import Floats, best_constant, bounded_losses, losses, squared_errors
from kedge.policy import Metric as Limits
from kedge.policy import Model
from kedge.policy.metrics import RANGES

DRAWS = 300
"""Drawings of blocks: the standard error they give is right to 4 %."""
MAX_BLOCKS = 30
"""More blocks see shorter dependence only, as in the test of a mean."""
LEVEL = 0.95
Formula = Callable[[Model, float, Floats, Floats], float | None]
"""Of model, ``at``, labels and scores of the same rows, shape (n,); None where it is not defined."""


@dataclass(frozen=True)
class Metric:
    """One metric of the registry."""

    task: str
    higher_is_better: bool
    formula: Formula

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.higher_is_better else -1


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric on some rows, with its 95 % interval."""

    name: str
    value: float | None
    """None where it is not defined on these rows."""
    low: float | None = None
    high: float | None = None
    error: float | None = None
    """Standard error."""
    blocks: int = 0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better one of two models is on the same rows, by a metric; above 0 the first is better."""

    value: float
    error: float
    """Standard error, by drawing the same blocks of rows for both."""
    blocks: int

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided, 95 %."""
        reach = student_t.quantile((1 + LEVEL) / 2, self.blocks - 1) * self.error
        return self.value - reach, self.value + reach

    def p_better(self, than: float = 0.0) -> float:
        """One-sided: chance of such a difference, or a larger one, if the true one were at most ``than``."""
        above = self.value - than
        if self.error == 0:
            return 0.0 if above > 0 else 1.0
        return student_t.upper_tail(above / self.error, self.blocks - 1)

    def p_worse(self, than: float = 0.0) -> float:
        """One-sided: chance of such a difference, or a smaller one, if the true one were at least ``than``.

        >>> same = Difference(value=0.0, error=0.0, blocks=30)
        >>> same.p_worse(), same.p_better()
        (1.0, 1.0)
        """
        return Difference(value=-self.value, error=self.error, blocks=self.blocks).p_better(-than)


def figure(limits: Limits, model: Model, label: Floats, score: Floats) -> Figure:
    """A metric on rows in time order, with its interval by block bootstrap.

    The rows are cut into B = min(30, floor(sqrt(n))) blocks of nearly equal length; B of them are drawn with
    replacement 300 times, seeded, and the standard deviation of the metric over these draws is its standard error;
    the interval is that of Student's t of B - 1 degrees of freedom around the figure, held within the metric's range.

    Args:
        limits: Name and ``at`` of a metric of the policy.
        model: Threshold and costs.
        label, score: Shape (n,), in time order.

    References:
        H. Künsch (1989), The jackknife and the bootstrap for general stationary observations, Annals of Statistics 17.

    >>> model = Model(name="m", target="y", features={"x": {"type": "number"}})
    >>> label, score = np.array([0.0, 1.0] * 50), np.array([0.2, 0.8, 0.6, 0.7] * 25)
    >>> found = figure(Limits(name="precision"), model, label, score)
    >>> round(found.value, 3), found.low < found.value < found.high
    (0.667, True)
    """
    metric = named(limits.name)
    value = metric.formula(model, limits.at, label, score)
    if value is None:
        return Figure(name=limits.label, value=None)
    drawn = _drawn(lambda rows: metric.formula(model, limits.at, label[rows], score[rows]), len(label))
    blocks = _blocks(len(label))
    reach = student_t.quantile((1 + LEVEL) / 2, max(1, blocks - 1)) * drawn
    low, high = RANGES.get(limits.name, (-math.inf, math.inf))
    low, high = max(low, value - reach), min(high, value + reach)
    return Figure(name=limits.label, value=value, low=low, high=high, error=drawn, blocks=blocks)


def difference(
    limits: Limits, model: Model, label: Floats, first: Floats, second: Floats, draws: int = DRAWS
) -> Difference | None:
    """How much better the first scores are than the second on the same rows; None where either is not defined."""
    metric = named(limits.name)

    def better(rows: Any) -> float | None:
        ours, theirs = (metric.formula(model, limits.at, label[rows], score[rows]) for score in (first, second))
        return None if ours is None or theirs is None else metric.sign * (ours - theirs)

    return compared(better, len(label), draws)


def compared(better: Callable[[Any], float | None], rows: int, draws: int = DRAWS) -> Difference | None:
    """A difference by what it is on some of the rows; None where it is not defined on all of them.

    Args:
        better: Of places of rows.
        rows: How many there are, in time order.
        draws: Of blocks of them, for the standard error.
    """
    value = better(slice(None))
    if value is None:
        return None
    return Difference(value=value, error=_drawn(better, rows, draws), blocks=max(2, _blocks(rows)))


def constant_for(limits: Limits, model: Model, label: Floats) -> Floats:
    """The one score that is best for rows by a metric: their median for the absolute error, a quantile for the pinball
    loss, else the mean, of classes the share of each."""
    objective = {"mae": "absolute", "pinball": f"quantile({limits.at:g})"}.get(limits.name)
    if objective is None:
        objective = "squared" if model.task == "regression" else model.task
    return best_constant(objective, label, len(model.classes))


def named(name: str) -> Metric:
    """The metric of a name; a team's own by import path, where the installation allows code.

    Its function takes labels and scores, both shape (n,), and returns a number; ``higher_is_better`` on it says which
    way is better, and without it more is.

    Raises:
        CodeNotAllowed: a path, where code is not allowed.
        UsageError: the path leads to nothing that can be called.
    """
    if name in METRICS:
        return METRICS[name]
    code.require_allowed(f"metrics: {name}")
    module, _, attribute = name.partition(":")
    own = code.attribute(module, attribute, f"metrics: {name}")
    if not callable(own):
        raise UsageError(f"metrics: {name} is a {type(own).__name__}; it must be a function of labels and scores")
    better = bool(getattr(own, "higher_is_better", True))
    return Metric("any", better, lambda _model, _at, label, score: _value(name, own, label, score))


def _value(name: str, own: Callable[[Floats, Floats], Any], label: Floats, score: Floats) -> float | None:
    """What a team's function says; None: not defined, as NaN."""
    try:
        number = float(own(label, score))
    except code.FAULTS as exc:  # its text may hold values of rows
        raise UsageError(
            f"metrics: {name} raises {code.fault(exc)}, or returns no number: it gets labels and scores, and returns "
            "one number, NaN where it is not defined"
        ) from exc
    return number if math.isfinite(number) else None


def _blocks(rows: int) -> int:
    return min(MAX_BLOCKS, math.isqrt(rows))


def _drawn(value: Callable[[Any], float | None], rows: int, draws: int = DRAWS) -> float:
    """Standard deviation of a value over draws of blocks; draws on which it is not defined are left out."""
    count = _blocks(rows)
    parts = np.array_split(np.arange(rows), max(1, count))
    random = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        drawn = np.concatenate([parts[place] for place in random.integers(0, len(parts), len(parts))])
        each = value(drawn)
        if each is not None:
            found.append(each)
    return float(np.std(found, ddof=1)) if len(found) > 1 else 0.0


def _counts(model: Model, label: Floats, score: Floats) -> tuple[float, float, float, float]:
    """True and false positives, false and true negatives at the policy's threshold."""
    said, positive = score >= model.threshold, label > 0.5
    caught = float(np.sum(said & positive))
    alarms, positives = float(np.sum(said)), float(np.sum(positive))
    return caught, alarms - caught, positives - caught, len(label) - alarms - positives + caught


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _precision(model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    caught, false, _, _ = _counts(model, label, score)
    return _ratio(caught, caught + false)


def _recall(model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    caught, _, missed, _ = _counts(model, label, score)
    return _ratio(caught, caught + missed)


def _f1(model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    caught, false, missed, _ = _counts(model, label, score)
    return _ratio(2 * caught, 2 * caught + false + missed)


def _macro_f1(model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    caught, false, missed, right = _counts(model, label, score)
    both = _ratio(2 * caught, 2 * caught + false + missed), _ratio(2 * right, 2 * right + false + missed)
    return None if both[0] is None or both[1] is None else (both[0] + both[1]) / 2


def _balanced_accuracy(model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    caught, false, missed, right = _counts(model, label, score)
    both = _ratio(caught, caught + missed), _ratio(right, right + false)
    return None if both[0] is None or both[1] is None else (both[0] + both[1]) / 2


def _auc(_model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    return area(label > 0.5, score)


def area(positive: NDArray[np.bool_], score: Floats) -> float | None:
    """Chance that a positive row scores above a negative one, ties counting half; None where one of both lacks."""
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return None
    from scipy.stats import rankdata  # heavy, and a check without this metric does without

    return float((rankdata(score)[positive].sum() - count * (count + 1) / 2) / (count * others))


def _precision_recall(label: Floats, score: Floats) -> tuple[Floats, Floats] | None:
    """Precision and recall where all rows from each distinct score on are called positive, from the highest down."""
    positives = float(label.sum())
    if not positives:
        return None
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    caught = np.cumsum(label[order])[ends]
    return caught / (ends + 1), caught / positives


def _pr_auc(_model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    """Average precision: the sum of precisions, each weighed by the recall that its score adds."""
    curve = _precision_recall(label, score)
    return None if curve is None else float(np.sum(np.diff(curve[1], prepend=0.0) * curve[0]))


def _recall_at_precision(_model: Model, at: float, label: Floats, score: Floats) -> float | None:
    curve = _precision_recall(label, score)
    return None if curve is None else float(np.max(curve[1], where=curve[0] >= at, initial=0.0))


def _cost(model: Model, _at: float, label: Floats, score: Floats) -> float:
    return float(decision.costs(model, label, score).mean())


def _accuracy(model: Model, _at: float, label: Floats, score: Floats) -> float:
    return float(1 - decision.wrong(model, label, score).mean())


def confusion(model: Model, label: Floats, score: Floats) -> Floats:
    """Rows by the class that came true and the class decided for, shape (classes, classes)."""
    size = len(model.class_names)
    pairs = label.astype(np.int64) * size + decision.decide(model, score).astype(np.int64)
    return np.bincount(pairs, minlength=size * size).reshape(size, size).astype(np.float64)


def by_class(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class by :func:`confusion`, shape (classes,): NaN of a class that neither came
    true nor was decided for; 0 where no row was decided right."""
    right, said, true = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    there = np.where(said + true > 0, 1.0, np.nan)
    return (
        there * right / np.maximum(said, 1),
        there * right / np.maximum(true, 1),
        there * 2 * right / np.maximum(said + true, 1),
    )


def _macro(part: int) -> Formula:
    """Mean of a figure over the classes that came true or were decided for."""
    return lambda model, _at, label, score: float(np.nanmean(by_class(confusion(model, label, score))[part]))


def _recall_of_each(model: Model, _at: float, label: Floats, score: Floats) -> float:
    """Mean recall of the classes that came true."""
    counts = confusion(model, label, score)
    return float(by_class(counts)[1][counts.sum(axis=1) > 0].mean())


def _weighted_f1(model: Model, _at: float, label: Floats, score: Floats) -> float:
    counts = confusion(model, label, score)
    rows = counts.sum(axis=1)
    return float(np.nansum(rows * by_class(counts)[2]) / rows.sum())


def _mcc(model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    """Matthews' correlation of decisions and outcomes, as J. Gorodkin (2004) has it for several classes."""
    counts = confusion(model, label, score)
    said, true, rows = counts.sum(axis=0), counts.sum(axis=1), counts.sum()
    scale = float((rows**2 - np.sum(said**2)) * (rows**2 - np.sum(true**2)))
    return float((np.trace(counts) * rows - np.sum(said * true)) / math.sqrt(scale)) if scale > 0 else None


def _auc_of_classes(_model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    """Mean over the classes of the AUC of each against all others; None where one is absent, or alone."""
    found = [area(label == place, score[:, place]) for place in range(score.shape[1])]
    known = [each for each in found if each is not None]
    return sum(known) / len(known) if len(known) == len(found) else None


def _mape(_model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    return None if (label == 0).any() else float(np.mean(np.abs((label - score) / label)))


def _r2(_model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    spread = float(np.square(label - label.mean()).sum())
    return 1 - float(squared_errors(label, score).sum()) / spread if spread else None


def _pinball(_model: Model, at: float, label: Floats, score: Floats) -> float:
    over = label - score
    return float(np.mean(np.maximum(at * over, (at - 1) * over)))


def _poisson(_model: Model, _at: float, label: Floats, score: Floats) -> float | None:
    """Mean Poisson deviance; not defined where a label is below 0 or a score not above it."""
    if (label < 0).any() or (score <= 0).any():
        return None
    logs = label * np.log(np.where(label > 0, label, 1.0) / score)
    return float(2 * np.mean(logs - label + score))


def _either(two: Formula, several: Formula) -> Formula:
    """One for scores of one class, shape (n,), another for those of several, shape (n, classes)."""
    return lambda model, at, label, score: (several if score.ndim == 2 else two)(model, at, label, score)


METRICS: Mapping[str, Metric] = {
    "log_loss": Metric("binary", False, lambda m, _a, y, s: float(losses(m.objective, y, s).mean())),
    "brier": Metric("binary", False, lambda m, _a, y, s: float(bounded_losses(m.objective, y, s).mean())),
    "accuracy": Metric("binary", True, _accuracy),
    "balanced_accuracy": Metric("binary", True, _either(_balanced_accuracy, _recall_of_each)),
    "precision": Metric("binary", True, _precision),
    "recall": Metric("binary", True, _recall),
    "f1": Metric("binary", True, _f1),
    "f1_macro": Metric("binary", True, _either(_macro_f1, _macro(2))),
    "f1_weighted": Metric("binary", True, _weighted_f1),
    "auc": Metric("binary", True, _auc),
    "pr_auc": Metric("binary", True, _pr_auc),
    "recall_at_precision": Metric("binary", True, _recall_at_precision),
    "mcc": Metric("binary", True, _mcc),
    "precision_macro": Metric("multiclass", True, _macro(0)),
    "recall_macro": Metric("multiclass", True, _macro(1)),
    "auc_macro": Metric("multiclass", True, _auc_of_classes),
    "cost": Metric("binary", False, _cost),
    "mse": Metric("regression", False, lambda _m, _a, y, s: float(squared_errors(y, s).mean())),
    "rmse": Metric("regression", False, lambda _m, _a, y, s: math.sqrt(float(squared_errors(y, s).mean()))),
    "mae": Metric("regression", False, lambda _m, _a, y, s: float(np.abs(y - s).mean())),
    "mape": Metric("regression", False, _mape),
    "r2": Metric("regression", True, _r2),
    "pinball": Metric("regression", False, _pinball),
    "poisson_deviance": Metric("regression", False, _poisson),
}
