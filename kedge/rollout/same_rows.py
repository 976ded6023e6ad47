"""Both bundles on the same rows of the prediction log, off the request path: what each would have answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge import bundle as bundles
from kedge import decision, measure, metrics, records
from kedge.bundle import Bundle
from kedge.bundle.predictor import Predictor
from kedge.errors import KedgeError
from kedge.measure import Floats
from kedge.policy import Policy
from kedge.policy.metrics import RANGES
from kedge.records import Evaluated
from kedge.rollout.evidence import MAX_ROWS, SPREADS, Differences, Metrics, Paired
from kedge.rollout.model import Rollout
from kedge.rollout.sequential import FEWEST
from kedge.store import Store
from kedge.tables import MIRRORED, coverage, log, scores

MIN_SCALE_ROWS = 50
"""Rows from which a scale is taken: of the scores, or of a regression's losses."""
SCALE_SHARE = 0.9
"""Share of the champion's losses (regression) that lie below the unit of a difference."""
MIN_DUE = 50
"""Rows that are due from which their coverage is looked at."""
MICROSECOND = timedelta(microseconds=1)
DRAWS = 100
"""Of blocks of rows at each look: the standard error of a metric is right to 7 %."""

MAX_LOADED = 4
"""Models that a process keeps: one release has two."""
_LOADED: dict[tuple[str, str], tuple[Bundle, Predictor]] = {}
_SHIFTS: dict[tuple[str, str, str, str], tuple[float, ...] | None] = {}


def paired(
    store: Store, policy: Policy, rollout: Rollout, due: datetime, now: datetime, *, judged: bool
) -> tuple[Paired | None, str]:
    """How both bundles do on the rows that were asked for since the release began; or None, and why not.

    Args:
        due: Rows asked for before it are due.
        now: Outcomes observed later are not known.
        judged: Whether the outcomes that are known stand for the rows that are due; else only scores are compared.

    Raises:
        StoreError: the log cannot be read.
    """
    if rollout.champion is None:
        return None, "there is no champion"
    hidden = [name for name, feature in policy.model.features.items() if feature.privacy != "keep"]
    if hidden:
        rows = _copies(store, policy, rollout, rollout.champion, now)
        if not len(rows):
            return None, f"the log does not hold {', '.join(hidden[:5])} as asked for: privacy; a shadow would do"
        seen = _shift_when_judged(store, policy.name, rollout.bundle, rollout.champion)
        expected = None if seen is None else np.array(seen)
        return _paired(policy, rows, *_of_both(policy, rows), expected, due, judged=judged), ""
    try:
        loaded = [_loaded(store, policy.name, each) for each in (rollout.bundle, rollout.champion)]
    except KedgeError as exc:
        return None, f"a bundle cannot be asked: {exc}"
    absent = {name for bundle, _ in loaded for name in bundle.signature.names} - set(policy.model.features)
    if absent:
        return None, f"the log has no {', '.join(sorted(absent)[:5])}"
    rows = _rows(store, policy, rollout.started, now)
    try:
        candidate, champion = (predictor.score(bundle.signature.encode(rows)) for bundle, predictor in loaded)
        shift = _expected_shift(store, policy, loaded)
    except KedgeError as exc:
        return None, f"the log's rows cannot be scored: {exc}"
    return _paired(policy, rows, np.asarray(candidate), np.asarray(champion), shift, due, judged=judged), ""


def logged(store: Store, policy: Policy, rollout: Rollout, due: datetime, now: datetime) -> tuple[Paired, str]:
    """The same where both scored the same tables, so that the log holds what both said; and why outcomes that are known
    are not judged, in words.

    Raises:
        StoreError: the log cannot be read.
        BundleError: a bundle cannot be asked.
    """
    ours, theirs = (
        log.read_first(
            store,
            policy,
            rollout.started,
            max(rollout.started, now) + MICROSECOND,
            MAX_ROWS,
            version=each,
            known_at=now,
        )
        for each in (rollout.bundle, rollout.champion or "")
    )
    rows = scores.beside(theirs, ours, "_candidate")
    candidate, champion = _of_both(policy, rows)
    known = rows.filter(pc.less(rows["_time"], pa.scalar(due, log.TIME)))
    reason = ""
    if len(known) >= MIN_DUE and policy.labels.absent_means != "negative":
        said = scores.of(known["_score"], len(policy.model.classes))
        reason = coverage.incomplete(policy, said, known["_label"].to_numpy())
    expected = _expected_shift(
        store, policy, [_loaded(store, policy.name, each) for each in (rollout.bundle, rollout.champion or "")]
    )
    return _paired(policy, rows, candidate, champion, expected, due, judged=not reason), reason


