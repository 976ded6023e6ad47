"""Did columns begin to move together, or cease to, while each looks as before?

Each value gets a score from -7 to 7 by the reference's quantiles (a category by its rank in frequency), a missing one
0. Sums of products of scores and of their squares over all pairs are one matrix product a batch; they are whole
numbers, so they merge exactly. With k columns over n rows that costs n k searches and n (2 k + 1)^2 multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.drift.arrow_reader import aligned_numbers, flags, kind_of, texts, view
from kedge.drift.binning import Floats
from kedge.drift.significance import false_discovery_q_values

MAX_COLUMNS = 50
LEVELS = 7
BLOCK_ROWS = 4096
"""Sums of 4096 products of squared scores stay below 2^24, so single precision adds them without rounding."""

Levels = Mapping[str, tuple[float, ...] | tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Dependence:
    """Sums over rows for all pairs of columns.

    ``levels`` are the inner edges of a number's scores, or the texts of a category's, fixed by the reference.
    ``sums`` has shape (2 k + 1, 2 k + 1): the sum over rows of the outer product of (1, scores, squared scores).
    """

    levels: Levels
    sums: NDArray[np.int64]

    def merge(self, other: Dependence) -> Dependence:
        """Add two counts on the same levels.

        Raises:
            ValueError: they were counted on other levels.
        """
        if dict(self.levels) != dict(other.levels):
            raise ValueError("pairs were counted on other levels")
        return Dependence(levels=self.levels, sums=self.sums + other.sums)

    def select(self, names: Sequence[str]) -> Dependence | None:
        """The sums of some of the columns; None if they are no pair."""
        kept = [place for place, name in enumerate(self.levels) if name in names]
        if len(kept) < 2:
            return None
        places = [0, *(1 + place for place in kept), *(1 + len(self.levels) + place for place in kept)]
        levels = {name: levels for name, levels in self.levels.items() if name in names}
        return Dependence(levels=levels, sums=self.sums[np.ix_(places, places)])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; of the symmetric matrix the upper triangle."""
        upper = self.sums[np.triu_indices(len(self.sums))]
        return {"levels": {name: list(levels) for name, levels in self.levels.items()}, "sums": upper.tolist()}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Dependence:
        """Read back :meth:`to_dict`.

        Raises:
            ValueError: the number of sums does not fit the columns.
        """
        size = 2 * len(body["levels"]) + 1
        sums = np.zeros((size, size), np.int64)
        sums[np.triu_indices(size)] = body["sums"]
        sums = np.triu(sums) + np.triu(sums, 1).T
        return cls(levels={name: tuple(levels) for name, levels in body["levels"].items()}, sums=sums)


@dataclass(frozen=True)
class Pair:
    """How the dependence of two columns changed."""

    first: str
    second: str
    reference_correlation: float
    """Of the scores: a rank correlation, -1 to 1."""
    current_correlation: float
    p_value: float
    q_value: float

    @property
    def change(self) -> float:
        """Of the correlation, without its sign."""
        return abs(self.current_correlation - self.reference_correlation)


