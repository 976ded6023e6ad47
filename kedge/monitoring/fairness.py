"""Whether the champion decides alike about groups: the gate's figures over the rows that checks judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from kedge import fairness
from kedge.fairness import Counts, Fair
from kedge.monitoring.cohort import judgeable
from kedge.monitoring.outcomes import Outcomes
from kedge.policy import Gates, Policy
from kedge.records import Checked, FairFigure, Fairness, GroupCounts
from kedge.records.cohort import Cohort

PERIOD = timedelta(days=30)
"""Rows add up for so long, then anew: what changed last week must not drown in a year."""
ALPHA = 0.05
"""Chance that any figure that keeps its limit is ever called beyond it within a period, whatever the looks."""
MAX_GROUPS = 50
"""Of a column; rows of values that appear later count as one more."""
OTHERS = "(others)"


def follow(
    policy: Policy, due: Outcomes, cohort: Cohort, before: Checked | None, tenure_id: str, end: datetime
) -> Fairness | None:
    """Add the rows that a check judged to those of its tenure's earlier checks in the period.

    Args:
        due: The rows, with their protected columns.
        cohort: What was judged of them.
        before: The check before, of whichever champion.
        tenure_id: Of the champion.
        end: Of this check.
    """
    if not policy.gates.fairness.columns:
        return None
    since, counts = _begun(before, tenure_id, end)
    if cohort.verdict == "judged":
        counts = _added(policy, due, counts)
    columns = [name for name in policy.gates.fairness.columns if name in counts]
    level = ALPHA / len(policy.gates.fairness.columns)
    found = (each for name in columns for each in fairness.over_time(policy.gates, name, counts[name], level))
    return Fairness(
        since=since,
        figures=tuple(_figures(policy.gates, found)),
        counts={name: _recorded(counts[name]) for name in columns},
        unwatched=due.unwatched,
    )


def _begun(before: Checked | None, tenure_id: str, end: datetime) -> tuple[datetime, dict[str, dict[str, Counts]]]:
    known = before.fairness if before is not None else None
    if known is None or before is None or before.champion.tenure_id != tenure_id or end - known.since >= PERIOD:
        return end, {}
    arrays = {
        column: {each.value: np.array(each.counts, dtype=np.float64).reshape(2, 2) for each in groups}
        for column, groups in known.counts.items()
    }
    return known.since, arrays


def _added(policy: Policy, due: Outcomes, before: Mapping[str, Mapping[str, Counts]]) -> dict[str, dict[str, Counts]]:
    rows = judgeable(policy, due.scores, due.labels, due.late)
    summed = {column: dict(groups) for column, groups in before.items()}
    for column, (values, known) in due.protected.items():
        chosen = rows & known
        labels = np.nan_to_num(due.labels[chosen], nan=0.0)
        groups = summed.setdefault(column, {})
        for value, counts in fairness.count(policy.model, labels, due.scores[chosen], values[chosen].tolist()).items():
            name = value if value in groups or len(groups) < MAX_GROUPS else OTHERS
            groups[name] = groups.get(name, np.zeros((2, 2))) + counts
    return summed


def _figures(gates: Gates, found: Iterator[Fair]) -> Iterator[FairFigure]:
    for each in found:
        verdict: Literal["kept", "exceeded", "inconclusive"] = (
            "kept" if each.within else "exceeded" if each.shown else "inconclusive"
        )
        yield FairFigure(
            column=each.column,
            name=each.name,
            value=each.value,
            low=each.low,
            high=each.high,
            limit=each.limit,
            verdict=verdict,
            sentence=each.sentence(gates),
        )


def _recorded(groups: Mapping[str, Counts]) -> tuple[GroupCounts, ...]:
    return tuple(
        GroupCounts(value=value, counts=(int(n[0, 0]), int(n[0, 1]), int(n[1, 0]), int(n[1, 1])))
        for value, n in groups.items()
    )
