"""The rows whose outcomes are due: those that became so since the last verdict, and late ones before them.

From the log by :func:`read`, from arrays by :func:`select`; both look where :func:`span` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.measure import Floats
from kedge.monitoring import cohort
from kedge.monitoring.window import floats
from kedge.policy import Policy
from kedge.records import Champion, Checked, ModelState, Record, Window
from kedge.records.cohort import Cohort, Delays
from kedge.store import Store
from kedge.tables import delays, labels, log
from kedge.tables import scores as score_columns
from kedge.tables.ids import Hashes, hashes_of, held

MAX_WINDOWS, MAX_ROWS = 30, 500_000
"""A cohort that waits for a verdict grows to at most so many windows, and beyond one to at most so many predictions."""
MAX_EVIDENCE = 20_000
"""Judged rows, about, from which metrics look no farther back."""
LATE_WINDOWS = 7
"""Outcomes of rows predicted, and told, up to so many windows before are judged late; others only train."""
ESTIMATE_HOLDS = timedelta(days=1)
"""How long an estimated delay is used before it is estimated again: that reads more of the log than a check."""


@dataclass(frozen=True, kw_only=True)
class LastVerdict:
    """Up to where the checks of a tenure have judged."""

    until: datetime | None = None
    """Rows predicted before were judged; None: the check before was one of an older version, see ``at``."""
    at: datetime | None = None
    """End of the check that judged them: outcomes observed by then are known to it; None: no check has judged yet."""
    received: datetime | None = None
    """When the newest of the outcomes known to it was received; None: an earlier version's check did not say."""

    @classmethod
    def after(cls, judged: Cohort, at: datetime) -> LastVerdict:
        """After a check that ended then. Without a verdict its cohort stays open."""
        if judged.verdict == "judged":
            return cls(until=judged.end, at=at, received=judged.received)
        return cls(until=judged.start, at=judged.since, received=judged.received)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Where a check looks for rows that are due."""

    start: datetime
    """The cohort was predicted from then on."""
    end: datetime
    """And before then: what is younger is not due."""
    judged: datetime
    """Rows of the tenure predicted before then were judged, or given up if they are younger than ``start``."""
    late_from: datetime
    """Rows predicted from then to ``judged`` are late if their outcome was first observed after ``late_since``."""
    late_since: datetime | None
    """None: no check has judged yet."""
    last: datetime | None
    """End of the check that judged last."""
    received: datetime | None = None
    """Outcomes received after it are late ones, whenever they were observed; None: the check that judged last did not
    say up to when it knew them."""


def span(
    policy: Policy,
    tenure_since: datetime,
    last: LastVerdict | None,
    end: datetime,
    delay: float,
    *,
    oldest: Callable[[], datetime | None] = lambda: None,
) -> Span:
    """Where a check that ends then looks.

    Args:
        tenure_since: When the champion began to serve.
        last: Up to where its checks judged; None: there was none.
        delay: Age in seconds from which rows are due.
        oldest: Asked if the cohort is longer than a window: how far back it may reach for that.
    """
    due, window = end - timedelta(seconds=delay), timedelta(seconds=policy.monitor.window_seconds)
    if last is None:
        judged = due - window
    else:
        judged = last.until if last.until is not None else (last.at or due) - timedelta(seconds=delay)
    start = judged = max(judged, tenure_since)
    if judged < due - window:
        start = max(judged, due - MAX_WINDOWS * window, min(oldest() or judged, due - window))
    known = last.at if last is not None else None
    return Span(
        start=start,
        end=max(start, due),
        judged=judged,
        late_from=max(tenure_since, judged - LATE_WINDOWS * window),
        late_since=None if known is None else max(known, end - LATE_WINDOWS * window),
        last=known,
        received=last.received if last is not None else None,
    )


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The champion's rows that are due, with the outcomes known at the check's end."""

    scores: Floats
    labels: Floats
    """NaN where no outcome is known."""
    times: NDArray[np.datetime64]
    """When each was predicted."""
    late: NDArray[np.bool_]
    """Predicted before the cohort, labelled since the last verdict."""
    slices: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    protected: Mapping[str, tuple[NDArray[np.object_], NDArray[np.bool_]]] = field(default_factory=dict)
    """Of each column of ``gates.fairness`` that is held anywhere: the group of each row, and whether it is known."""
    unwatched: Mapping[str, str] = field(default_factory=dict)
    """Of the others: why they are not, in words."""
    features: Callable[[], Iterator[tuple[NDArray[np.int64], pa.Table]]] | None = None
    """Reads the features of the rows, for a probe: some at a time, in any order, with their places among the rows.
    None: they were not asked for."""
    probe: Floats | None = None
    """Scores of a probe, see :mod:`kedge.monitoring.probing`; None: there was none."""
    corrected: int = 0
    newest: datetime | None = None
    """When the newest of the outcomes became known."""
    received: datetime | None = None
    """When the newest of the log's outcomes was received; None: they are from arrays."""
    span: Span
    delay_seconds: float = 0.0
    delays: Delays | None = None
    """What the log tells of delays, where the policy states none or outcomes are missing; None: nobody looked."""

    def judge(self, policy: Policy, constant_loss: float | None = None) -> Cohort:
        """The sums over them, see :func:`kedge.monitoring.cohort.judge`."""
        found = cohort.judge(
            policy,
            self.scores,
            self.labels,
            self.times,
            late=self.late,
            corrected=self.corrected,
            slices=self.slices,
            probe=self.probe,
            constant_loss=constant_loss,
            start=self.span.start,
            end=self.span.end,
        )
        received = self.received if found.verdict == "judged" else self.span.received
        return replace(
            found, since=self.span.last, received=received, delay_seconds=self.delay_seconds, delays=self.delays
        )

    def without(self, start: datetime, end: datetime) -> Outcomes:
        """Those predicted outside of a time."""
        kept = (self.times < _instant(start)) | (self.times >= _instant(end))
        return replace(
            self,
            scores=self.scores[kept],
            labels=self.labels[kept],
            times=self.times[kept],
            late=self.late[kept],
            slices={name: values[kept] for name, values in self.slices.items()},
            protected={name: (groups[kept], known[kept]) for name, (groups, known) in self.protected.items()},
            features=None,
            probe=None if self.probe is None else self.probe[kept],
        )


