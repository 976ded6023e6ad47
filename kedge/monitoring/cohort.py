"""The rows a check judges: a cohort of predictions whose outcomes are due, each row once.

A verdict on whatever labels have arrived is one on those that arrive early. So a check judges the predictions that
became due since the last verdict, once enough of their outcomes are there. Labels of earlier rows that arrived since
are judged with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge import decision, measure
from kedge.measure import Floats
from kedge.policy import Model, Policy
from kedge.records.cohort import Block, Cohort, Coverage
from kedge.tables import coverage
from kedge.tables.scores import finite

MAX_BLOCKS = 10


NOTHING_JUDGED = Cohort(verdict="too few labels")


def judge(
    policy: Policy,
    scores: Floats,
    labels: Floats,
    times: NDArray[np.datetime64],
    *,
    predicted_rows: int | None = None,
    late: NDArray[np.bool_] | None = None,
    corrected: int = 0,
    slices: Mapping[str, NDArray[np.object_]] | None = None,
    probe: Floats | None = None,
    constant_loss: float | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Cohort:
    """Judge the rows of a cohort, and the late ones of those before it.

    The verdict is ``too few labels`` below ``monitor.performance.min_labels``; ``labels incomplete`` if fewer than
    ``labels.min_coverage`` of the rows have an outcome or those that have one do not stand for the others, see
    :func:`kedge.tables.coverage.incomplete`; ``not due`` if no row is. Pure: replay calls it on arrays.

    Args:
        policy: Says task, costs and limits.
        scores: Shape (n,), of several classes (n, classes).
        labels: Shape (n,), NaN where no outcome is known.
        times: Shape (n,): when each was predicted.
        predicted_rows: Rows of the cohort in all, where the arrays hold only those with an outcome.
        late: Shape (n,): which rows are late ones; None: none are.
        corrected: How many outcomes of judged rows changed.
        slices: By name the group of each row, shape (n,).
        probe: Shape (n,): scores of what a retraining would have made; None: nobody asked.
        constant_loss: Mean loss of the best constant on the reference (regression); None: on these rows.
        start, end: When the cohort was predicted.
    """
    late = np.zeros(len(scores), dtype=np.bool_) if late is None else late
    own, known = finite(scores) & ~late, np.isfinite(labels)
    chosen = judgeable(policy, scores, labels, late)
    predicted = int(own.sum()) if predicted_rows is None else predicted_rows
    covered, judged = int((own & chosen).sum()), int(chosen.sum())
    parts = {name: _of(of, own) for name, of in (slices or {}).items()}
    groups = _groups(policy.model, _of(scores, own), _of(chosen, own), parts)
    found = Cohort(
        verdict="not due" if start is not None and end is not None and end <= start else "too few labels",
        start=start,
        end=end,
        predicted=predicted,
        labelled=int((own & known).sum()),
        coverage=covered / predicted if predicted else None,
        absent=int((own & chosen & ~known).sum()),
        late=judged - covered,
        corrected=corrected,
        nan_scores=int((~finite(scores)).sum()),
        groups=groups,
    )
    reason = incomplete(policy, scores, labels, late, predicted, groups["score"])
    if reason:
        return replace(found, verdict="labels incomplete", reason=reason)
    if judged < policy.monitor.performance.min_labels:
        return found
    if probe is not None:
        missing = ~finite(scores)
        probe = probe.copy()
        probe[missing] = np.nan
        probed, outcomes = in_time_order(policy, probe, labels, times, late)
        found = replace(found, probe_cost=float(costs(policy.model, probed, outcomes, constant_loss).sum()))
    scores, labels = in_time_order(policy, scores, labels, times, late)
    return replace(found, verdict="judged", **_sums(policy.model, scores, labels, constant_loss))


def incomplete(
    policy: Policy,
    scores: Floats,
    labels: Floats,
    late: NDArray[np.bool_],
    predicted: int | None = None,
    parts: Mapping[str, Coverage] | None = None,
) -> str:
    """Why the outcomes of a cohort do not stand for its rows, in words; empty: they may, or it has too few rows.

    Arguments as in :func:`judge`, and ``parts`` as in :func:`kedge.tables.coverage.incomplete`.
    """
    own = finite(scores) & ~late
    predicted = int(own.sum()) if predicted is None else predicted
    if predicted < policy.monitor.performance.min_labels:
        return ""
    came = _of(labels, own)
    absent = _of(judgeable(policy, scores, labels, late), own) & ~np.isfinite(came)
    came = np.where(absent, 0.0, came) if absent.any() else came
    return coverage.incomplete(policy, _of(scores, own), came, predicted, parts)


def in_time_order(
    policy: Policy,
    scores: Floats,
    labels: Floats,
    times: NDArray[np.datetime64],
    late: NDArray[np.bool_] | None = None,
) -> tuple[Floats, Floats]:
    """Scores and labels of the rows that can be judged, oldest first; absent labels filled in where that is allowed."""
    late = np.zeros(len(scores), dtype=np.bool_) if late is None else late
    judged = judgeable(policy, scores, labels, late)
    order = np.argsort(_of(times, judged), kind="stable")
    return _of(scores, judged)[order], np.nan_to_num(_of(labels, judged)[order], nan=0.0, copy=False)


def _of(values: NDArray[Any], rows: NDArray[np.bool_]) -> NDArray[Any]:
    """Those of some rows: no copy where it is all of them."""
    return values if rows.all() else values[rows]


def judgeable(policy: Policy, scores: Floats, labels: Floats, late: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows can be judged, shape (n,)."""
    known = np.isfinite(labels)
    if policy.labels.absent_means == "negative":
        known = known | ~late
    return finite(scores) & known