def _paired(
    policy: Policy,
    rows: pa.Table,
    candidate: Floats,
    champion: Floats,
    expected: Floats | None,
    due: datetime,
    *,
    judged: bool,
) -> Paired:
    """Rows with what both say of them, compared; without an expected shift the scores are not."""
    classes = len(policy.model.classes)
    candidate, champion = (scores.padded(each.astype(np.float64), classes) for each in (candidate, champion))
    label = rows["_label"]
    if policy.labels.absent_means == "negative":
        label = pc.fill_null(label, 0.0)
    times = rows["_time"]
    known = pc.and_(pc.less(times, pa.scalar(due, times.type)), pc.is_valid(label))
    known_rows = np.asarray(known.to_numpy(), dtype=np.bool_) & judged
    outcome = label.to_numpy().astype(np.float64)[known_rows]
    decisions, losses = _by_outcomes(policy, outcome, candidate[known_rows], champion[known_rows])
    first, *others = _shifts(candidate, champion, expected) if expected is not None else [Differences()]
    in_time = np.flatnonzero(known_rows)[np.argsort(times.to_numpy()[known_rows], kind="stable")]
    primary = _primary(policy, label.to_numpy()[in_time].astype(np.float64), candidate[in_time], champion[in_time])
    return Paired(decisions=decisions, losses=losses, scores=first, other_scores=tuple(others), primary=primary)


def _of_both(policy: Policy, rows: pa.Table) -> tuple[Floats, Floats]:
    """What candidate and champion said, as the log holds it."""
    candidate, champion = (scores.of(rows[name], len(policy.model.classes)) for name in ("_candidate", "_score"))
    return candidate, champion


def _copies(store: Store, policy: Policy, rollout: Rollout, champion: str, now: datetime) -> pa.Table:
    """The first requests that the champion answered and whose copies the candidate did, with both scores."""
    columns = ["_id", "_time", "_version", "_score"]
    rows = log.read_window(
        store, policy, rollout.started, max(rollout.started, now) + MICROSECOND, columns=columns, known_at=now
    )
    rows = rows.filter(pa.array(scores.finite(scores.of(rows["_score"], len(policy.model.classes)))))
    copied = pc.ends_with(rows["_id"], MIRRORED)
    copies = rows.filter(pc.and_(copied, pc.equal(rows["_version"], rollout.bundle)))
    mine = pa.table({"_id": pc.utf8_slice_codeunits(copies["_id"], 0, -len(MIRRORED)), "_score": copies["_score"]})
    answered = rows.filter(pc.and_(pc.invert(copied), pc.equal(rows["_version"], champion)))
    return _first(scores.beside(answered.drop_columns("_version"), mine, "_candidate"))


def _rows(store: Store, policy: Policy, since: datetime, now: datetime) -> pa.Table:
    """The first rows since a time, each request once: copies sent to a shadow are the same requests again."""
    columns = ["_id", "_time", *policy.model.features]
    rows = log.read_window(store, policy, since, max(since, now) + MICROSECOND, columns=columns, known_at=now)
    rows = rows.filter(pc.invert(pc.ends_with(rows["_id"], MIRRORED)))
    return _first(rows)


def _first(rows: pa.Table) -> pa.Table:
    if len(rows) <= MAX_ROWS:
        return rows
    order = pc.sort_indices(rows.select(["_time", "_id"]), [("_time", "ascending"), ("_id", "ascending")])
    return rows.take(order[:MAX_ROWS])


def _by_outcomes(policy: Policy, label: Floats, candidate: Floats, champion: Floats) -> tuple[Differences, Differences]:
    """Differences of the cost of decisions (classes) and of the losses."""
    mine, others = (measure.bounded_losses(policy.model.objective, label, score) for score in (candidate, champion))
    if not policy.model.class_names:
        if len(label) < MIN_SCALE_ROWS:
            return Differences(), Differences()
        unit = float(np.quantile(others, SCALE_SHARE)) or 1.0
        return Differences(), Differences.of(((mine - others) / unit).tolist())
    wrong = [decision.costs(policy.model, label, score) for score in (candidate, champion)]
    decided = Differences.of(((wrong[0] - wrong[1]) / decision.dearest_mistake(policy.model)).tolist())
    return decided, Differences.of((mine - others).tolist())


