"""Labelled outcomes of both bundles, span by span, from the prediction log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge import clock, decision, measure, records
from kedge.measure import Floats
from kedge.policy import Policy
from kedge.records import Checked
from kedge.rollout import same_rows
from kedge.rollout.evidence import Agreement, Observed, Outcomes
from kedge.rollout.model import Rollout, Span
from kedge.store import Store
from kedge.tables import MIRRORED, coverage, log, scores

MOMENT = timedelta(microseconds=1)
AHEAD = timedelta(days=365)
"""The span that runs has no end yet; rows from clocks that run ahead belong to it."""


def observe(
    store: Store, policy: Policy, rollout: Rollout, spans: Sequence[Span], *, now: datetime | None = None
) -> tuple[Observed, ...]:
    """Each span with the outcomes of predictions made in it that are due.

    Outcomes that come early are not those that come late: of a model whose positives alone are known within a release,
    the candidate that finds more of them looks worse. Where those that are known do not stand for all rows that are
    due, the spans have none, and say why. Once the rollout ended, a shadow also tells how far its answers agreed with
    the champion's.

    Args:
        now: Outcomes observed later are not known; None: the clock's.

    Raises:
        StoreError: the log cannot be read.
    """
    now = now or clock.now()
    rows, reason = _due(store, policy, rollout, spans, now)
    due = now - timedelta(seconds=due_after(store, policy)) + MOMENT
    both, not_paired = same_rows.paired(store, policy, rollout, due, now, judged=not reason)
    return tuple(
        Observed(
            span=span,
            candidate=_outcomes(policy, _of(rows, span, rollout.bundle)),
            champion=_outcomes(policy, _of(rows, span, rollout.champion)),
            agreement=_agreement(store, policy, rollout, span) if rollout.ended and span.state == "shadow" else None,
            not_judged=reason,
            paired=both if span is spans[-1] else None,
            not_paired=not_paired,
        )
        for span in spans
    )


def _due(store: Store, policy: Policy, rollout: Rollout, spans: Sequence[Span], now: datetime) -> tuple[pa.Table, str]:
    """Rows with an outcome among those that are due, or none and why they cannot be judged."""
    start = min(span.began for span in spans)
    end = max(span.ended or span.began + AHEAD for span in spans)
    columns = ["_id", "_version", "_time", "_score"]
    due = min(end, now - timedelta(seconds=due_after(store, policy)) + MOMENT)
    rows = log.read_window(store, policy, start, max(start, due), columns=columns, known_at=now)
    versions = pa.array([bundle for bundle in (rollout.bundle, rollout.champion) if bundle is not None])
    rows = rows.filter(pc.and_(pc.is_in(rows["_version"], versions), pc.invert(pc.ends_with(rows["_id"], MIRRORED))))
    rows = rows.filter(pa.array(scores.finite(_scores(policy, rows))))
    if policy.labels.absent_means == "negative":
        label = pc.fill_null(rows["_label"], 0.0)
        return rows.set_column(rows.schema.get_field_index("_label"), "_label", label), ""
    known = np.asarray(pc.is_valid(rows["_label"]).to_numpy(), dtype=np.bool_)
    reason = ""
    if len(known) >= same_rows.MIN_DUE:
        reason = coverage.incomplete(policy, _scores(policy, rows), rows["_label"].to_numpy())
    return rows.filter(pa.array(known & (not reason))), reason


def due_after(store: Store, policy: Policy) -> float:
    """Age in seconds from which outcomes are due: stated, or as the newest check estimated it."""
    stated = policy.labels.due_seconds
    if stated is not None:
        return stated
    cohorts = [check.data.cohort for check in records.newest(store, policy.name, Checked, 1)]
    return next((cohort.delay_seconds for cohort in cohorts if cohort is not None), 0.0)


def _agreement(store: Store, policy: Policy, rollout: Rollout, span: Span) -> Agreement:
    """Mirrored answers joined with the champion's by the request's id."""
    columns = ["_id", "_version", "_time", "_score"]
    rows = log.read_window(store, policy, span.began, span.ended or span.began + AHEAD, columns=columns, labels="none")
    mirrored, answered = _of(rows, span, rollout.bundle), _of(rows, span, rollout.champion)
    mirrored = mirrored.filter(pc.ends_with(mirrored["_id"], MIRRORED))
    mirrored = mirrored.set_column(0, "_id", pc.utf8_slice_codeunits(mirrored["_id"], 0, -len(MIRRORED)))
    both = scores.beside(mirrored, answered, "_champion")
    ours, theirs = _scores(policy, both), scores.of(both["_champion"], len(policy.model.classes))
    other = decision.decide(policy.model, ours) != decision.decide(policy.model, theirs)
    return Agreement(
        rows=len(ours),
        mean_difference=float(np.abs(ours - theirs).mean()) if len(ours) else 0.0,
        other_decisions=int(other.sum()) if policy.model.class_names else 0,
    )


def _scores(policy: Policy, rows: pa.Table) -> Floats:
    return scores.of(rows["_score"], len(policy.model.classes))


def _of(rows: pa.Table, span: Span, bundle: str | None) -> pa.Table:
    """Rows of one bundle that were predicted in the span."""
    times = rows["_time"]
    made = pc.greater_equal(times, pa.scalar(span.began, times.type))
    if span.ended is not None:
        made = pc.and_(made, pc.less(times, pa.scalar(span.ended, times.type)))
    return rows.filter(pc.and_(made, pc.equal(rows["_version"], pa.scalar(bundle, pa.string()))))


def _outcomes(policy: Policy, rows: pa.Table) -> Outcomes:
    label, score = rows["_label"].to_numpy(), _scores(policy, rows)
    loss = measure.bounded_losses(policy.model.objective, label, score)
    wrong = int(decision.wrong(policy.model, label, score).sum()) if policy.model.class_names else 0
    return Outcomes(rows=len(loss), loss=float(loss.sum()), squares=float((loss * loss).sum()), wrong=wrong)