def last_verdict(checks: Sequence[Record[Checked]], tenure_id: str) -> LastVerdict | None:
    """Up to where these checks, in order, judged the rows of a tenure; None: it has no check yet.

    Checks of versions that judged by the time of the label had judged all that was observed by their end.
    """
    newest = next((item for item in reversed(checks) if item.data.champion.tenure_id == tenure_id), None)
    if newest is None:
        return None
    cohort = newest.data.cohort
    return LastVerdict(at=newest.time) if cohort is None else LastVerdict.after(cohort, newest.time)


def due_delay(
    policy: Policy, store: Store, checks: Sequence[Record[Checked]], end: datetime
) -> tuple[float, Delays | None]:
    """Age in seconds from which rows are due, and what it was estimated from if the policy does not state it.

    An estimate of the last day is used again.
    """
    stated = policy.labels.due_seconds
    if stated is not None:
        return stated, None
    estimate = _estimate(policy, store, checks, end)
    return estimate.due_seconds or 0.0, estimate


def _estimate(policy: Policy, store: Store, checks: Sequence[Record[Checked]], end: datetime) -> Delays:
    known = checks[-1].data.cohort if checks else None
    found = known.delays if known is not None else None
    if found is None or found.at is None or not found.classes or end - found.at >= ESTIMATE_HOLDS:
        return delays.estimate(store, policy, end)
    return found


