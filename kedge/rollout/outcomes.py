"""Labelled outcomes of both bundles, span by span, from the prediction log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge import measure
from kedge.policy import Policy
from kedge.rollout.evidence import Agreement, Observed, Outcomes
from kedge.rollout.model import Rollout, Span
from kedge.store import Store
from kedge.tables import MIRRORED, log

AHEAD = timedelta(days=365)
"""The span that runs has no end yet; rows from clocks that run ahead belong to it."""


def observe(store: Store, policy: Policy, rollout: Rollout, spans: Sequence[Span]) -> tuple[Observed, ...]:
    """Each span with the outcomes of predictions made in it, whenever their labels arrived.

    Once the rollout ended, a shadow also tells how far its answers agreed with the champion's.

    Raises:
        StoreError: the log cannot be read.
    """
    start = min(span.began for span in spans)
    end = max(span.ended or span.began + AHEAD for span in spans)
    columns = ["_version", "_time", "_score"]
    rows = log.read_window(store, policy, start, end, columns=columns, labels="inner")
    return tuple(
        Observed(
            span=span,
            candidate=_outcomes(policy, _of(rows, span, rollout.bundle)),
            champion=_outcomes(policy, _of(rows, span, rollout.champion)),
            agreement=_agreement(store, policy, rollout, span) if rollout.ended and span.state == "shadow" else None,
        )
        for span in spans
    )


def _agreement(store: Store, policy: Policy, rollout: Rollout, span: Span) -> Agreement:
    """Mirrored answers joined with the champion's by the request's id."""
    columns = ["_id", "_version", "_time", "_score"]
    rows = log.read_window(store, policy, span.began, span.ended or span.began + AHEAD, columns=columns, labels="none")
    mirrored, answered = _of(rows, span, rollout.bundle), _of(rows, span, rollout.champion)
    mirrored = mirrored.filter(pc.ends_with(mirrored["_id"], MIRRORED))
    mirrored = mirrored.set_column(0, "_id", pc.utf8_slice_codeunits(mirrored["_id"], 0, -len(MIRRORED)))
    both = mirrored.select(["_id", "_score"]).join(
        answered.select(["_id", "_score"]), "_id", join_type="inner", right_suffix="_champion"
    )
    ours, theirs = both["_score"].to_numpy(), both["_score_champion"].to_numpy()
    threshold = policy.model.threshold
    binary = policy.model.task == "binary"
    return Agreement(
        rows=len(ours),
        mean_difference=float(np.abs(ours - theirs).mean()) if len(ours) else 0.0,
        other_decisions=int(((ours >= threshold) != (theirs >= threshold)).sum()) if binary else 0,
    )


def _of(rows: pa.Table, span: Span, bundle: str | None) -> pa.Table:
    """Rows of one bundle that were predicted in the span."""
    times = rows["_time"]
    made = pc.greater_equal(times, pa.scalar(span.began, times.type))
    if span.ended is not None:
        made = pc.and_(made, pc.less(times, pa.scalar(span.ended, times.type)))
    return rows.filter(pc.and_(made, pc.equal(rows["_version"], pa.scalar(bundle, pa.string()))))


def _outcomes(policy: Policy, rows: pa.Table) -> Outcomes:
    label, score = rows["_label"].to_numpy(), rows["_score"].to_numpy()
    loss = measure.squared_errors(label, score)
    binary = policy.model.task == "binary"
    wrong = int(measure.wrong(label, score, policy.model.threshold).sum()) if binary else 0
    return Outcomes(rows=len(loss), loss=float(loss.sum()), squares=float((loss * loss).sum()), wrong=wrong)
