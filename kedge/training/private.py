"""What may leave training of features that are private: values drawn at random, never one of a row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.bundle import Input, Signature
from kedge.policy import Feature, Policy

DIGITS = 2
"""Of mean and spread, so that neither tells of a row."""


def public(policy: Policy) -> list[str]:
    """The features whose values anybody may see who sees a bundle."""
    return [name for name, feature in policy.model.features.items() if feature.privacy == "keep"]


def with_drawn_values(rows: pa.Table, policy: Policy, signature: Signature, all_rows: pa.Table) -> pa.Table:
    """The rows with the values of private features drawn anew: categories of the model's list, numbers from a normal
    distribution about as wide as the feature. Missing ones stay missing.

    Args:
        rows: Some of the training rows.
        policy: Says which features are private, and seeds the draw.
        all_rows: Whose mean and spread the numbers get.
    """
    random = np.random.default_rng(policy.train.seed)
    for each in signature.inputs:
        feature = policy.model.features[each.name]
        if feature.privacy == "keep":
            continue
        missing = rows[each.name].is_null().to_numpy()
        drawn = _drawn_values(each, feature, all_rows[each.name], rows.num_rows, random)
        place = rows.schema.get_field_index(each.name)
        rows = rows.set_column(place, each.name, pa.array(drawn, rows.schema.field(place).type, mask=missing))
    return rows


def _drawn_values(
    each: Input, feature: Feature, values: pa.ChunkedArray, count: int, random: np.random.Generator
) -> list[str] | NDArray[np.float64]:
    if each.type == "category":
        categories: list[str] = random.choice(each.categories, count).tolist()
        return categories
    return _numbers(feature, values.drop_null().to_numpy(), count, random)


def _numbers(
    feature: Feature, values: NDArray[np.float64], count: int, random: np.random.Generator
) -> NDArray[np.float64]:
    if feature.type == "boolean":
        return random.integers(0, 2, count).astype(np.float64)
    mean, spread = (
        (float(f"{value:.{DIGITS}g}") for value in (values.mean(), values.std())) if len(values) else (0.0, 1.0)
    )
    low, high = (end if given is None else given for given, end in ((feature.min, -np.inf), (feature.max, np.inf)))
    drawn = random.normal(mean, spread or 1.0, count).clip(low, high)
    return np.rint(drawn) if feature.type == "integer" else drawn