def read(
    store: Store,
    policy: Policy,
    serving: Champion,
    bundle: str | None,
    checks: Sequence[Record[Checked]],
    end: datetime,
    delay: float,
    estimate: Delays | None = None,
    left_out: Sequence[Window] = (),
    *,
    features: Sequence[str] = (),
) -> Outcomes:
    """Read the cohort of a check and the late rows before it.

    Args:
        serving: The champion, whose tenure it is.
        bundle: Whose predictions; None: all.
        checks: Records of checks that ended before this one, in order.
        end: Of the check: outcomes observed later are not known.
        delay, estimate: Of :func:`due_delay`.
        left_out: Rows predicted in these times are left out: their feed was corrupt.
        features: Read with the rows.

    Raises:
        StoreError: the log cannot be read.
    """
    last, received = last_verdict(checks, serving.tenure_id), log.newest_label(store, policy)
    where = span(policy, serving.since, last, end, delay, oldest=lambda: log.newest_days(store, policy, MAX_ROWS, end))
    kept = {name for name, feature in policy.model.features.items() if feature.privacy == "keep"}
    slices = [name for name in policy.model.slices if name in kept]
    logged = [name for name in policy.gates.fairness.columns if grouped(policy, name)]
    groups = list(dict.fromkeys((*slices, *logged)))
    names = list(dict.fromkeys(("_id", "_time", "_version", "_score", *groups)))

    def predicted(names: Sequence[str], labels: log.Labels) -> Iterator[pa.Table]:
        return log.read_parts(
            store, policy, where.start, where.end, columns=names, labels=labels, known_at=end, received_by=received
        )

    known: list[Hashes] = []
    keep_ids = bool(features or policy.gates.fairness.columns)

    def own_parts() -> Iterator[_Part]:
        for rows in predicted(names, "left"):
            if where.late_since is not None:
                known.append(hashes_of(rows["_id"]))
            yield _Part.of(policy, _of(rows, bundle, left_out), groups, ids=keep_ids)

    due = _Part.joined(list(own_parts()))
    about = {"span": where, "received": received, "delay_seconds": delay, "delays": estimate}
    own = due.outcomes(slices, 0, **about)
    if cohort.incomplete(policy, own.scores, own.labels, own.late):  # look what the policy should say of delays
        return replace(own, delays=estimate or _estimate(policy, store, checks, end))
    tables = []
    if where.late_since is not None:
        late = log.read_late(
            store,
            policy,
            where.late_from,
            where.judged,
            since=where.late_since,
            known_at=end,
            received_since=where.received,
            received_by=received,
            columns=[*names, *(name for name in features if name not in names)],
            without=np.concatenate(known),
        )
        late = _of(late, bundle, left_out)
        again = late["_corrected"]
        if policy.labels.absent_means == "negative":  # without an outcome they were judged as negative
            again = pa.chunked_array([pa.array(np.ones(late.num_rows, dtype=np.bool_))])
        first = late.filter(pc.invert(again))
        tables, corrected = [first], late.num_rows - first.num_rows
        due = _Part.joined([_Part.of(policy, first, groups, ids=keep_ids), due])
        own = due.outcomes(slices, first.num_rows, corrected=corrected, **about)
    own = replace(own, **_protected(policy, due, where.late_from))
    if not features:
        return own
    ids = due.ids
    columns = list(dict.fromkeys(("_id", "_time", "_version", *features)))

    def read_features() -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
        order = np.argsort(ids)
        for rows in chain(tables, (_of(part, bundle, left_out) for part in predicted(columns, "none"))):
            hashes = hashes_of(rows["_id"])
            there = held(ids[order], hashes)  # the log may have grown meanwhile
            places = order[np.searchsorted(ids[order], hashes[there])]
            yield places, rows.filter(pa.array(there)).select(list(features))

    return replace(own, features=read_features)


def newest_judged(
    store: Store,
    policy: Policy,
    serving: Champion,
    bundle: str | None,
    state: ModelState,
    end: datetime,
    where: Span,
) -> tuple[Floats, Floats] | None:
    """Scores and labels of this cohort's rows and of those of cohorts before it, in time order: as far back in the
    tenure as the known checks judged, or 20,000 rows. None: no known check judged any before.

    A metric such as recall needs more positives than the rows of an hour have.

    Args:
        end: Of the check: outcomes observed later are not known.
        where: The cohort's.
    """
    start, rows = where.start, 0
    for item in reversed(state.checks):
        judged = item.data.cohort
        if item.data.champion.tenure_id != serving.tenure_id or rows >= MAX_EVIDENCE:
            break
        if judged is not None and judged.verdict == "judged" and judged.start is not None:
            start, rows = min(start, judged.start), rows + judged.rows
    if not rows:
        return None
    names = ("_id", "_time", "_version", "_score")
    parts = [
        _Part.of(policy, _of(part, bundle, state.quarantined), (), ids=False)
        for part in log.read_parts(store, policy, start, where.end, columns=names, labels="left", known_at=end)
    ]
    found = _Part.joined(parts)
    return cohort.in_time_order(policy, found.scores, found.labels, found.times)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Rows of a part of the log."""

    ids: Hashes
    """Empty where nobody asks for features or protected columns."""
    scores: Floats
    labels: Floats
    times: NDArray[np.datetime64]
    groups: Mapping[str, NDArray[np.object_]]
    """Of slices and of protected columns."""
    newest: datetime | None

    @classmethod
    def of(cls, policy: Policy, rows: pa.Table, groups: Sequence[str], *, ids: bool) -> _Part:
        return cls(
            ids=hashes_of(rows["_id"] if ids else rows["_id"].slice(0, 0)),
            scores=score_columns.of(rows["_score"], len(policy.model.classes)),
            labels=floats(rows["_label"]),
            times=rows["_time"].to_numpy().astype("datetime64[us]"),
            groups={name: _groups(rows[name]) for name in groups},
            newest=pc.max(rows["_observed"]).as_py(),
        )

    @classmethod
    def joined(cls, parts: Sequence[_Part]) -> _Part:
        """The parts, at least one, one after the other."""
        return cls(
            ids=np.concatenate([part.ids for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            times=np.concatenate([part.times for part in parts]),
            groups={name: np.concatenate([part.groups[name] for part in parts]) for name in parts[0].groups},
            newest=max((part.newest for part in parts if part.newest is not None), default=None),
        )

    def outcomes(self, slices: Sequence[str], late: int, **about: Any) -> Outcomes:
        """The rows, of which the first are late."""
        marks = np.zeros(len(self.scores), np.bool_)
        marks[:late] = True
        of_rows = {name: getattr(self, name) for name in ("scores", "labels", "times", "newest")}
        of_rows["slices"] = {name: self.groups[name] for name in slices}
        return Outcomes(**of_rows, late=marks, **about)


def grouped(policy: Policy, column: str) -> bool:
    """Whether the log's rows can be told apart by a protected column: hashed values are as good as plain ones."""
    feature = policy.model.features.get(column)
    return feature is not None and feature.privacy in ("keep", "hash")


