"""The window of a check, and its rows in the prediction log."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.policy import Policy
from kedge.records import Window
from kedge.store import Store
from kedge.tables import log

Floats = NDArray[np.float64]


def comparable(policy: Policy) -> list[str]:
    """The features the log holds as they are: what privacy dropped, hashed, masked or bucketed cannot be compared."""
    return [name for name, feature in policy.model.features.items() if feature.privacy == "keep"]


def served(store: Store, policy: Policy, window: Window) -> pa.Table:
    """The window's predictions, in no order: ``_time``, ``_version``, ``_score`` and the comparable features."""
    columns = ["_time", "_version", "_score", *comparable(policy)]
    return log.read_window(store, policy, window.start, window.end, columns=columns, labels="none")


def of_version(rows: pa.Table, bundle: str | None) -> pa.Table:
    """The rows one bundle answered (None: all), in time order: ``_time``, ``_score``."""
    mine = rows if bundle is None else rows.filter(pc.equal(rows["_version"], bundle))
    return mine.select(["_time", "_score"]).sort_by("_time")


def floats(column: pa.ChunkedArray) -> Floats:
    """A column of doubles, null as NaN."""
    return np.asarray(column.to_numpy(), dtype=np.float64)
