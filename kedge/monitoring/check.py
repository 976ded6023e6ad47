"""One check: a window of the prediction log against the champion's reference. Reads; decides and writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from kedge import bundle
from kedge.bundle import Manifest
from kedge.drift import Comparison, Profile, compare, count
from kedge.drift.html_view import Histogram, histogram
from kedge.errors import DataError, NothingServed
from kedge.measure import Floats
from kedge.monitoring import adopted, advice, estimate, fairness, outcomes, performance, probing, quarantine
from kedge.monitoring.adopted import Basis
from kedge.monitoring.baseline import NOTHING, Baseline, estimated
from kedge.monitoring.cohort import NOTHING_JUDGED, in_time_order
from kedge.monitoring.estimate import Calibration
from kedge.monitoring.outcomes import Outcomes
from kedge.monitoring.probing import Probe
from kedge.monitoring.window import Served, scores_of, served
from kedge.policy import Policy, cron
from kedge.records import (
    ADOPTED,
    Breach,
    Champion,
    ChangedPair,
    Checked,
    Drift,
    Estimate,
    Fairness,
    Interval,
    ModelState,
    Performance,
    Reference,
    Window,
)
from kedge.records.checked import TRAINING, PerformanceVerdict
from kedge.records.cohort import Cohort
from kedge.store import Store
from kedge.tables import log, snapshot
from kedge.tables import scores as score_columns
from kedge.tables.snapshot import Snapshot

NOT_COMPARED = Drift(verdict="too few rows")
MAX_DRAWN = 24
"""Drifted columns the page draws."""
BATCH_ROWS = 65_536
"""Counted at a time."""
SEASON = "the same hours of earlier weeks"
SIGNALS = 5
"""What a check calls without a label, or on the labels alone: columns, pairs, scores, outcomes, the estimate."""


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
    outcomes: Drift = NOT_COMPARED
    """``_label``, over the judged rows."""
    nan_scores: int = 0
    """The champion's rows of the window whose score is no finite number."""
    corrupt: tuple[Breach, ...] = ()
    """Why the feed counts as corrupt; empty: it does not."""
    cohort: Cohort = NOTHING_JUDGED
    """The rows that became due since the last verdict, in sums."""
    performance: Performance
    """The same rows against the champion's reference."""
    estimate: Estimate | None = None
    fairness: Fairness | None = None
    """None: the policy names no protected column."""
    trained_until: datetime | None = None
    """Time of the newest row the champion was trained on."""
    new_labels: int | None = None
    """Labels that became known since then, or since the last retraining; None: not asked for."""
    reference_cost: float | None = None
    """What a row cost on the champion's holdout, in wrong decisions; None: not known."""
    reference_rows: int = 0
    """Rows of that holdout."""
    trained_rows: int = 0
    """Rows of the champion's snapshot; 0: not known."""
    warnings: tuple[str, ...] = ()
    """What people should know of the labels and scores, in words; it changes no decision."""


@dataclass(frozen=True, kw_only=True)
class ChampionReference:
    """What a champion is held against: figures and profile of rows it was not trained on."""

    profile: Profile
    loss: Reference | None
    importance: Mapping[str, float] = field(default_factory=dict)
    calibration: Calibration | None = None
    constant_loss: float | None = None
    """Mean loss of the best constant."""
    trained_until: datetime | None = None
    cost: float | None = None
    """What a row cost on the rows held out, in wrong decisions."""
    trained_rows: int = 0
    """Rows of its snapshot; 0: not known."""
    waits: str = ""
    """Why there is nothing to compare with yet, in words."""
    metrics: Mapping[str, Interval] = field(default_factory=dict)
    """The policy's metrics on the rows that its release was judged on, by name."""
    other_loss: str = ""
    """That it was trained for another loss than the policy has now, in words."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a check looks at."""

    champion: Champion
    window: Window
    served: Served
    """The window's predictions, counted on the reference's edges; the champion's own are those of its version."""
    outcomes: Outcomes
    baseline: Baseline = NOTHING
    last_breaches: tuple[Breach, ...] = ()
    """Why the check before found the feed corrupt."""
    accepted: tuple[Breach, ...] = ()
    """What a person said changed for good, and so quarantines no more."""
    new_labels: int | None = None
    before: Checked | None = None
    """The check before."""
    evidence: tuple[Floats, Floats] | None = None
    """Scores and labels of the newest judged rows, by which metrics are measured; None: those of this cohort."""


