"""Score champion and challenger on the same newest rows and hold the difference against the gates."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge import bundle, clock, records, steps
from kedge import policy as policies
from kedge.bundle import Bundle
from kedge.errors import DataError
from kedge.evaluation import gates
from kedge.evaluation.compare import McNemar, mcnemar, paired
from kedge.evaluation.evaluation import Evaluation, Scored, metrics
from kedge.evaluation.gates import Measured, Slice
from kedge.evaluation.page import page
from kedge.measure import Floats, holdout_start, losses, wrong
from kedge.policy import Policy
from kedge.records import Record
from kedge.registry import Registry
from kedge.store import Store
from kedge.tables import snapshot

MIN_ROWS = 4
"""The paired test needs two blocks of two rows."""


def run(
    policy: Policy, store: Store, registry: Registry, run_name: str, fingerprint: str, bundle_id: str
) -> Evaluation:
    """Judge a challenger; write the page and the ``evaluated`` record. If a gate failed, the run ends as "rejected".

    Rows that the champion was trained on are left out where enough others remain: on them it would look better than
    it is.

    Raises:
        BundleError: a bundle is missing, altered, or made by other libraries.
        DataError: no such snapshot, hardly a row held out, or it lacks a column the champion needs.
        RegistryError: the registry cannot be reached.
    """
    champion_id = registry.alias(policy.name, "champion")
    table = snapshot.read(store, snapshot.load(store, policy.name, fingerprint))
    table = table.slice(holdout_start(table.num_rows, policy.train.holdout_share))
    with tempfile.TemporaryDirectory(prefix="kedge-evaluate-") as cache:
        challenger = bundle.fetch(store, policy.name, bundle_id, Path(cache))
        champion = bundle.fetch(store, policy.name, champion_id, Path(cache)) if champion_id else None
        table, note = _fair_rows(policy, store, champion, table)
        found = judge(policy, challenger, champion, table, note)
    _keep(policy, store, run_name, found)
    return found


def judge(policy: Policy, challenger: Bundle, champion: Bundle | None, table: pa.Table, note: str = "") -> Evaluation:
    """Score both on these rows, in time order, and hold the difference against the policy's gates."""
    if table.num_rows < MIN_ROWS:
        raise DataError(
            f"snapshot of {policy.name}: {table.num_rows} rows held out; {MIN_ROWS} is the least a test can be made "
            "on: raise train.holdout_share or wait for more rows"
        )
    label = np.asarray(table.column(policy.model.target).to_numpy(), dtype=np.float64)
    ours, theirs = _scored(policy, challenger, table, label), None
    if champion is not None:
        theirs = _scored(policy, champion, table, label)
    recorded = challenger.manifest.metrics
    guess = recorded["constant_score"]
    constant = losses(policy.model.task, label, np.full(len(label), guess))
    measured = Measured(
        rows=len(label),
        challenger_loss=float(ours.loss.mean()),
        constant_loss=float(constant.mean()),
        paired=paired(theirs.loss, ours.loss) if theirs is not None else None,
        slices=list(_slices(policy, table, ours, theirs)),
    )
    return Evaluation(
        challenger=ours,
        champion=theirs,
        label=label,
        constant_score=guess,
        measured=measured,
        verdicts=gates.judge(policy.gates, measured),
        decisions=_decisions(policy, label, ours, theirs),
        alternatives={name: loss for name, loss in recorded.items() if name.startswith("loss_of_")},
        note=note,
    )


def _scored(policy: Policy, of: Bundle, table: pa.Table, label: Floats) -> Scored:
    try:
        matrix = of.signature.encode(table)
    except DataError as exc:
        raise DataError(
            f"bundle {of.id} of {of.manifest.name} cannot be scored on this snapshot: {exc}; keep the column in the "
            "source until another model is champion"
        ) from exc
    score = of.load_model().score(matrix)
    return Scored(of.id, score, losses(policy.model.task, label, score))


def _fair_rows(policy: Policy, store: Store, champion: Bundle | None, table: pa.Table) -> tuple[pa.Table, str]:
    """The rows that neither model was trained on, and a word about it."""
    if champion is None:
        return table, ""
    try:
        read = snapshot.read(store, snapshot.load(store, policy.name, champion.manifest.snapshot), ["_time"])
    except DataError:
        return table, "The champion's snapshot is gone: it may have been trained on some of these rows."
    share = policies.parse(champion.manifest.policy).train.holdout_share
    last_seen = read.column("_time")[holdout_start(read.num_rows, share) - 1]
    first = int(
        np.searchsorted(
            table.column("_time").to_numpy(), np.datetime64(last_seen.as_py().replace(tzinfo=None)), "right"
        )
    )
    if not first:
        return table, ""
    if table.num_rows - first < policy.gates.min_rows:
        return table, f"The champion was trained on {first:,} of these rows, which favours it; too few others remain."
    return table.slice(first), f"{first:,} held-out rows are left out because the champion was trained on them."


def _slices(policy: Policy, table: pa.Table, ours: Scored, theirs: Scored | None) -> Iterator[Slice]:
    for feature in policy.model.slices:
        column = table.column(feature)
        for value in sorted(column.unique().to_pylist(), key=str):
            rows = _equal(column, value)
            yield Slice(
                feature=feature,
                value="missing" if value is None else _shown(policy, feature, value),
                rows=int(rows.sum()),
                challenger_loss=float(ours.loss[rows].mean()),
                champion_loss=None if theirs is None else float(theirs.loss[rows].mean()),
            )


def _equal(column: pa.ChunkedArray, value: Any) -> Any:
    found = column.is_null() if value is None else pc.fill_null(pc.equal(column, value), False)
    return found.to_numpy()


def _shown(policy: Policy, feature: str, value: Any) -> str:
    return ("true" if value else "false") if policy.model.features[feature].type == "boolean" else str(value)


def _decisions(policy: Policy, label: Floats, ours: Scored, theirs: Scored | None) -> McNemar | None:
    if theirs is None or policy.model.task != "binary":
        return None
    threshold = policy.model.threshold
    return mcnemar(wrong(label, theirs.score, threshold), wrong(label, ours.score, threshold))


def report_key(model: str, bundle_id: str) -> str:
    """Where the page of an evaluation lies in the store."""
    return f"reports/{model}/evaluate-{bundle_id}.html"


def _keep(policy: Policy, store: Store, run_name: str, found: Evaluation) -> None:
    key = report_key(policy.name, found.challenger.bundle)
    store.put(key, page(policy, found).encode())
    data = {
        "bundle": found.challenger.bundle,
        "champion": found.champion.bundle if found.champion else None,
        "run": run_name,
        "passed": found.passed,
        "reasons": found.reasons,
        "gates": [asdict(verdict) for verdict in found.verdicts],
        "metrics": metrics(policy, found),
        "report": key,
    }
    evaluated = records.evaluation_key(found.challenger.bundle, run_name)
    records.append(store, Record(model=policy.name, kind="evaluated", key=evaluated, time=clock.now(), data=data))
    if not found.passed:
        steps.finish(
            store, policy.name, run_name, "rejected", step="evaluate", reason="; ".join(found.reasons),
            bundle=found.challenger.bundle,
        )  # fmt: skip
