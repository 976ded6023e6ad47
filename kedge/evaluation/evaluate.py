"""Score champion and challenger on the same newest rows and hold the difference against the gates."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kedge import bundle, clock, pages, records, steps
from kedge.bundle import Bundle, Predictor
from kedge.errors import DataError, TransformError
from kedge.evaluation.evaluation import MIN_ROWS, Evaluation, measure, metrics
from kedge.evaluation.page import page
from kedge.measure import Floats, outcomes
from kedge.policy import Policy
from kedge.records import Checked, Evaluated, Gate, Record
from kedge.store import Store
from kedge.tables import scores, snapshot


def run(policy: Policy, store: Store, run_name: str, fingerprint: str, bundle_id: str) -> Evaluation:
    """Judge a challenger; write the page and the ``evaluated`` record. One that did not pass ends the run.

    A challenger is judged by the fit that never read the held-out rows, on those of them that are newer than every row
    the champion was trained on. Where too few are, all are scored for the page, and the end is "inconclusive".

    Raises:
        BundleError: a bundle is missing, altered, or made by other libraries.
        TransformError: own code scores golden rows otherwise here than at training: it hangs on more than the row.
        DataError: no such snapshot, hardly a row held out, or it lacks a column the champion needs.
        StoreError: a record cannot be read, or written.
    """
    champion_id = records.read_state(store, policy.name).champion_bundle
    kept = snapshot.load(store, policy.name, fingerprint)
    label = outcomes(snapshot.read(store, kept, [policy.model.target]), policy.model.target)
    with tempfile.TemporaryDirectory(prefix="kedge-evaluate-") as cache:
        challenger = bundle.fetch(store, policy.name, bundle_id, Path(cache))
        _refuse_other_scores(policy, challenger)
        champion = bundle.fetch(store, policy.name, champion_id, Path(cache)) if champion_id else None
        newest = None if champion is None else _newest_row(store, champion)
        stale = newest is not None and is_stale(policy, newest, kept.end)
        attempt, prove = _attempt(store, policy.name)
        found = judge(
            policy, challenger, champion, snapshot.newest(store, kept, held_out(challenger)), label, newest,
            attempt=attempt, stale=stale, prove_decisions=prove,
        )  # fmt: skip
    _keep(policy, store, run_name, found)
    return found


def judge(
    policy: Policy,
    challenger: Bundle,
    champion: Bundle | None,
    table: pa.Table,
    label: Floats,
    newest: datetime | None = None,
    *,
    attempt: int = 1,
    stale: bool = False,
    prove_decisions: bool = False,
) -> Evaluation:
    """Score both on the held-out rows and hold the difference against the policy's gates.

    Args:
        table: The rows held out, in time order.
        label: Of every row of the challenger's snapshot, of which these are the last.
        newest: Time of the newest row the champion was trained on; None: not known, or there is no champion.
        attempt, stale, prove_decisions: As of :func:`measure`.
    """
    seen = 0 if newest is None else _rows_until(table, newest)
    unseen = table.num_rows - seen
    judged, note = table, ""
    if champion is not None and newest is None:
        note = "The champion's snapshot is gone: it may have been trained on some of these rows."
    elif seen and unseen >= policy.gates.min_rows:
        judged = table.slice(seen)
        note = f"{seen:,} held-out rows are left out because the champion was trained on them."
    elif seen:
        note = f"The champion was trained on {seen:,} of these rows, so that its figures flatter it."
    if judged.num_rows < MIN_ROWS:
        raise DataError(
            f"snapshot of {policy.name}: {judged.num_rows} rows held out; {MIN_ROWS} is the least a test can be made "
            "on: raise train.holdout_share or wait for more rows"
        )
    start = len(label) - judged.num_rows
    theirs = shift = None
    if champion is not None:
        theirs = _score(policy, champion, champion.load_model(), judged)
        shift = np.mean(_score(policy, challenger, challenger.load_model(), judged) - theirs, axis=0)
    found = measure(
        policy,
        label[start:],
        _score(policy, challenger, challenger.load_judged(), judged),
        theirs,
        table=judged,
        earlier_label=label[:start],
        unseen=unseen,
        attempt=attempt,
        stale=stale,
        prove_decisions=prove_decisions,
        agreement=challenger.manifest.agreement,
        bundles=(challenger.id, champion.id if champion is not None else ""),
    )
    recorded = challenger.manifest.metrics
    tried = {name: loss for name, loss in recorded.items() if name.startswith("loss_of_")}
    return replace(found, alternatives=tried, shift=shift, note=note)


def _refuse_other_scores(policy: Policy, challenger: Bundle) -> None:
    """Refuse own code that scores golden rows otherwise here, the last one first, than at training."""
    if challenger.manifest.code is None and challenger.manifest.transform is None:
        return
    predictor, signature = challenger.load_model(), challenger.signature
    difference = bundle.golden_difference(
        challenger, lambda rows: reversed(predictor.score(signature.encode_rows(rows[::-1])))
    )
    if difference > policy.release.smoke_tolerance:
        raise TransformError(
            f"golden rows of bundle {challenger.id[:12]} are scored otherwise than at training, by {difference:.3g}: "
            "the code gives other values in another process, as what it keeps between calls, hash() of texts, the "
            "order of a set, the clock and files do; compute each value from the row alone"
        )


def held_out(trained: Bundle) -> int:
    """How many of the newest rows of its snapshot the judged fit did not read: those it was measured on."""
    holdout = trained.manifest.holdout
    return int(trained.manifest.metrics["rows"]) if holdout is None else holdout.rows


def _score(policy: Policy, of: Bundle, model: Predictor, table: pa.Table) -> Floats:
    try:
        matrix = of.signature.encode(table)
    except DataError as exc:
        raise DataError(
            f"bundle {of.id} of {of.manifest.name} cannot be scored on this snapshot: {exc}; keep the column in the "
            "source until another model is champion"
        ) from exc
    known, classes = of.manifest.classes, policy.model.classes
    if known != classes[: len(known)]:
        raise DataError(
            f"bundle {of.id} of {of.manifest.name} knows the classes {', '.join(map(str, known))}, model.classes has "
            f"{', '.join(map(str, classes))}: a new class goes to the end, and none is taken away"
        )
    return scores.padded(model.score(matrix), len(classes))


def _newest_row(store: Store, champion: Bundle) -> datetime | None:
    """Time of the newest row the champion was trained on; None if that cannot be known any more."""
    manifest = champion.manifest
    if manifest.trained_until is not None:
        return manifest.trained_until
    try:
        times = snapshot.read(store, snapshot.load(store, manifest.name, manifest.snapshot), ["_time"]).column("_time")
    except DataError:
        return None
    newest: datetime = times[len(times) - held_out(champion) - 1].as_py()  # of the only fit
    return newest


def _attempt(store: Store, model: str) -> tuple[int, bool]:
    """Which attempt under one rise this is, and whether it must show better decisions, by the newest check."""
    checks = records.newest(store, model, Checked, 1)
    return attempt_of(checks[-1].data.regret) if checks else (1, False)


def attempt_of(regret: Mapping[str, Any]) -> tuple[int, bool]:
    """The same of the folded numbers of a check; a retraining that no excess asked for is a first attempt."""
    if not regret.get("pending"):
        return 1, False
    return max(1, int(regret["attempts"])), bool(regret["loss_only"])


def is_stale(policy: Policy, newest: datetime, end: datetime) -> bool:
    """Whether a champion whose newest training row is this old may be replaced by one that is no worse."""
    limit = policy.gates.stale_after_seconds or policy.monitor.triggers.max_age_seconds
    return limit is not None and (end - newest).total_seconds() > limit


def _rows_until(table: pa.Table, newest: datetime) -> int:
    """How many rows, which are in time order, are not newer than this."""
    last = np.datetime64(newest.astimezone(UTC).replace(tzinfo=None))
    return int(np.searchsorted(table.column("_time").to_numpy(), last, "right"))


def report_key(model: str, bundle_id: str) -> str:
    """Where the page of an evaluation lies in the store."""
    return pages.key_of(model, _page_name(bundle_id))


def _page_name(bundle_id: str) -> str:
    return f"evaluate-{bundle_id}.html"


def _keep(policy: Policy, store: Store, run_name: str, found: Evaluation) -> None:
    links = {"its training": f"bundles/{policy.name}/{found.challenger.bundle}/report.html"}
    if found.champion:
        links["champion"] = _page_name(found.champion.bundle)
    key = pages.keep(store, policy.name, _page_name(found.challenger.bundle), page(policy, found), links)
    data = _record(policy, run_name, found, key)
    evaluated = records.evaluation_key(found.challenger.bundle, run_name)
    records.append(store, Record(model=policy.name, key=evaluated, time=clock.now(), data=data))
    if found.outcome != "passed":
        more = {"rows_needed": found.rows_needed} if found.outcome == "inconclusive" else {}
        steps.finish(
            store, policy.name, run_name, found.outcome, step="evaluate", reason="; ".join(found.reasons),
            bundle=found.challenger.bundle, **more,
        )  # fmt: skip


def _record(policy: Policy, run_name: str, found: Evaluation, report: str) -> Evaluated:
    return Evaluated(
        bundle=found.challenger.bundle,
        champion=found.champion.bundle if found.champion else None,
        run=run_name,
        outcome=found.outcome,
        passed=found.passed,
        reasons=tuple(found.reasons),
        rows_needed=found.rows_needed,
        gates=tuple(Gate(**vars(verdict), passed=verdict.passed) for verdict in found.verdicts),
        metrics=metrics(policy, found),
        report=report,
    )
