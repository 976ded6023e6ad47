"""One check: a window of the prediction log against the champion's reference. Reads; decides and writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from kedge import bundle
from kedge.bundle import Manifest
from kedge.drift import Comparison, Profile, compare, count
from kedge.drift.html_view import Histogram, histogram
from kedge.errors import DataError, NothingServed
from kedge.monitoring import adopted, estimate, performance, quarantine
from kedge.monitoring.adopted import Basis
from kedge.monitoring.baseline import NOTHING, Baseline, estimated
from kedge.monitoring.estimate import Estimate
from kedge.monitoring.history import Champion, champion, retrainings
from kedge.monitoring.performance import Performance, Reference
from kedge.monitoring.window import Labelled, Window, comparable, floats, labelled, of_version, served
from kedge.policy import Policy
from kedge.records import Record, quarantined_windows
from kedge.store import Store
from kedge.tables import log, snapshot

MAX_DRAWN = 24
"""Drifted columns the page draws."""
TRAINING, SEASON = "training rows", "the same hours of earlier weeks"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Columns of the window against the reference's."""

    verdict: str
    """``compared`` or ``too few rows``, which is never "no drift"."""
    drifted: tuple[str, ...] = ()
    drifted_importance: float = 0.0
    """Share of the model's importance that drifted."""
    against: str = TRAINING
    """What the window was compared with: those, or the same hours of earlier weeks."""
    design_effects: Mapping[str, float] = field(default_factory=dict)
    """Of rows that depend on each other, by column; empty: rows count as independent."""
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    """Of the drifted columns, the worst first: labels, reference, window."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Every number, by column."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check saw."""

    model: str
    champion: Champion
    start: datetime
    end: datetime
    rows: int
    """Rows of the window, whoever answered them."""
    inputs: Drift
    """Features, over all rows of the window."""
    scores: Drift
    """``_score``, over the champion's own rows."""
    corrupt: tuple[str, ...] = ()
    """Why the feed counts as corrupt, in words; empty: it does not."""
    performance: Performance
    estimate: Estimate | None = None
    trained_until: datetime | None = None
    """Time of the newest row the champion was trained on."""
    new_labels: int | None = None
    """Labels that became known since then, or since the last retraining; None: not asked for."""


def check(policy: Policy, store: Store, history: Sequence[Record], window: Window) -> Check:
    """Look at one window.

    Features are compared over all rows of the window, whichever bundle answered; scores, labels and the estimate are
    the champion's own. The champion is who the records say: asking the registry would take longer than the check.

    Args:
        policy: Of the model.
        store: Holds the log and the bundles.
        history: All records of the model.
        window: Which rows.

    Raises:
        NothingServed: no bundle was ever promoted.
        BundleError: the champion's bundle is missing or was altered.
        DataError, StoreError: the log cannot be read, or is not this policy's.
    """
    serving = champion(history)
    if serving is None:
        raise NothingServed(
            f"model {policy.name} in {store.url}: no bundle was promoted yet, so there is nothing to watch; "
            "`kedge submit` trains and releases a first one"
        )
    of_another = serving.bundle == adopted.BUNDLE
    own_version = None if of_another else serving.bundle
    manifest: Manifest | Basis
    if of_another:
        manifest, profile = adopted.reference(store, policy, history, window)
    else:
        manifest, profile = _reference(store, policy.name, serving.bundle)
    rows = served(store, policy, window)
    own = of_version(rows, own_version)
    before = estimated(store, policy, window, profile)
    current = _counted(profile, rows, comparable(policy))
    inputs = _compared(policy, manifest, before.reference or profile, current, before)
    # A feed that has been broken for weeks is still broken: the quarantine asks the training rows, not those weeks.
    trained = _compared(policy, manifest, profile, current, before) if before.reference else inputs
    scores = _counted(profile, own, ["_score"])
    known = labelled(store, policy, window, own_version, quarantined_windows(store, policy.name))
    reference = _loss_when_made(manifest)
    limits = policy.monitor.performance
    newest_row, labels_until = _trained(store, policy, manifest)
    return Check(
        model=policy.name,
        champion=serving,
        start=window.start,
        end=window.end,
        rows=rows.num_rows,
        inputs=_drift(inputs, before.reference or profile, current, before, _waits(manifest)),
        scores=_drift(_compared(policy, manifest, profile, scores), profile, scores),
        corrupt=quarantine.findings(policy, rows, trained.features) if inputs.verdict == "compared" else (),
        performance=_judged(policy, known, reference),
        estimate=estimate.expect(
            policy.model,
            floats(own["_score"]),
            estimate.recorded(manifest.metrics),
            reference,
            limits,
            policy.monitor.min_rows,
        ),
        trained_until=newest_row,
        new_labels=_new_labels(store, policy, history, labels_until, window.end),
    )