def costs(model: Model, scores: Floats, labels: Floats, constant_loss: float | None = None) -> Floats:
    """Cost of each row in wrong decisions, shape (n,), see :class:`Cohort`.

    Args:
        constant_loss: Mean loss of the best constant on the reference (regression); None: on these rows.

    >>> from kedge.policy import Model
    >>> features = {"x": {"type": "number"}}
    >>> model = Model(name="m", target="y", features=features, costs={"false_positive": 1, "false_negative": 3})
    >>> costs(model, np.array([0.9, 0.1, 0.9]), np.array([0.0, 1.0, 1.0])).tolist()
    [0.5, 1.5, 0.0]
    """
    if model.class_names:
        found = decision.costs(model, labels, scores)
        found /= decision.mean_mistake(model)
        return found
    constant = measure.constant_loss(model.objective, labels) if constant_loss is None else constant_loss
    losses = measure.losses(model.objective, labels, scores)
    return losses / constant if constant > 0 else np.zeros_like(losses)


def _sums(model: Model, scores: Floats, labels: Floats, constant_loss: float | None) -> dict[str, Any]:
    cost, loss = costs(model, scores, labels, constant_loss), measure.losses(model.objective, labels, scores)
    count = min(MAX_BLOCKS, len(loss))
    parts = zip(np.array_split(cost, count), np.array_split(loss, count), strict=True)
    blocks = (Block(rows=len(each), cost=float(each.sum()), loss=float(lost.sum())) for each, lost in parts)
    return {
        "rows": len(loss),
        "cost": float(cost.sum()),
        "cost_square": float(cost @ cost),
        "loss": float(loss.sum()),
        "blocks": tuple(blocks),
    }


def _groups(
    model: Model, scores: Floats, covered: NDArray[np.bool_], slices: Mapping[str, NDArray[np.object_]]
) -> dict[str, dict[str, Coverage]]:
    """Coverage by decision (classes), by score and by slice."""
    groups = {"score": coverage.by_score(scores, covered)}
    if model.class_names:
        decided = decision.decide(model, scores).astype(np.int16)
        places = sorted((name, place) for place, name in enumerate(model.class_names))
        parts = {str(name): covered[decided == place] for name, place in places}
        groups["decision"] = {name: coverage.of(part) for name, part in parts.items() if len(part)}
    for name, values in slices.items():
        numbers: dict[object, int] = {}
        codes = np.fromiter((numbers.setdefault(value, len(numbers)) for value in values), np.int32, len(values))
        named = {"missing" if value is None else str(value): code for value, code in numbers.items()}
        groups[name] = {key: coverage.of(covered[codes == named[key]]) for key in sorted(named)}
    return groups
