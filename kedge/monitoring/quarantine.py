"""Whether a window's rows come from a broken feed: nothing may be learned from them, and nothing is concluded."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from kedge import policy as policies
from kedge.drift import Feature
from kedge.policy import Policy
from kedge.records import Breach
from kedge.records.checked import Cause


def breaches(policy: Policy, rows: pa.Table, compared: Mapping[str, Feature]) -> tuple[Breach, ...]:
    """Each limit of ``monitor.quarantine`` that the window breaks; empty: the feed is whole.

    Args:
        policy: Limits, and the range of each feature.
        rows: The window's rows, at least ``monitor.min_rows``: of a handful, chance alone would break the limits.
        compared: For each feature its comparison with the reference (``Comparison.features``).
    """
    limits = policy.monitor.quarantine
    broken: list[Breach] = []

    def add(column: str, cause: Cause, seen: float, sentence: str) -> None:
        broken.append(Breach(column=column, cause=cause, share=seen, sentence=f"{column}: {share(seen)} {sentence}"))

    for name, seen in compared.items():
        missing, before = seen.null_rate or 0.0, seen.reference_null_rate or 0.0
        if missing - before > limits.max_null_increase:
            allowed = share(limits.max_null_increase)
            add(name, "missing", missing, f"missing, {share(before)} when trained (at most {allowed} more allowed)")
        unknown = seen.new_category_share or 0.0
        if unknown > limits.max_new_category_share:
            allowed = share(limits.max_new_category_share)
            sentence = f"of rows in categories the reference did not know (at most {allowed} allowed)"
            add(name, "new categories", unknown, sentence)
    for name, feature in policy.model.features.items():
        outside = out_of_range(rows[name], feature) if name in compared else 0.0
        if outside > limits.max_out_of_range_share:
            allowed = share(limits.max_out_of_range_share)
            sentence = f"of rows outside {_range(feature)} or infinite (at most {allowed} allowed)"
            add(name, "out of range", outside, sentence)
    return tuple(broken)


def out_of_range(column: pa.ChunkedArray, feature: policies.Feature) -> float:
    """Share of the rows outside the policy's limits, or infinite; missing values are inside.

    >>> out_of_range(pa.chunked_array([[1.0, -1.0, None, float("inf")]]), policies.Feature(type="number", min=0))
    0.5
    """
    if feature.type == "category" or not len(column):
        return 0.0
    outside = pc.is_inf(column)
    if feature.min is not None:
        outside = pc.or_(outside, pc.less(column, feature.min))
    if feature.max is not None:
        outside = pc.or_(outside, pc.greater(column, feature.max))
    return float((pc.sum(pc.fill_null(outside, False)).as_py() or 0) / len(column))


def share(value: float) -> str:
    """A share in words: ``31 %``."""
    return f"{100 * value:.2g} %" if value < 0.995 else "100 %"


def _range(feature: policies.Feature) -> str:
    low = "-inf" if feature.min is None else f"{feature.min:g}"
    high = "inf" if feature.max is None else f"{feature.max:g}"
    return f"{low} to {high}"