class DependenceCounter:
    """Counts batches on fixed levels."""

    def __init__(self, levels: Levels) -> None:
        self.levels = levels
        self._sums = np.zeros((2 * len(levels) + 1, 2 * len(levels) + 1), np.int64)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count one batch; a column it lacks, or holds in another kind, counts as missing."""
        k, rows = len(self.levels), batch.num_rows
        table = np.empty((rows, 2 * k + 1), np.float32)
        table[:, 0] = 1
        for place, (name, levels) in enumerate(self.levels.items(), 1):
            index = batch.schema.get_field_index(name)
            table[:, place] = _scores(batch.column(index), levels) if index >= 0 else 0
        np.square(table[:, 1 : k + 1], out=table[:, k + 1 :])
        for start in range(0, rows, BLOCK_ROWS):
            block = table[start : start + BLOCK_ROWS]
            self._sums += (block.T @ block).astype(np.int64)

    def result(self) -> Dependence:
        """The sums so far."""
        return Dependence(levels=self.levels, sums=self._sums)


def choose_levels(batch: pa.RecordBatch, names: Sequence[str]) -> Levels:
    """Levels from the first rows of a reference; a column with a single value among them has none."""
    levels: dict[str, tuple[float, ...] | tuple[str, ...]] = {}
    for name in names:
        column = batch.column(batch.schema.get_field_index(name))
        found = _text_levels(column) if kind_of(column.type) == "category" else _number_levels(column)
        if found:
            levels[name] = found
    return dict(list(levels.items())[:MAX_COLUMNS])


def changed_pairs(
    reference: Dependence,
    current: Dependence,
    *,
    skip: Sequence[str] = (),
    design_effects: Mapping[str, float] | None = None,
) -> list[Pair]:
    """Compare the dependence of every pair of columns, the surest change first.

    The covariance c of two columns' scores is a mean of products of centred scores, so its difference between the
    samples is normal with variance v (1/m + 1/n), v the pooled variance of these products:
    z = (c_current - c_reference) / sqrt(v (1/m + 1/n)), two-sided, then Benjamini and Hochberg over the pairs. Zero
    means the pair moves together as before.

    Args:
        reference, current: Counted on the same levels.
        skip: Columns that drifted themselves: their scores' covariances change without any change of dependence.
        design_effects: Of dependent rows, by column: z² is divided by the larger of the pair's.

    References:
        Rank scores: W. Conover, R. Iman (1981), Am. Stat. 35, 124-129. The matrix of covariances compared entry by
        entry: T. Cai, W. Liu, Y. Xia (2013), J. Am. Stat. Assoc. 108, 265-277.

    Raises:
        ValueError: the levels differ.
    """
    pooled = reference.merge(current)
    names = [name for name in reference.levels if name not in skip]
    m, n = int(reference.sums[0, 0]), int(current.sums[0, 0])
    if len(names) < 2 or not m or not n:
        return []
    places = [1 + list(reference.levels).index(name) for name in names]
    variance = _product_variance(pooled, places)
    before, after = (_covariance(sample, places) for sample in (reference, current))
    rows, columns = np.triu_indices(len(places), 1)
    effects = np.array([(design_effects or {}).get(name, 1.0) for name in names])
    error = np.sqrt(variance[rows, columns] * (1 / m + 1 / n) * np.maximum(effects[rows], effects[columns]))
    difference = (after - before)[rows, columns]
    z = np.divide(difference, error, out=np.zeros_like(error), where=error > 0)
    p_values = [math.erfc(abs(value) / math.sqrt(2)) for value in z.tolist()]
    q_values = false_discovery_q_values(p_values)
    old, new = _correlation(before), _correlation(after)
    pairs = [
        Pair(names[i], names[j], float(old[i, j]), float(new[i, j]), p, q)
        for i, j, p, q in zip(rows.tolist(), columns.tolist(), p_values, q_values, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (pair.q_value, -abs(pair.current_correlation - pair.reference_correlation)))


def _covariance(sample: Dependence, places: Sequence[int]) -> Floats:
    moments = sample.sums / sample.sums[0, 0]
    mean = moments[0, places]
    return np.asarray(moments[np.ix_(places, places)] - np.outer(mean, mean))


def _correlation(covariance: Floats) -> Floats:
    spread = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0)


def _product_variance(sample: Dependence, places: Sequence[int]) -> Floats:
    """Variance of (a - mean a) (b - mean b) for all pairs, multiplied out into the moments at hand."""
    k = len(sample.levels)
    moments = sample.sums / sample.sums[0, 0]
    squares = [place + k for place in places]
    mean, square = moments[0, places], moments[0, squares]
    products, mixed = moments[np.ix_(places, places)], moments[np.ix_(squares, places)]
    second = (
        moments[np.ix_(squares, squares)]
        - 2 * mixed * mean
        - 2 * (mixed * mean).T
        + np.outer(square, mean**2)
        + np.outer(mean**2, square)
        + 4 * np.outer(mean, mean) * products
        - 3 * np.outer(mean**2, mean**2)
    )
    return np.asarray(np.maximum(second - (products - np.outer(mean, mean)) ** 2, 0))


def _scores(column: pa.Array, levels: tuple[float, ...] | tuple[str, ...]) -> NDArray[Any]:
    text, kind = isinstance(levels[0], str), kind_of(column.type)
    if kind is None or (kind == "category") != text or pa.types.is_null(column.type):
        return np.zeros(len(column), np.float32)
    return _text_scores(column, levels) if text else _number_scores(column, np.asarray(levels, np.float64))


def _number_scores(column: pa.Array, levels: Floats) -> NDArray[Any]:
    values = aligned_numbers(column)
    places = np.searchsorted(levels, values, side="right")
    middle = len(levels) / 2
    table = np.round((np.arange(len(levels) + 1) - middle) * (LEVELS / max(middle, 1)))
    scores: NDArray[Any] = table.astype(np.float32)[places]
    scores[np.isnan(values)] = 0
    return scores


def _text_scores(column: pa.Array, levels: Sequence[Any]) -> NDArray[Any]:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    import pyarrow.compute as pc

    found = pc.index_in(column.dictionary.cast(pa.string()), texts(levels))
    rank = np.where(flags(found.is_valid()), view(found), len(levels))
    table = np.append(LEVELS - np.arange(len(levels), dtype=np.float32), 0).astype(np.float32)
    codes = column.indices
    if codes.null_count:
        codes = codes.fill_null(len(rank))
    return np.asarray(table[np.append(rank, len(levels))][view(codes)])


def _number_levels(column: pa.Array) -> tuple[float, ...]:
    values = aligned_numbers(column)
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return ()
    cuts = np.unique(values[np.arange(1, 2 * LEVELS + 1) * len(values) // (2 * LEVELS + 1)])
    return tuple(cuts[cuts > values[0]].tolist())


def _text_levels(column: pa.Array) -> tuple[str, ...]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    import pyarrow.compute as pc

    counted = pc.value_counts(column.cast(pa.string()).drop_null()).to_pylist()
    ranked = sorted(counted, key=lambda item: (-item["counts"], item["values"]))
    return tuple(item["values"] for item in ranked[: 2 * LEVELS + 1]) if len(ranked) > 1 else ()
