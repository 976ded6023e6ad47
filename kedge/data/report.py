"""The page about a snapshot's rows: what was wrong, how often, where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from kedge.data.checks import MAX_SHOWN, Failure, Findings, place, shown_value
from kedge.policy import Model, Policy
from kedge.report import facts, page, section, table
from kedge.tables.columns import FAULT
from kedge.tables.snapshot import Snapshot

MAX_VALUE = 200


def build(policy: Policy, taken: Snapshot, findings: Findings, faults: list[str]) -> str:
    """The page as HTML; at most 200 invalid rows are shown one by one, the rest is counted."""
    return page(
        f"{policy.name}: rows checked",
        section("Verdict", _verdict(findings, faults), _facts(policy, taken, findings)),
        *([section("Why these rows are not trained on", *faults)] if faults else []),
        *([section("Is this meant?", *findings.notes)] if findings.notes else []),
        section("Rules broken", _rules(findings)),
        section("Invalid rows", _rows(policy.model, findings)),
        section("Columns", _columns(policy, findings)),
        subtitle=f"Snapshot {taken.fingerprint} of {taken.source}",
    )


def _verdict(findings: Findings, faults: list[str]) -> str:
    if faults:
        return "Refused: nothing is trained on these rows."
    invalid, unlabelled = len(findings.invalid), len(findings.unlabelled)
    less = [f"{invalid:,} invalid {'row' if invalid == 1 else 'rows'}"] if invalid else []
    less += [f"{unlabelled:,} not labelled yet"] if unlabelled else []
    return f"Good, less {' and '.join(less)} left out." if less else "Good: every row is what the policy says."


def _facts(policy: Policy, taken: Snapshot, findings: Findings) -> Markup:
    return facts(
        {
            "rows": findings.rows,
            "not labelled yet": len(findings.unlabelled),
            "invalid": len(findings.invalid),
            "share": f"{findings.share:.2%}",
            "allowed": f"{policy.data.max_bad_row_share:.2%}",
            "oldest": taken.oldest,
            "newest": taken.newest,
            "as of": taken.end,
            "source version": taken.version,
        }
    )


def _rules(findings: Findings) -> Markup | str:
    if not findings.failures:
        return "None."
    return table(
        ("column", "must be", "rows", "seen", "first in"),
        [
            (
                failure.column or "any",
                failure.rule,
                len(failure.rows),
                _seen(failure),
                place(findings.shown[int(failure.rows[0])]),
            )
            for failure in findings.failures
        ],
    )


def _rows(model: Model, findings: Findings) -> Markup | str:
    invalid = findings.invalid
    if not len(invalid):
        return "None."
    shown = invalid[:MAX_SHOWN]
    broken: dict[int, list[str]] = {int(index): [] for index in shown}
    for failure in findings.failures:
        for index in failure.rows[np.isin(failure.rows, shown)]:
            broken[int(index)].append(_broken(model, findings.shown[int(index)], failure))
    lines = table(
        ("row", "what is wrong"), [(place(findings.shown[index]), "; ".join(said)) for index, said in broken.items()]
    )
    more = len(invalid) - len(shown)
    return lines if not more else lines + Markup("<p>and {} more</p>").format(f"{more:,}")


def _broken(model: Model, row: Mapping[str, Any], failure: Failure) -> str:
    if not failure.column:
        return _short(str(row[FAULT]))
    value = shown_value(model, failure.column, row[failure.column])
    return f"{failure.column} must be {failure.rule}, is {_short(value)}"


def _columns(policy: Policy, findings: Findings) -> Markup:
    missing = {name: findings.missing[name] for name in policy.model.features}
    return table(
        ("column", "type", "missing", "share missing"),
        [
            (name, feature.type, missing[name], missing[name] / findings.rows)
            for name, feature in policy.model.features.items()
        ],
    )


def _seen(failure: Failure) -> str:
    return ", ".join(_short(value) for value in failure.seen)


def _short(text: str) -> str:
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