def _protected(policy: Policy, due: _Part, since: datetime) -> dict[str, Any]:
    """Fields of outcomes: the protected columns of rows, by the log, else by the table of outcomes."""
    columns = policy.gates.fairness.columns
    protected = {}
    for name in (name for name in columns if grouped(policy, name)):
        groups = due.groups[name]
        if policy.model.features[name].privacy == "keep" and policy.model.features[name].type == "boolean":
            groups = np.array([value if value is None else bool(value) for value in groups], dtype=object)
        protected[name] = groups, np.ones(len(due.scores), np.bool_)
    elsewhere = [name for name in columns if name not in protected]
    table, unwatched = labels.read_beside(policy, elsewhere, since) if elsewhere else (None, {})
    if table is not None:
        hashes = hashes_of(table["_id"])
        order = np.argsort(hashes, kind="stable")
        known = held(hashes[order], due.ids)
        places = order[np.searchsorted(hashes[order], due.ids[known])]
        for name in table.column_names[1:]:
            groups = np.full(len(due.ids), None, dtype=object)
            groups[known] = _groups(table[name])[places]
            protected[name] = groups, known
    return {"protected": protected, "unwatched": unwatched}


def _groups(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """Values as objects, each once however many rows have it."""
    encoded = column.combine_chunks().dictionary_encode()
    values = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    groups: NDArray[np.object_] = values[encoded.indices.fill_null(len(values) - 1).to_numpy()]
    return groups


def select(
    policy: Policy,
    where: Span,
    end: datetime,
    *,
    scores: Floats,
    labels: Floats,
    times: NDArray[np.datetime64],
    observed: NDArray[np.datetime64],
    delay: float,
    slices: Mapping[str, NDArray[np.object_]] | None = None,
) -> Outcomes:
    """The rows of arrays that a check looks at there; each row has one outcome, or none yet.

    Args:
        where: Of :func:`span`.
        end: Of the check: outcomes observed later are not known.
        scores, labels, times: Shape (n,).
        observed: Shape (n,): when each outcome became known; NaT: never.
        delay: Age in seconds from which rows were due.
        slices: By name the group of each row, shape (n,).
    """
    known = (observed <= _instant(end)) & np.isfinite(labels)
    own = (times >= _instant(where.start)) & (times < _instant(where.end))
    late = np.zeros_like(own)
    if where.late_since is not None:
        late = (times >= _instant(where.late_from)) & (times < _instant(where.judged)) & known
        late &= observed > _instant(where.late_since)
    corrected = int(late.sum()) if policy.labels.absent_means == "negative" else 0
    rows = np.flatnonzero(own if corrected else own | late)
    newest = observed[rows][known[rows]]
    return Outcomes(
        scores=scores[rows],
        labels=np.where(known[rows], labels[rows], np.nan),
        times=times[rows],
        late=late[rows],
        slices={name: values[rows] for name, values in (slices or {}).items()},
        corrected=corrected,
        newest=newest.max().astype("datetime64[us]").item().replace(tzinfo=UTC) if len(newest) else None,
        span=where,
        delay_seconds=delay,
    )


def _of(rows: pa.Table, bundle: str | None, left_out: Sequence[Window]) -> pa.Table:
    return outside(rows if bundle is None else rows.filter(pc.equal(rows["_version"], bundle)), left_out)


def outside(rows: pa.Table, windows: Sequence[Window]) -> pa.Table:
    """The rows predicted in none of these times."""
    for quarantined in windows:
        after = pc.greater_equal(rows["_time"], pa.scalar(quarantined.start, log.TIME))
        rows = rows.filter(pc.invert(pc.and_(after, pc.less(rows["_time"], pa.scalar(quarantined.end, log.TIME)))))
    return rows


def _instant(time: datetime) -> np.datetime64:
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "us")