def check(policy: Policy, store: Store, state: ModelState, window: Window, probe: Probe | None = None) -> Check:
    """Look at one window: :func:`read`, then :func:`observe`; raises what reading does."""
    return observe(policy, *read(policy, store, state, window, probe))


def level(policy: Policy) -> float:
    """Level of each signal in one check: ``monitor.drift.alpha`` over the signals of all checks of 30 days.

    Bonferroni's bound holds however checks depend on each other: windows that overlap share rows, and all checks one
    reference.

    >>> from kedge import policy as policies
    >>> rules = {"model": {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}}
    >>> daily = {"data": {"source": {"format": "log"}}, "monitor": {"schedule": "0 0 * * *"}}
    >>> round(level(policies.parse({**rules, **daily})), 6)
    0.000333
    """
    return policy.monitor.drift.alpha / (SIGNALS * cron.times_in_30_days(policy.monitor.schedule))


def read(
    policy: Policy, store: Store, state: ModelState, window: Window, probe: Probe | None = None
) -> tuple[ChampionReference, Rows]:
    """Read what a check of one window looks at.

    The champion is who the records say: asking the registry would take longer than the check.

    Args:
        policy: Of the model.
        store: Holds the log and the bundles.
        state: Of the model when the window ended, without this check.
        window: Which rows.
        probe: Fits what a retraining would have made, asked while the error is risen; None: never.

    Raises:
        NothingServed: no bundle was ever promoted.
        BundleError: the champion's bundle is missing or was altered.
        DataError, StoreError: the log cannot be read, or is not this policy's.
    """
    serving = state.champion
    if serving is None:
        raise NothingServed(
            f"model {policy.name} in {store.url}: no bundle was promoted yet when the window ended "
            f"({window.end:%Y-%m-%d %H:%M} UTC), so there is nothing to watch; `kedge submit` trains and releases a "
            "first one, and the next check watches one released since"
        )
    own = None if serving.bundle == ADOPTED else serving.bundle
    delay, estimated_delays = outcomes.due_delay(policy, store, state.checks, window.end)
    manifest: Manifest | Basis
    if own is None and state.adopted is not None:
        manifest, profile = adopted.reference(store, policy, state.adopted, window, delay)
    else:
        manifest, profile = _bundled(store, policy.name, serving.bundle)
    other_loss = _other_loss(policy, manifest, serving.bundle) if isinstance(manifest, Manifest) else ""
    trained = _snapshot(store, policy, manifest)
    newest_row, labels_until, snapshot_rows = _trained(manifest, trained)
    reference = ChampionReference(
        profile=profile,
        loss=None if other_loss else _loss_when_made(manifest),
        importance=manifest.importance,
        calibration=estimate.recorded(manifest.metrics),
        constant_loss=None if other_loss else manifest.metrics.get("constant_loss"),
        trained_until=newest_row,
        cost=manifest.metrics.get("cost", manifest.metrics.get("wrong")),
        trained_rows=snapshot_rows,
        waits=manifest.waits if isinstance(manifest, Basis) else "",
        metrics=_when_released(policy, state, serving.bundle),
        other_loss=other_loss,
    )
    seen = served(store, policy, window, profile, own)  # first: it reads the widest rows, and keeps the least
    probes = probe is not None and probing.due(policy, probing.before(state))
    found = outcomes.read(
        store,
        policy,
        serving,
        own,
        state.checks,
        window.end,
        delay,
        estimated_delays,
        state.quarantined,
        features=list(policy.model.features) if probes else (),
    )
    judged = bool(policy.metrics or probes) and found.judge(policy).verdict == "judged"
    if judged and probe is not None and found.features is not None:
        probed = probing.scores(policy, store, state, found, probe, trained)
        found = replace(found, probe=probed)
    rows = Rows(
        champion=serving,
        window=window,
        served=seen,
        outcomes=found,
        baseline=estimated(store, policy, window, profile, state.quarantined),
        last_breaches=state.last_breaches,
        accepted=state.accepted_breaches,
        new_labels=_new_labels(store, policy, state, labels_until, window.end),
        before=state.check.data if state.check is not None else None,
        evidence=outcomes.newest_judged(store, policy, serving, own, state, window.end, found.span)
        if judged and policy.metrics
        else None,
    )
    return reference, rows


