"""Scores as a column: a number a row or, of several classes, a list with the probability of each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.policy import Model

Floats = NDArray[np.float64]


def of(column: pa.ChunkedArray, classes: int = 0) -> Floats:
    """Scores of a column, shape (n,), of several classes (n, classes); NaN where there is none.

    >>> of(pa.chunked_array([[[0.2, 0.3, 0.5], None]]), 3).tolist()
    [[0.2, 0.3, 0.5], [nan, nan, nan]]
    """
    if not classes:
        return np.asarray(column.to_numpy(), dtype=np.float64)
    found = np.full((len(column), classes), np.nan)
    whole = column.combine_chunks()
    lengths = np.diff(np.asarray(whole.offsets)) if len(whole) else np.empty(0, np.int64)
    # What a version with fewer classes said leaves no room for the newer ones.
    for length in np.unique(lengths[lengths > 0]).tolist():
        rows = np.flatnonzero((lengths == length) & np.asarray(whole.is_valid()))
        values = whole.take(pa.array(rows)).flatten().to_numpy(zero_copy_only=False).reshape(len(rows), length)
        found[rows] = padded(values[:, :classes], classes)
    return found


def beside(rows: pa.Table, others: pa.Table, name: str) -> pa.Table:
    """The rows whose id others have too, with their scores under this name; a join takes no lists."""
    places = pc.index_in(rows["_id"], others["_id"].combine_chunks())
    both = pc.is_valid(places)
    return rows.filter(both).append_column(name, others["_score"].take(places.filter(both)))


def padded(score: Floats, classes: int) -> Floats:
    """Probabilities of the first classes as those of all: 0 for the others; shape (n, classes)."""
    missing = classes - score.shape[1] if score.ndim > 1 else 0
    return np.pad(score, ((0, 0), (0, missing))) if missing > 0 else score


def finite(score: Floats) -> NDArray[np.bool_]:
    """Rows that have a score, shape (n,)."""
    known = np.isfinite(score)
    return np.asarray(known if known.ndim == 1 else known.all(axis=1), dtype=np.bool_)


def columns(model: Model, score: Floats) -> dict[str, pa.Array]:
    """Scores by the name of their column in a profile: ``_score``, of several classes one of each."""
    if score.ndim == 1:
        return {"_score": pa.array(score)}
    return {f"_score {name}": pa.array(score[:, place]) for place, name in enumerate(model.class_names)}


def labels(model: Model, label: Floats) -> pa.Array:
    """Outcomes as a profile counts them: numbers, of several classes their names."""
    if not model.classes:
        return pa.array(label)
    return pa.array([model.class_names[int(each)] for each in label], pa.string())
