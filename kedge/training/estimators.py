"""An estimator tried on rows: fitted on older ones, stopped and measured on newer ones, then fitted on all of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge import measure, metrics
from kedge.bundle import Matrix, Signature, packages
from kedge.bundle.committee import Committee
from kedge.bundle.estimators import Estimator, Rows, Settings, named, of
from kedge.cpus import usable_cpus
from kedge.errors import KedgeError, UsageError
from kedge.measure import Floats, losses
from kedge.policy import Policy
from kedge.training.windows import member_weights

__all__ = [
    "FittedCandidate",
    "Rows",
    "attempt",
    "calibration",
    "importance",
    "mean_loss",
    "rank",
    "score",
    "settings",
    "short",
    "side_by_side",
    "split",
    "weighed",
]

SELECTION_SHARE, MAX_SELECTION_ROWS = 0.2, 20_000
"""Newest share of the rows of a fit, on which it is stopped and measured; more rows would say the same."""
SHORT_FIT = 128_000
"""A fit of at most so many rows takes one thread, where the estimator allows another one beside it: two threads make
one hardly faster, and two fits at once take little longer than one."""
LONG_SHARE = 15
"""A second fit that would see at most one row in so many besides costs as much and says the same as the first;
not where rows weigh by their age."""


@dataclass
class FittedCandidate:
    """An estimator with the settings that rows gave it: fitted on the older of them, stopped by the newest ones."""

    policy: Policy
    estimator: Estimator
    settings: Settings
    rows: Rows
    _of_older: Any = None

    @property
    def model(self) -> Any:
        """Of the candidate's own rows: where the newest are few that stopped a fit, that fit, else one of all."""
        newest = len(self.rows) - split(len(self.rows))
        few = self.rows.weight is None and len(self.rows) >= LONG_SHARE * newest
        return self._first if few and self.estimator.stops_early else self.fit(self.rows)

    def fit(self, rows: Rows) -> Any:
        """A model of rows, with as many rounds as the newest of the candidate's own rows found best."""
        rounds = self.estimator.rounds(self._first) if self.estimator.stops_early else None
        return self._fitted(_weighted(self.policy, rows), rounds=rounds)

    @property
    def loss(self) -> float:
        """Mean loss on the newest rows, see :func:`split`."""
        return mean_loss(self.policy, *self._newest)

    @property
    def rank(self) -> float:
        """By which the estimator is chosen, the lowest first: the loss, or the policy's primary metric."""
        value = rank(self.policy, *self._newest)
        return float("inf") if math.isnan(value) else value

    @property
    def _newest(self) -> tuple[Floats, Floats]:
        """Labels and scores of the newest rows."""
        newer = self.rows[split(len(self.rows)) :]
        scores = self.estimator.predict(self.policy.model.objective, self.settings.signature, self._first, newer.matrix)
        return newer.label, scores

    @property
    def _first(self) -> Any:
        """The model of the older rows. Kept by hand: ``cached_property`` of Python 3.11 has one lock for all fits."""
        if self._of_older is None:
            older, newer = self.rows[: split(len(self.rows))], self.rows[split(len(self.rows)) :]
            stop = _weighted(self.policy, newer) if self.estimator.stops_early else None
            self._of_older = self._fitted(_weighted(self.policy, older), newer=stop)
        return self._of_older

    def _fitted(self, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:
        name, given = self.estimator.name, self.policy.train.parameters
        try:
            return self.estimator.fit(self.settings, rows, newer=newer, rounds=rounds)
        except KedgeError:
            raise
        except Exception as exc:
            if name in given:
                raise UsageError(f"train.parameters.{name}: {name} cannot be fitted with them: {exc}") from exc
            if type(exc).__module__.partition(".")[0].strip("_") == name:  # as of constraints with a loss
                raise UsageError(f"train.estimators: {name} cannot be fitted as model and train say: {exc}") from exc
            raise


def attempt(name: str, policy: Policy, signature: Signature, rows: Rows) -> FittedCandidate:
    """The estimator of this name as a candidate on rows in time order.

    Raises:
        UsageError: it cannot do what the policy asks, or its package is not there.
    """
    estimator = named(name, packages.of(policy) if ":" in name else None)
    asked = settings(name, policy, signature)
    if short(estimator, len(rows)):
        asked = replace(asked, threads=1)
    return FittedCandidate(policy, estimator, estimator.checked(asked), rows)


def short(estimator: Estimator, rows: int) -> bool:
    """Whether a fit of so many rows takes one thread, so that others can be made beside it."""
    return estimator.beside_others and rows <= SHORT_FIT


def side_by_side(makers: Sequence[tuple[bool, Callable[[], Any]]], policy: Policy) -> list[Any]:
    """What each of these makes, in their order. The short ones, marked so, are made first, at once, the last ones (of
    windows the longest) to begin with; the others one after another."""
    with ThreadPoolExecutor(policy.train.threads or usable_cpus()) as pool:
        begun = [pool.submit(make) if brief else None for brief, make in reversed(makers)][::-1]
    return [make() if made is None else made.result() for made, (_, make) in zip(begun, makers, strict=True)]


def settings(name: str, policy: Policy, signature: Signature) -> Settings:
    """What a policy asks of one of its estimators."""
    train = policy.train
    return Settings(
        task=policy.model.task,
        signature=signature,
        parameters=train.settings_of(name),
        seed=train.seed,
        threads=train.threads or usable_cpus(),
        monotone=train.monotone,
        loss=policy.model.loss,
        classes=len(policy.model.classes),
    )


def absent_classes(policy: Policy, label: Floats) -> list[str]:
    """Classes of the policy that no row is of; a regression has none."""
    names = policy.model.class_names
    present = set(np.unique(label).astype(np.int64).tolist()) if names else set()
    return [name for place, name in enumerate(names) if place not in present]


def split(rows: int) -> int:
    """How many of so many rows are the older ones; the newest fifth are the others, at least one, at most 20,000.

    >>> split(1000), split(1_000_000)
    (800, 980000)
    """
    return rows - max(1, min(round(rows * SELECTION_SHARE), MAX_SELECTION_ROWS))


def importance(name: str, model: Any, signature: Signature) -> dict[str, float]:
    """Share of each feature in a model, summing to 1: by the estimator's own measure, such as the gain of its splits.

    A member of a committee has the share of its weight. All zeros if the model uses none, or has no such measure.
    """
    members, shares = (model.members, model.weights) if isinstance(model, Committee) else ([model], [1.0])
    found = dict.fromkeys(signature.names, 0.0)
    for member, weight in zip(members, shares, strict=True):
        own = named(name).importance(member, signature)
        total = sum(own.values())
        for feature, value in own.items():
            found[feature] += weight * value / total if total else 0.0
    total = sum(found.values())
    return {feature: value / total if total else 0.0 for feature, value in found.items()}


def score(policy: Policy, model: Any, signature: Signature, matrix: Matrix) -> Floats:
    """Scores of a fitted model, shape (n,), of several classes (n, classes): probabilities or values."""
    return of(model).predict(policy.model.objective, signature, model, matrix)


def weighed(policy: Policy, models: Sequence[Any], signature: Signature, newest: Rows) -> Floats:
    """Weights of fitted models by how well each does on the newest rows, see :func:`windows.member_weights`."""
    objective = policy.model.objective
    scores = [score(policy, model, signature, newest.matrix) for model in models]
    return member_weights(objective, np.array([losses(objective, newest.label, each) for each in scores]))


def mean_loss(policy: Policy, label: Floats, scores: NDArray[Any]) -> float:
    """Mean loss of scores, in the unit of the policy's task."""
    return float(losses(policy.model.objective, label, np.asarray(scores, dtype=np.float64)).mean())


def rank(policy: Policy, label: Floats, scores: Floats) -> float:
    """The mean loss or what the primary metric says, the lower the better; NaN where it is not defined."""
    primary = policy.primary
    if primary is None:
        return mean_loss(policy, label, scores)
    metric = metrics.named(primary.name)
    value = metric.formula(policy.model, primary.at, label, scores)
    return math.nan if value is None else -metric.sign * value


def calibration(label: Floats, scores: Floats) -> dict[str, float]:
    """Intercept and slope of :func:`measure.calibration`, of several classes the slope of :func:`measure.temperature`,
    their standard errors and correlation, and the standard deviation of what a row's loss is expected to be by it;
    empty without two classes, when there is nothing to fit."""
    if label.min() == label.max():
        return {}
    if scores.ndim > 1:
        slope, error = measure.temperature(label, scores)
        expected, _ = measure.moments(measure.tempered(scores, slope), -np.log(np.clip(scores, measure.NEAREST, 1.0)))
        return {
            "calibration_intercept": 0.0,
            "calibration_slope": slope,
            "calibration_intercept_error": 0.0,
            "calibration_slope_error": error,
            "calibration_correlation": 0.0,
            "calibrated_loss_deviation": float(expected.std()),
        }
    intercept, slope = measure.calibration(label, scores)
    covariance = measure.calibration_covariance(scores, intercept, slope)
    errors = np.sqrt(np.diag(covariance))
    chance = measure.calibrated(scores, intercept, slope)
    return {
        "calibration_intercept": intercept,
        "calibration_slope": slope,
        "calibration_intercept_error": float(errors[0]),
        "calibration_slope_error": float(errors[1]),
        "calibration_correlation": float(covariance[0, 1] / errors.prod()),
        "calibrated_loss_deviation": float(losses("binary", chance, scores).std()),
    }


def _weighted(policy: Policy, rows: Rows) -> Rows:
    return rows.balanced() if policy.train.class_weight == "balanced" else rows
