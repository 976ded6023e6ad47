"""What a retraining would have made: a challenger that is fitted, scored and thrown away."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np
import pyarrow as pa

from kedge.errors import DataError
from kedge.measure import Floats
from kedge.policy import Policy
from kedge.training.challenger import Cache, fit_challenger


def probe(
    policy: Policy,
    earlier: pa.Table,
    rows: Iterable[pa.Table],
    change_point: datetime | None,
    *,
    cache: Cache | None = None,
    first_row: int = 0,
) -> Floats | None:
    """Scores of rows by the model that a run on the rows before them would have made.

    Args:
        earlier: Features, target and ``_time``, in time order: what a run would have learned from.
        rows: Features of the rows to score, in parts.
        change_point: Since when the relation is another one; None: not known.
        cache, first_row: As of :func:`fit_challenger`.

    Returns:
        Shape (rows,) or (rows, classes); None where nothing can be learned from the earlier rows.
    """
    try:
        challenger = fit_challenger(policy, earlier, change_point=change_point, cache=cache, first_row=first_row)
    except DataError:
        return None
    classes = len(policy.model.classes)
    return np.concatenate(
        [np.empty((0, classes) if classes else 0), *(challenger.score(challenger.final, part) for part in rows)]
    )