def observe(policy: Policy, reference: ChampionReference, rows: Rows) -> Check:
    """What the rows say. Pure: ``kedge replay`` calls it on tables.

    Features are compared over all rows of the window, whichever bundle answered; scores, outcomes and the estimate are
    the champion's own. Of a corrupt window no outcome is judged.
    """
    profile, before, window = reference.profile, rows.baseline, rows.window
    own, current = rows.served.own, rows.served.profile
    inputs = _compared(policy, reference, before.reference or profile, current, before)
    # A feed that has been broken for weeks is still broken: the quarantine asks the training rows, not those weeks.
    trained = _compared(policy, reference, profile, current, before) if before.reference else inputs
    served_scores = scores_of(policy, own)
    said = score_columns.columns(policy.model, served_scores)
    scores = _counted(profile, pa.table(said), list(said))
    expected = estimate.expect(
        policy.model,
        served_scores,
        reference.calibration,
        reference.loss,
        min_rows=policy.monitor.min_rows,
        level=level(policy),
        min_increase=policy.monitor.performance.min_increase,
    )
    nan_scores = int((~score_columns.finite(served_scores)).sum())
    del served_scores, said  # at millions of rows each column counts
    broken = quarantine.breaches(policy, rows.served.outside, trained.features) if inputs.verdict == "compared" else ()
    corrupt = quarantine.counted(broken, rows.last_breaches, rows.accepted)
    due = rows.outcomes.without(window.start, window.end) if corrupt else rows.outcomes
    cohort = due.judge(policy, reference.constant_loss)
    judged = _rows_judged(policy, due, cohort)
    return Check(
        model=policy.name,
        champion=rows.champion,
        start=window.start,
        end=window.end,
        rows=rows.served.rows,
        inputs=_drift(inputs, before.reference or profile, current, before, reference.waits),
        scores=_drift(_compared(policy, reference, profile, scores), profile, scores),
        outcomes=_outcomes(policy, reference, judged[1]),
        nan_scores=nan_scores,
        corrupt=corrupt,
        cohort=cohort,
        performance=_performance(policy, due, cohort, judged, reference, None if corrupt else rows.evidence),
        estimate=expected,
        fairness=fairness.follow(policy, due, cohort, rows.before, rows.champion.tenure_id, window.end),
        trained_until=reference.trained_until,
        new_labels=rows.new_labels,
        reference_cost=reference.cost if reference.loss is not None else None,
        reference_rows=reference.loss.rows if reference.loss is not None else 0,
        trained_rows=reference.trained_rows,
        warnings=(
            *filter(None, [reference.other_loss]),
            *advice.of_scores(nan_scores, own.num_rows),
            *advice.of_labels(policy, due, cohort),
            *advice.of_protected(due.unwatched),
        ),
    )


def _bundled(store: Store, model: str, bundle_id: str) -> tuple[Manifest, Profile]:
    with tempfile.TemporaryDirectory(prefix="kedge-monitor-") as folder:
        found = bundle.fetch(store, model, bundle_id, Path(folder))
        return found.manifest, Profile.from_json(found.profile())


def _counted(profile: Profile, rows: pa.Table, names: list[str]) -> Profile:
    """The window's rows on the reference's edges, of the columns that both have."""
    both = profile.select([name for name in names if name in profile.columns])
    return count(both, rows.select(list(both.columns)).to_batches(max_chunksize=BATCH_ROWS))


def _compared(
    policy: Policy,
    champion: ChampionReference,
    reference: Profile,
    current: Profile,
    before: Baseline = NOTHING,
    min_rows: int | None = None,
) -> Comparison:
    importance = {name: champion.importance.get(name, 0.0) for name in current.columns} if champion.importance else None
    return compare(
        reference.select(list(current.columns)),
        current,
        alpha=level(policy),
        min_psi=policy.monitor.drift.min_psi,
        min_rows=policy.monitor.min_rows if min_rows is None else min_rows,
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
        pairs=tuple(
            ChangedPair(
                first=pair.first,
                second=pair.second,
                reference_correlation=pair.reference_correlation,
                current_correlation=pair.current_correlation,
            )
            for pair in seen.pairs[:MAX_DRAWN]
        ),
        against=SEASON if before.reference else TRAINING,
        design_effects=before.design_effects,
        histograms=_drawn(reference, current, seen.drifted[:MAX_DRAWN]),
        detail=seen.to_dict(),
    )


def _drawn(reference: Profile, current: Profile, names: Sequence[str]) -> dict[str, Histogram]:
    pairs = {name: histogram(reference.columns[name], current.columns[name]) for name in names}
    return {name: pair for name, pair in pairs.items() if pair is not None}


def _outcomes(policy: Policy, champion: ChampionReference, labels: Floats) -> Drift:
    """The outcomes of the judged rows against those that the champion was judged on."""
    profile = champion.profile
    if "_label" not in profile.columns:
        return Drift(verdict="no reference")
    counted = _counted(profile, pa.table({"_label": score_columns.labels(policy.model, labels)}), ["_label"])
    seen = _compared(policy, champion, profile, counted, min_rows=policy.monitor.performance.min_labels)
    return _drift(seen, profile, counted)