def _primary(policy: Policy, label: Floats, candidate: Floats, champion: Floats) -> Metrics | None:
    """The primary metric on rows in time order, where there are enough of each class."""
    limits, classes = policy.primary, len(policy.model.class_names)
    fewest = np.bincount(label.astype(np.int64), minlength=classes).min() if classes else len(label)
    if limits is None or len(label) < FEWEST or fewest < policy.gates.min_class_rows:
        return None
    formula = partial(metrics.named(limits.name).formula, policy.model, limits.at)
    mine, others = formula(label, candidate), formula(label, champion)
    found = metrics.difference(limits, policy.model, label, candidate, champion, draws=DRAWS)
    if found is None or mine is None or others is None:
        return None
    unit = 1.0 if limits.name in RANGES else abs(others) or 1.0
    error = math.hypot(found.error / unit, 1 / len(label))  # rows on which both agree so far prove no certainty
    return Metrics(candidate=mine, champion=others, worse=-found.value / unit, error=error, rows=len(label))


def _expected_shift(store: Store, policy: Policy, loaded: Sequence[tuple[Bundle, Predictor]]) -> Floats:
    """How much higher the candidate scores, on average, where that was judged before: on the rows held out.

    After a change these are the newest ones, on which a candidate that learned it must score otherwise than the
    champion. Golden rows, which may all be older, say it only where no evaluation did.
    """
    judged = _shift_when_judged(store, policy.name, *(bundle.id for bundle, _ in loaded))
    if judged is not None:
        return np.array(judged)
    golden = [
        scores.padded(predictor.score(bundle.signature.encode(loaded[0][0].golden)), len(policy.model.classes))
        for bundle, predictor in loaded
    ]
    return np.atleast_1d(np.mean(golden[0] - golden[1], axis=0)) if len(golden[0]) else np.zeros(1)


def _shift_when_judged(store: Store, model: str, bundle: str, champion: str) -> tuple[float, ...] | None:
    """The same as its evaluation against this champion recorded it, kept for the next look."""
    asked = (store.url, model, bundle, champion)
    if asked not in _SHIFTS:
        known = [item.data for item in records.read(store, model, Evaluated) if item.data.bundle == bundle]
        shifts = [
            tuple(value for name, value in each.metrics.items() if name.startswith("score_shift"))
            for each in known
            if each.champion == champion
        ]
        _SHIFTS[asked] = (shifts[-1] or None) if shifts else None
    return _SHIFTS[asked]


def _shifts(candidate: Floats, champion: Floats, expected: Floats) -> list[Differences]:
    """Differences of the scores beyond the mean one that evaluation saw; of several classes those of each.

    Decisions compare the classes' scores with each other, so all have one unit, the root of their mean variance: by its
    own, a class of which the features say little would have moved at every retraining.
    """
    known = scores.finite(candidate) & scores.finite(champion)
    beyond = np.atleast_2d((candidate - champion - (expected if candidate.ndim > 1 else expected[0]))[known].T)
    spread = math.sqrt(np.mean(champion[known].var(axis=0))) if known.sum() >= MIN_SCALE_ROWS else 0.0
    return [Differences.of((each / spread / SPREADS).tolist()) if spread else Differences() for each in beyond]


def _loaded(store: Store, model: str, bundle: str) -> tuple[Bundle, Predictor]:
    """A bundle and its model, kept for the next look; an id is the hash of what it names, wherever it lies."""
    if (model, bundle) not in _LOADED:
        fetched = bundles.fetch(store, model, bundle, Path(_cache().name))
        while len(_LOADED) >= MAX_LOADED:
            del _LOADED[next(iter(_LOADED))]
        _LOADED[model, bundle] = fetched, fetched.load_model()
    return _LOADED[model, bundle]


@lru_cache(maxsize=1)
def _cache() -> TemporaryDirectory[str]:
    """Goes with the process."""
    return TemporaryDirectory(prefix="kedge-release-")
