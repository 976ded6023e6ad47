"""A span's evidence in a few figures: for records and for people."""

from __future__ import annotations

from dataclasses import asdict

from kedge.rollout.evidence import SPREADS, Observed, Outcomes
from kedge.rollout.model import Traffic

TAIL = 0.05
"""Share of requests slower than the 95th percentile."""


def of(seen: Observed) -> dict[str, object]:
    """A span as plain values."""
    span = seen.span
    figures: dict[str, object] = {
        "state": span.state,
        "percent": span.percent,
        "began": span.began,
        "ended": span.ended,
        "candidate": _side(span.candidate, seen.candidate),
        "champion": _side(span.champion, seen.champion),
    }
    if span.cut:
        figures["cut"] = span.cut
    if seen.not_judged:
        figures["not_judged"] = seen.not_judged
    if seen.paired is not None:
        primary = seen.paired.primary
        figures["same_rows"] = {
            "rows": seen.paired.scores.rows,
            "score_shift": seen.paired.scores.mean * SPREADS,
            "labelled": seen.paired.losses.rows,
            "loss": seen.paired.losses.mean,
            "cost": seen.paired.decisions.mean,
        } | ({} if primary is None else {"primary": asdict(primary)})
    elif seen.not_paired:
        figures["not_paired"] = seen.not_paired
    return figures | ({"agreement": asdict(seen.agreement)} if seen.agreement else {})


def percentile(traffic: Traffic) -> float | None:
    """Upper edge, in ms, of the bucket that holds the 95th percentile of the latency; None without requests."""
    total, below = sum(traffic.latency.values()), 0
    for edge in sorted(traffic.latency):
        below += traffic.latency[edge]
        if total and below >= (1 - TAIL) * total:
            return edge
    return None


def _side(traffic: Traffic, outcomes: Outcomes) -> dict[str, object]:
    return {
        "requests": traffic.requests,
        "errors": traffic.errors,
        "p95_ms": percentile(traffic),
        "labelled": outcomes.rows,
        "loss": outcomes.mean if outcomes.rows else None,
        "wrong": outcomes.wrong,
    }