def _rows_judged(policy: Policy, due: Outcomes, cohort: Cohort) -> tuple[Floats, Floats]:
    """Scores and labels; empty without a verdict."""
    if cohort.verdict != "judged":
        return due.scores[:0], np.empty(0)
    return in_time_order(policy, due.scores, due.labels, due.times, due.late)


def _performance(
    policy: Policy,
    due: Outcomes,
    cohort: Cohort,
    judged: tuple[Floats, Floats],
    reference: ChampionReference,
    evidence: tuple[Floats, Floats] | None,
) -> Performance:
    if cohort.verdict == "judged":
        limits = policy.monitor.performance
        measured = performance.judge(policy.model, *judged, reference.loss, limits, newest=due.newest)
        spans = [judged] if evidence is None else [judged, evidence]
        return performance.with_metrics(measured, policy, spans, reference.metrics) if measured.loss else measured
    known = cohort.labelled + cohort.absent + cohort.late
    verdict: PerformanceVerdict = "labels not due" if cohort.verdict == "not due" else cohort.verdict
    return Performance(verdict=verdict, rows=known, reference=reference.loss, newest=due.newest)


def _other_loss(policy: Policy, manifest: Manifest, bundle_id: str) -> str:
    """What to say where the champion was trained for another loss: the figures of when it was made are no yardstick.

    Raises:
        DataError: it predicts something else, so that its scores cannot be judged by this policy.
    """
    model, known = policy.model, manifest.classes
    if manifest.task != model.task or known != model.classes[: len(known)]:
        theirs, ours = (
            f"{task} ({', '.join(map(str, classes))})" if classes else task
            for task, classes in ((manifest.task, known), (model.task, model.classes))
        )
        raise DataError(
            f"{policy.name}: the policy says {ours}, champion {bundle_id[:12]} predicts {theirs}: its answers cannot "
            "be judged by this policy; train and release a model of it with `kedge submit`, and check the champion by "
            "the policy that it was trained by until then"
        )
    if manifest.objective == model.objective:
        return ""
    return (
        f"champion {bundle_id[:12]} was trained for the loss {manifest.objective}, the policy says {model.objective}: "
        "what it lost when it was made is no yardstick until a model of this policy is released"
    )


def _loss_when_made(manifest: Manifest | Basis) -> Reference | None:
    loss, rows = manifest.metrics.get("loss"), manifest.metrics.get("rows")
    return Reference(loss=loss, rows=int(rows)) if loss is not None and rows else None


def _when_released(policy: Policy, state: ModelState, bundle_id: str) -> dict[str, Interval]:
    """The policy's metrics as the bundle's evaluation measured them; those that it did not are left out."""
    judged = state.evaluation(bundle_id)
    figures = judged.data.metrics if judged is not None else {}
    ends = {each.label: [figures.get(f"{each.label}{end}") for end in ("", "_low", "_high")] for each in policy.metrics}
    return {
        name: Interval(value=value, low=low, high=high)
        for name, (value, low, high) in ends.items()
        if value is not None and low is not None and high is not None
    }


def _snapshot(store: Store, policy: Policy, manifest: Manifest | Basis) -> Snapshot | None:
    """What the champion was trained on; None: it was deleted."""
    try:
        return snapshot.load(store, policy.name, manifest.snapshot)
    except DataError:
        return None


def _trained(manifest: Manifest | Basis, taken: Snapshot | None) -> tuple[datetime, datetime, int]:
    """Time of the newest row of the champion's snapshot, until when labels were in it, and its rows; if the snapshot
    was deleted, until when the bundle was trained, and 0."""
    if taken is not None:
        return taken.newest or taken.end, taken.end, taken.rows
    until = manifest.created if isinstance(manifest, Basis) else manifest.trained_until or manifest.created
    until = until or datetime.fromtimestamp(0, UTC)
    return until, until, 0


def _new_labels(store: Store, policy: Policy, state: ModelState, labels_until: datetime, end: datetime) -> int | None:
    """Counted only where the policy asks: it reads every label since the last training."""
    if policy.monitor.triggers.new_labels is None:
        return None
    tried = [each.time for each in state.retrainings if each.time < end]
    since = max([labels_until, *tried])
    return log.read_labelled(store, policy, since, end, columns=["_id"]).num_rows if since < end else 0
