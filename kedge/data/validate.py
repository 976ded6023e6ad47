"""From a snapshot as it came to a snapshot of good rows, with a page about the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge import pages
from kedge.data import checks, report
from kedge.data.checks import Checker, Findings
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.steps import say
from kedge.store import Store, write_file
from kedge.tables import snapshot
from kedge.tables.columns import FAULT, ID
from kedge.tables.snapshot import Snapshot


def run(policy: Policy, store: Store, fingerprint: str, report_path: Path | None = None) -> str:
    """Leave out invalid rows and those not labelled yet, report them, and return the fingerprint of the snapshot left.

    A snapshot without such rows is its own result. The page is written whether or not the rows pass, to
    ``reports/<model>/validate-<fingerprint>.html`` in the store and to ``report_path``.

    Raises:
        DataError: too many invalid rows, a column without any value, or one class only; all of it in one message.
        StoreError: the store refused.
    """
    taken = snapshot.load(store, policy.name, fingerprint)
    findings = _checked(store, taken, policy)
    faults = refusal(findings, policy)
    for note in findings.notes:
        say(f"validate: {note}")
    page = report.build(policy, taken, findings, faults)
    key = pages.keep(store, policy.name, f"validate-{fingerprint}.html", page)
    if report_path is not None:
        write_file(report_path, page.encode())
    if faults:
        raise DataError(_message(policy, taken, findings, faults, f"{store.url}/{key}"))
    if not len(findings.invalid) and not len(findings.unlabelled):
        return fingerprint
    if invalid := len(findings.invalid):
        say(f"validate: {invalid:,} of {findings.labelled:,} rows ({findings.share:.2%}) are invalid: left out")
    good = np.ones(findings.rows, bool)
    good[findings.invalid] = False
    good[findings.unlabelled] = False
    return snapshot.derive(store, taken, _kept(store, taken, good), int(good.sum())).fingerprint


def _checked(store: Store, taken: Snapshot, policy: Policy) -> Findings:
    repeats = np.empty(0, np.int64)
    if ID in taken.columns:
        names = [name for name in (ID, policy.model.target, FAULT) if name in taken.columns]
        repeats = checks.repeated_ids(lambda: snapshot.blocks(store, taken, names), policy.model)
    checker = Checker(policy.model, repeats)
    for rows in snapshot.blocks(store, taken, provenance=True):
        checker.add(rows)
    return checker.findings(taken.target_values)


def _kept(store: Store, taken: Snapshot, good: NDArray[np.bool_]) -> Iterator[pa.Table]:
    """The good rows, without what is wrong with others."""
    start = 0
    for rows in snapshot.blocks(store, taken, provenance=True):
        kept = rows.filter(pa.array(good[start : start + rows.num_rows]))
        start += rows.num_rows
        yield kept.drop_columns([FAULT]) if FAULT in kept.column_names else kept


def refusal(findings: Findings, policy: Policy) -> list[str]:
    """Why these rows may not be trained on; empty if they may, less the invalid ones. Pure."""
    faults = list(findings.faults)
    allowed = policy.data.max_bad_row_share
    if findings.share > allowed:
        faults.insert(
            0,
            f"{len(findings.invalid):,} of {findings.labelled:,} rows ({findings.share:.2%}) are invalid; "
            f"data.max_bad_row_share allows {allowed:.2%}",
        )
    return faults


def _message(policy: Policy, taken: Snapshot, findings: Findings, faults: list[str], page: str) -> str:
    lines = [f"snapshot {taken.fingerprint} of {policy.name} ({taken.source}) is not fit to train on:"]
    lines += [f"  {fault}" for fault in faults]
    for failure in findings.failures[:20]:
        column = policy.data.id_column if failure.column == "_id" else failure.column
        what = f"column {column!r} must be {failure.rule}" if column else "a value cannot be read"
        count = f"{len(failure.rows):,} row{'s' if len(failure.rows) > 1 else ''}"
        first = checks.place(findings.shown[int(failure.rows[0])])
        lines.append(f"  {count}: {what}, saw {', '.join(failure.seen)}; first in {first}")
    return "\n".join([*lines, f"  all of it: {page}"])
