"""Whether a retraining would help, asked cheaply: while the error is risen, each check probes.

A probe is the model that a run at the check before would have made. It is fitted on the labelled rows of the prediction
log that were known then (a log that is young is preceded by rows the champion was trained on), and decides the rows
that became due since, which it has not seen. What it would have saved is
what a retraining can be expected to save; where nothing can be learned it saves nothing, and no run is started. It
costs seconds in the check's own pod, is fitted on few rows, and never serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.measure import Floats
from kedge.monitoring.outcomes import Outcomes, outside
from kedge.monitoring.regret import Regret, cheapest
from kedge.policy import Policy
from kedge.records import ModelState
from kedge.store import Store
from kedge.tables import log, snapshot
from kedge.tables.snapshot import Snapshot

Probe = Callable[[Policy, pa.Table, Iterable[pa.Table], datetime | None], Floats | None]
"""Scores, shape (rows,), of the later tables' rows by what a retraining on the first would have made, which is in time
order; the time is the change point. None: nothing can be learned there. See :func:`kedge.training.probe.probe`."""

MAX_ROWS = 8000
"""Newest rows a probe learns from: a check must stay small, and after a change the newest rows are those that count."""
SPARE = 4
"""So many times the span is read that would hold them at the pace of the due rows: a day may hold millions."""
DRIFT = 0.5
"""Cumulated excess, as a share of a run and a release, from which on checks probe."""


def possible(policy: Policy) -> bool:
    """Whether the prediction log holds every feature as it was served, to learn from, and the policy retrains on error.

    Without, the best level that a champion held stands for what a retraining would reach.
    """
    kept = all(feature.privacy == "keep" for feature in policy.model.features.values())
    return kept and policy.monitor.triggers.labelled_error


def due(policy: Policy, regret: Regret | None) -> bool:
    """Whether the check after this state probes: the error is risen, and there are rows to learn the new relation from.

    Args:
        regret: The state after the check before; None: there was none under this champion.
    """
    return (
        regret is not None
        and possible(policy)
        and regret.drift > DRIFT * cheapest(policy.costs)
        and regret.rows_since_change >= policy.monitor.budget.min_labels_after_rise
    )


def before(state: ModelState) -> Regret | None:
    """The state after the newest check; None: there was none under this champion."""
    last, serving = state.check, state.champion
    if last is None or serving is None or not last.data.regret or last.data.champion.tenure_id != serving.tenure_id:
        return None
    return Regret.from_dict(last.data.regret)


def scores(
    policy: Policy,
    store: Store,
    state: ModelState,
    outcomes: Outcomes,
    probe: Probe,
    trained: Snapshot | None = None,
) -> Floats | None:
    """Scores of the due rows by a probe on the labelled rows before them.

    Args:
        outcomes: What is due, read with its features.
        trained: What the champion was trained on; None: its snapshot is gone.

    Raises:
        StoreError: the log cannot be read.
    """
    last, cohort = before(state), outcomes.span
    day = log.newest_days(store, policy, MAX_ROWS, cohort.start)
    count = len(outcomes.scores)
    read = outcomes.features
    if day is None or not count or read is None:
        return None
    start = max(day, cohort.start - SPARE * MAX_ROWS / count * (cohort.end - cohort.start))
    negative = policy.labels.absent_means == "negative"
    earlier = log.read_window(
        store,
        policy,
        start,
        cohort.start,
        columns=["_time", *policy.model.features],
        labels="left" if negative else "inner",
        known_at=cohort.last or cohort.end,
    )
    earlier = outside(earlier, state.quarantined).sort_by("_time")
    earlier = earlier.slice(max(0, earlier.num_rows - MAX_ROWS))
    if not earlier.num_rows:
        return None
    outcome = pc.fill_null(earlier["_label"], 0.0)
    names = ["_time", *policy.model.features]
    earlier = earlier.select(names).append_column(policy.model.target, outcome)
    missing = MAX_ROWS - earlier.num_rows
    if missing and trained is not None:
        begun = earlier["_time"][0].as_py()
        older = snapshot.newest(store, trained, missing, before=begun, columns=[*names, policy.model.target])
        earlier = pa.concat_tables([older.cast(earlier.schema, safe=False), earlier])
    places: list[NDArray[np.int64]] = []

    def due() -> Iterator[pa.Table]:
        for where, rows in read():
            places.append(where)
            if rows.num_rows:
                yield rows

    scored = probe(policy, earlier, due(), last.change_point if last is not None else None)
    if scored is None or len(scored) < count:  # rows that are in the log no more
        return None
    result = np.empty((count, *scored.shape[1:]))
    result[np.concatenate(places)] = scored
    return result
