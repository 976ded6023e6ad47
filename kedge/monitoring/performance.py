"""How wrong the served model was, on rows whose outcome is known. Rows may depend on their neighbours in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from kedge import decision, measure, student_t
from kedge import metrics as named_metrics
from kedge.measure import Floats
from kedge.monitoring import limits
from kedge.policy import Model, Policy
from kedge.policy.monitor import Performance as Limits
from kedge.records import Interval, Mean, Performance, Reference
from kedge.tables.scores import finite

LEVEL = 0.95
"""Level of the two-sided intervals that are reported."""
LARGEST = 1e9
"""Increase over a reference loss of zero: JSON has no infinity."""


def block_mean(values: Floats) -> Mean:
    """Mean of values in time order, with a standard error that allows for dependence between neighbours.

    The n values are cut into B = floor(sqrt(n)) blocks of nearly equal size n_b. With block means m_b and the overall
    mean m, error² = sum(n_b (m_b - m)²) / (n (B - 1)), and (m - mu) / error is compared with Student's t of B - 1
    degrees of freedom. Dependence that reaches over much more than one block is not seen.

    Args:
        values: Shape (n,), n at least 4, finite.

    References:
        J. M. Flegal, G. L. Jones (2010), Batch means and spectral variance estimators in Markov chain Monte Carlo,
        Annals of Statistics 38, 1034-1070.

    >>> mean = block_mean(np.array([1.0, 3.0, 2.0, 4.0]))
    >>> mean.value, mean.error, mean.blocks
    (2.5, 0.5, 2)
    """
    count = len(values)
    blocks = math.isqrt(count)
    if blocks < 2:
        raise ValueError(f"a block mean needs at least 4 values, got {count}")
    starts = np.arange(blocks) * count // blocks
    sizes = np.diff(np.append(starts, count))
    mean = float(np.mean(values))
    spread = np.add.reduceat(values, starts) / sizes - mean
    return interval(mean, math.sqrt(float(np.sum(sizes * np.square(spread))) / (count * (blocks - 1))), blocks)


def interval(value: float, error: float, blocks: int) -> Mean:
    """A mean with the two-sided interval that its standard error from so many blocks gives."""
    reach = student_t.quantile((1 + LEVEL) / 2, blocks - 1) * error
    return Mean(value=value, low=value - reach, high=value + reach, error=error, blocks=blocks)


def chance_of_rise(mean: Mean, rows: int, reference: Reference) -> float:
    """One-sided p-value of "the loss is not above the reference's".

    t = (loss - reference) / (error * sqrt(1 + n / n_reference)), Student's t with B - 1 degrees of freedom. The root
    adds the reference's own sampling error, taking its rows to scatter as the window's do.

    >>> steady = Mean(value=0.5, low=0.4, high=0.6, error=0.05, blocks=10)
    >>> chance_of_rise(steady, 100, Reference(loss=0.5, rows=1000))
    0.5
    """
    return chance_above(
        float(mean.value - reference.loss), mean.error * math.sqrt(1 + rows / reference.rows), mean.blocks
    )


def chance_above(above: float, error: float, blocks: int) -> float:
    """One-sided p-value of "the difference is not above 0", with its standard error from so many blocks."""
    if error == 0:
        return 0.0 if above > 0 else 1.0
    return student_t.upper_tail(float(above / error), blocks - 1)


def relative_increase(loss: float, reference: float) -> float:
    """(loss - reference) / reference."""
    if reference > 0:
        return float((loss - reference) / reference)
    return 0.0 if loss <= 0 else LARGEST


def judge(
    model: Model,
    scores: Floats,
    labels: Floats,
    reference: Reference | None,
    limits: Limits,
    *,
    newest: datetime | None = None,
) -> Performance:
    """Judge labelled rows, in the order in which they happened, against the champion's reference.

    The verdict is "worse" when the increase reaches ``limits.min_increase`` and ``chance_of_rise`` is at most
    ``limits.alpha``; both, because with many rows any difference is significant and with few any is large.

    Args:
        model: Says task and threshold.
        scores, labels: Shape (n,), of several classes scores are (n, classes), in time order; rows with a value that
            is not finite are left out.
        reference: None: nothing was recorded, so nothing is judged.
        limits: From the policy.
        newest: When the newest label became known.
    """
    good = finite(scores) & np.isfinite(labels)
    scores, labels = (scores, labels) if good.all() else (scores[good], labels[good])
    rows = len(scores)
    if rows < limits.min_labels:
        return Performance(verdict="too few labels", rows=rows, reference=reference, newest=newest)
    loss = block_mean(measure.losses(model.objective, labels, scores))
    wrong, naive = _wrong(model, scores, labels)
    if reference is None:
        return Performance(
            verdict="no reference", rows=rows, reference=None, newest=newest, loss=loss, wrong=wrong, naive_wrong=naive
        )
    increase = relative_increase(loss.value, reference.loss)
    p_value = chance_of_rise(loss, rows, reference)
    return Performance(
        verdict="measured",
        rows=rows,
        reference=reference,
        newest=newest,
        loss=loss,
        wrong=wrong,
        naive_wrong=naive,
        increase=increase,
        p_value=p_value,
        worse=increase >= limits.min_increase and increase > 0 and p_value <= limits.alpha,
    )


def with_metrics(
    measured: Performance,
    policy: Policy,
    spans: Sequence[tuple[Floats, Floats]],
    released: Mapping[str, Interval],
) -> Performance:
    """The policy's metrics on the last of spans of rows, see :func:`kedge.metrics.figure`, and which of their limits
    are broken, see :func:`kedge.monitoring.limits.broken`.

    Args:
        spans: Scores and labels of rows in time order; those that are not finite are left out.
    """
    known = [finite(scores) & np.isfinite(labels) for scores, labels in spans]
    finite_spans = [(labels[good], scores[good]) for (scores, labels), good in zip(spans, known, strict=True)]
    labels, scores = finite_spans[-1]
    figures = [named_metrics.figure(metric, policy.model, labels, scores) for metric in policy.metrics]
    return replace(
        measured,
        metrics={
            each.name: Interval(value=each.value, low=each.low, high=each.high)
            for each in figures
            if each.value is not None and each.low is not None and each.high is not None
        },
        metric_rows=len(labels),
        broken_limits=tuple(limits.broken(policy, finite_spans, figures, released)),
    )


def _wrong(model: Model, scores: Floats, labels: Floats) -> tuple[Mean | None, float | None]:
    if not model.class_names:
        return None, None
    mean = block_mean(decision.wrong(model, labels, scores).astype(np.float64))
    share = Mean(
        value=mean.value, low=max(0.0, mean.low), high=min(1.0, mean.high), error=mean.error, blocks=mean.blocks
    )
    return share, float(np.mean(labels[1:] != labels[:-1]))
