"""Requests and responses of KServe's logger as predictions: joined when they are read, as labels are.

A pair is a prediction if both were logged under one id and have as many rows; a request that was refused, or not
answered, is none. Of an id that was logged several times the request and the response received first count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.tables.ids import Rows, match

OF_BOTH = ("_received", "_version", "_slot")
OF_RESPONSE = ("_score", "_prediction")


def request_columns(wanted: Sequence[str]) -> list[str]:
    """Columns of requests that these columns of predictions are made of."""
    own = [name for name in wanted if name not in ("_latency_ms", *OF_RESPONSE)]
    return list(dict.fromkeys(("_id", "_received", "_rows", *_times(wanted), *own)))


def response_columns(wanted: Sequence[str]) -> list[str]:
    """Columns of responses that these columns of predictions are made of."""
    own = [name for name in wanted if name in (*OF_BOTH, *OF_RESPONSE)]
    return list(dict.fromkeys(("_id", "_received", "_rows", *_times(wanted), *own)))


def joined(requests: pa.Table, responses: pa.Table, wanted: Sequence[str]) -> pa.Table:
    """Predictions in these columns, one an id, in no given order; of columns as the two functions above name them."""
    first, answered = match(requests["_id"], responses["_id"])
    found = received_first_of(responses["_received"], answered, requests.num_rows)[first]
    kept = received_first(requests["_received"], first) & (found >= 0)
    if not kept.all():
        requests, found = requests.filter(pa.array(kept)), found[kept]
    if not np.array_equal(found, np.arange(responses.num_rows)):
        responses = responses.take(pa.array(found))
    same = pc.equal(requests["_rows"], responses["_rows"])
    if not pc.all(same, min_count=0).as_py():
        requests, responses = requests.filter(same), responses.filter(same)
    return pa.table({name: _column(requests, responses, name) for name in wanted})


def received_first(received: pa.ChunkedArray, first: Rows) -> NDArray[np.bool_]:
    """Which rows are, of their id, the one received first; ``first`` says the first row of the same id."""
    kept: NDArray[np.bool_] = first == np.arange(len(first))
    if not kept.all():
        several = np.flatnonzero((np.bincount(first) > 1)[first])
        kept[several] = False
        times = received.cast(pa.int64()).to_numpy()[several]
        order = several[np.argsort(times, kind="stable")[::-1]]
        earliest = np.empty(len(first), np.int64)
        earliest[first[order]] = order
        kept[earliest[first[several]]] = True
    return kept


def received_first_of(received: pa.ChunkedArray, of: Rows, count: int) -> Rows:
    """For each of ``count`` rows the row received first of those that belong to it, -1 without one.

    ``of`` says for each row to which it belongs, -1 to none.
    """
    rows = np.full(count, -1)
    known = np.flatnonzero(of >= 0)
    rows[of[known]] = known
    if np.count_nonzero(rows >= 0) < len(known):
        several = known[(np.bincount(of[known]) > 1)[of[known]]]
        order = several[np.argsort(received.cast(pa.int64()).to_numpy()[several], kind="stable")[::-1]]
        rows[of[order]] = order
    return rows


def _times(wanted: Sequence[str]) -> list[str]:
    return ["_time"] if "_latency_ms" in wanted else []


def _column(requests: pa.Table, responses: pa.Table, name: str) -> pa.ChunkedArray:
    if name in OF_RESPONSE:
        return responses[name]
    if name == "_received":
        return pc.if_else(pc.greater(requests[name], responses[name]), requests[name], responses[name])
    if name in ("_version", "_slot"):
        given = pc.fill_null(pc.not_equal(responses[name], ""), False)
        return pc.if_else(given, responses[name], requests[name])
    if name == "_latency_ms":
        microseconds = pc.subtract(responses["_time"].cast(pa.int64()), requests["_time"].cast(pa.int64()))
        return pc.divide(pc.max_element_wise(microseconds, 0).cast(pa.float64()), 1000.0)
    return requests[name]