def _reference(store: Store, model: str, bundle_id: str) -> tuple[Manifest, Profile]:
    with tempfile.TemporaryDirectory(prefix="kedge-monitor-") as folder:
        found = bundle.fetch(store, model, bundle_id, Path(folder))
        return found.manifest, Profile.from_json(found.profile())


def _counted(profile: Profile, rows: pa.Table, names: list[str]) -> Profile:
    """The window's rows on the reference's edges, of the columns that both have."""
    both = profile.select([name for name in names if name in profile.columns])
    return count(both, rows.select(list(both.columns)).to_batches())


def _compared(
    policy: Policy, manifest: Manifest | Basis, reference: Profile, current: Profile, before: Baseline = NOTHING
) -> Comparison:
    importance = {name: manifest.importance.get(name, 0.0) for name in current.columns} if manifest.importance else None
    return compare(
        reference.select(list(current.columns)),
        current,
        alpha=policy.monitor.drift.alpha,
        min_psi=policy.monitor.drift.min_psi,
        min_rows=policy.monitor.min_rows,
        importance=importance,
        design_effects=before.design_effects,
    )


def _drift(
    seen: Comparison, reference: Profile, current: Profile, before: Baseline = NOTHING, waits: str = ""
) -> Drift:
    if waits:
        return Drift(verdict=waits, detail=seen.to_dict() | {"verdict": waits})
    return Drift(
        verdict=seen.verdict,
        drifted=tuple(seen.drifted),
        drifted_importance=float(seen.drifted_importance),
        against=SEASON if before.reference else TRAINING,
        design_effects=before.design_effects,
        histograms=_drawn(reference, current, seen.drifted[:MAX_DRAWN]),
        detail=seen.to_dict(),
    )


def _drawn(reference: Profile, current: Profile, names: Sequence[str]) -> dict[str, Histogram]:
    pairs = {name: histogram(reference.columns[name], current.columns[name]) for name in names}
    return {name: pair for name, pair in pairs.items() if pair is not None}


def _waits(manifest: Manifest | Basis) -> str:
    return manifest.waits if isinstance(manifest, Basis) else ""


def _judged(policy: Policy, known: Labelled, reference: Reference | None) -> Performance:
    return performance.judge(
        policy.model, known.scores, known.labels, reference, policy.monitor.performance, newest=known.newest
    )


def _loss_when_made(manifest: Manifest | Basis) -> Reference | None:
    loss, rows = manifest.metrics.get("loss"), manifest.metrics.get("rows")
    return Reference(loss=loss, rows=int(rows)) if loss is not None and rows else None


def _trained(store: Store, policy: Policy, manifest: Manifest | Basis) -> tuple[datetime, datetime]:
    """Time of the newest row of the champion's snapshot, and until when labels were in it; if the snapshot was deleted,
    when the bundle was made."""
    try:
        taken = snapshot.load(store, policy.name, manifest.snapshot)
    except DataError:
        return manifest.created, manifest.created
    return taken.newest or taken.end, taken.end


def _new_labels(
    store: Store, policy: Policy, history: Sequence[Record], labels_until: datetime, end: datetime
) -> int | None:
    """Counted only where the policy asks: it reads every label since the last training."""
    if policy.monitor.triggers.new_labels is None:
        return None
    tried = [one.time for one in retrainings(history, end) if one.time < end]
    since = max([labels_until, *tried])
    return log.read_labelled(store, policy, since, end, columns=["_id"]).num_rows if since < end else 0
