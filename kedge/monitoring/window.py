"""The window of a check, and its rows in the prediction log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge.drift import Profile, count
from kedge.measure import Floats
from kedge.monitoring import quarantine
from kedge.policy import Policy
from kedge.records import Window
from kedge.store import Store
from kedge.tables import log, scores


def comparable(policy: Policy) -> list[str]:
    """The features the log holds as they are: what privacy dropped, hashed, masked or bucketed cannot be compared."""
    return [name for name, feature in policy.model.features.items() if feature.privacy == "keep"]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a check asks of a window's predictions, counted as they are read."""

    rows: int
    """Of the window, whoever answered them."""
    profile: Profile
    """Of the comparable features, on the reference's edges."""
    outside: Mapping[str, float]
    """Share of the rows of each feature outside the policy's limits; see :func:`quarantine.out_of_range`."""
    own: pa.Table
    """The rows that one bundle answered, in time order: ``_score``."""


def served(store: Store, policy: Policy, window: Window, reference: Profile, bundle: str | None) -> Served:
    """The window's predictions, read from the log; see :func:`summarized`."""
    columns = ["_time", "_version", "_score", *comparable(policy)]
    parts = log.read_parts(store, policy, window.start, window.end, columns=columns, labels="none")
    return summarized(policy, reference, parts, bundle)


def summarized(policy: Policy, reference: Profile, parts: Iterable[pa.Table], bundle: str | None) -> Served:
    """What a check asks of predictions.

    Args:
        reference: On whose edges features are counted.
        parts: In the order of time: ``_time``, ``_version``, ``_score`` and the comparable features.
        bundle: Whose scores are looked at; None: all.
    """
    both = reference.select([name for name in comparable(policy) if name in reference.columns])
    profile, rows = count(both, []), 0
    outside: Counter[str] = Counter()
    own = [log.schema(policy).empty_table().select(["_score"])]
    for part in parts:
        profile = profile.merge(count(both, part.select(list(both.columns)).to_batches()))
        for name in comparable(policy):
            outside[name] += quarantine.out_of_range(part[name], policy.model.features[name])
        mine = part if bundle is None else part.filter(pc.equal(part["_version"], bundle))
        ordered = mine.select(["_score"]).take(pc.sort_indices(mine["_time"]))  # lists have no sort_by
        own.append(ordered.cast(own[0].schema))
        rows += part.num_rows
    shares = {name: count / max(rows, 1) for name, count in outside.items()}
    return Served(rows=rows, profile=profile, outside=shares, own=pa.concat_tables(own))


def scores_of(policy: Policy, rows: pa.Table) -> Floats:
    """The scores of rows, shape (n,), of several classes (n, classes); NaN where there is none."""
    return scores.of(rows["_score"], len(policy.model.classes))


def floats(column: pa.ChunkedArray) -> Floats:
    """A column of doubles, null as NaN."""
    return np.asarray(column.to_numpy(), dtype=np.float64)
