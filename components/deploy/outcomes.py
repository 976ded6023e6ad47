"""Labelled outcomes of both bundles, span by span, from the prediction log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components import measure
from components.deploy.evidence import Observed, Outcomes
from components.deploy.model import Rollout, Span
from components.policy import Policy
from components.store import Store
from components.tables import log

AHEAD = timedelta(days=365)
"""The span that runs has no end yet; rows from clocks that run ahead belong to it."""


def observe(store: Store, policy: Policy, rollout: Rollout, spans: Sequence[Span]) -> tuple[Observed, ...]:
    """Each span with the outcomes of predictions made in it, whenever their labels arrived.

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
        )
        for span in spans
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
    if policy.model.task == "binary":
        loss = measure.wrong(label, score, policy.model.threshold).astype(np.float64)
    else:
        loss = measure.losses("regression", label, score)
    return Outcomes(rows=len(loss), loss=float(loss.sum()), squares=float((loss * loss).sum()))
