"""The window of a check, and its rows in the prediction log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import log

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Window:
    """``[start, end)`` of event time."""

    start: datetime
    end: datetime

    @classmethod
    def before(cls, now: datetime, seconds: float) -> Window:
        """The window that ends at ``now``, cut to the whole minute: a job that is started again looks at the same one.

        >>> Window.before(datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC), 3600).start.isoformat()
        '2026-03-02T11:00:00+00:00'
        """
        end = now.astimezone(UTC).replace(second=0, microsecond=0)
        return cls(start=end - timedelta(seconds=seconds), end=end)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Rows whose outcome became known, in the order in which they happened."""

    scores: Floats
    labels: Floats
    newest: datetime | None
    """When the newest of the outcomes became known."""


def comparable(policy: Policy) -> list[str]:
    """The features the log holds as they are: what privacy dropped, hashed, masked or bucketed cannot be compared."""
    return [name for name, feature in policy.model.features.items() if feature.privacy == "keep"]


def served(store: Store, policy: Policy, window: Window) -> pa.Table:
    """The window's predictions, in no order: ``_time``, ``_version``, ``_score`` and the comparable features."""
    columns = ["_time", "_version", "_score", *comparable(policy)]
    return log.read_window(store, policy, window.start, window.end, columns=columns, labels="none")


def of_version(rows: pa.Table, bundle: str | None) -> pa.Table:
    """The rows one bundle answered (None: all), in time order: ``_time``, ``_score``, labels where there are any."""
    columns = [name for name in ("_time", "_score", "_label", "_observed") if name in rows.column_names]
    mine = rows if bundle is None else rows.filter(pc.equal(rows["_version"], bundle))
    return mine.select(columns).sort_by("_time")


def labelled(
    store: Store, policy: Policy, window: Window, bundle: str | None, left_out: Sequence[tuple[datetime, datetime]] = ()
) -> Labelled:
    """The champion's rows of which the outcome became known in the window, whenever they were predicted.

    Rows that happened in a window ``left_out`` are not among them: they were predicted from corrupt inputs, and would
    pass for a change of the relation.
    """
    columns = ["_time", "_version", "_score"]
    rows = of_version(log.read_labelled(store, policy, window.start, window.end, columns=columns), bundle)
    for start, end in left_out:
        after, before = pc.greater_equal(rows["_time"], _scalar(start)), pc.less(rows["_time"], _scalar(end))
        rows = rows.filter(pc.invert(pc.and_(after, before)))
    newest = pc.max(rows["_observed"]).as_py()
    return Labelled(scores=floats(rows["_score"]), labels=floats(rows["_label"]), newest=newest)


def _scalar(time: datetime) -> pa.Scalar:
    return pa.scalar(time, log.TIME)


def floats(column: pa.ChunkedArray) -> Floats:
    """A column of doubles, null as NaN."""
    return np.asarray(column.to_numpy(), dtype=np.float64)
