"""Whether groups of protected columns are decided alike: parity, odds, disparate impact, each with its interval.

The figures are those of fairlearn (M. Weerts et al., 2023, JMLR 24(257)), which a test compares them with:
``demographic_parity_difference``, ``equalized_odds_difference``, ``demographic_parity_ratio``. Needs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.decision import decide
from kedge.measure import Floats
from kedge.policy import Policy
from kedge.policy.gates import Fairness

DRAWS = 1000
"""Resamples an interval is taken from."""
SEED = 20_260_301
LEVEL = 0.95

Name = Literal["parity difference", "odds difference", "impact ratio"]
Counts = NDArray[np.float64]
"""Rows by group, outcome and decision, shape (..., groups, 2, 2)."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that share a value of a protected column."""

    value: str
    rows: int
    positives: int
    selected: float
    """Share decided positively."""


@dataclass(frozen=True, kw_only=True)
class Fair:
    """One figure of one protected column."""

    column: str
    name: Name
    value: float | None
    """None: too few rows of two groups."""
    low: float | None
    high: float | None
    """Two-sided 95 % interval."""
    limit: float
    groups: tuple[Group, ...]
    """All groups, those too small to be judged among them."""
    judged: int
    """How many are judged."""

    @property
    def within(self) -> bool:
        """Whether the figure itself keeps the limit, whatever its interval."""
        return self.value is not None and self._keeps(self.value)

    @property
    def shown(self) -> bool:
        """Whether the whole interval lies beyond the limit."""
        nearest = self.high if self.name == "impact ratio" else self.low
        return nearest is not None and not self._keeps(nearest)

    def _keeps(self, value: float) -> bool:
        return value >= self.limit if self.name == "impact ratio" else value <= self.limit


def fairness(policy: Policy, label: Floats, score: Floats, table: pa.Table) -> Iterator[Fair]:
    """Each limited figure of each protected column of ``gates.fairness`` (binary).

    Args:
        label, score: Outcomes and scores, shape (n,); a row is decided positively from ``model.threshold`` on.
        table: The same rows with the protected columns.
    """
    rules = policy.gates.fairness
    decided = decide(policy.model, score).astype(np.int64)
    for column in rules.columns:
        values, group = _groups(table.column(column))
        cells = (group * 2 + label.astype(np.int64)) * 2 + decided
        counts = np.bincount(cells, minlength=4 * len(values)).reshape(len(values), 2, 2).astype(np.float64)
        yield from of_counts(column, values, counts, rules, policy.gates.min_class_rows)


def of_counts(column: str, values: list[str], counts: Counts, rules: Fairness, min_class_rows: int) -> Iterator[Fair]:
    """The same of rows that are counted already, by group, outcome and decision: shape (groups, 2, 2).

    Groups of fewer than ``min_rows`` are told, not judged; of the odds only what ``min_class_rows`` of that outcome
    say.
    """
    rows = counts.sum(axis=(1, 2))
    groups = tuple(
        Group(value=value, rows=int(count.sum()), positives=int(count[1].sum()), selected=_share(count))
        for value, count in zip(values, counts, strict=True)
    )
    judged = counts[rows >= rules.min_rows]
    known = judged.sum(axis=2) >= min_class_rows
    random = np.random.default_rng(SEED)
    drawn = random.multinomial(int(judged.sum()), judged.ravel() / judged.sum(), size=DRAWS) if judged.size else None
    figures: dict[Name, tuple[float | None, Callable[[Counts], NDArray[np.float64]]]] = {
        "parity difference": (rules.max_parity_difference, _parity_difference),
        "odds difference": (rules.max_odds_difference, lambda each: _odds_difference(each, known)),
        "impact ratio": (rules.min_impact_ratio, _impact_ratio),
    }
    for name, (limit, figure) in figures.items():
        if limit is None:
            continue
        value = low = high = None
        if drawn is not None and len(judged) > 1:
            value, low, high = _interval(figure, judged, drawn.reshape(DRAWS, *judged.shape).astype(np.float64))
        yield Fair(
            column=column, name=name, value=value, low=low, high=high, limit=limit, groups=groups, judged=len(judged)
        )


def _groups(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """The values of a column as text, and the place of each row's."""
    texts = np.array(["missing" if value is None else _text(value) for value in column.to_pylist()], dtype=object)
    values, group = np.unique(texts.astype(str), return_inverse=True)
    return values.tolist(), group.astype(np.int64)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _share(count: Counts) -> float:
    return float(count[:, 1].sum() / count.sum()) if count.sum() else 0.0


def _selected(counts: Counts) -> NDArray[np.float64]:
    """Share of each group that is decided positively."""
    return np.asarray(counts[..., 1].sum(axis=-1) / np.maximum(counts.sum(axis=(-1, -2)), 1))


def _parity_difference(counts: Counts) -> NDArray[np.float64]:
    """Largest less smallest share decided positively."""
    selected = _selected(counts)
    return np.asarray(selected.max(axis=-1) - selected.min(axis=-1))


def _impact_ratio(counts: Counts) -> NDArray[np.float64]:
    """Smallest over largest share decided positively; 1 where nobody is."""
    selected = _selected(counts)
    most = selected.max(axis=-1)
    return np.where(most > 0, selected.min(axis=-1) / np.where(most > 0, most, 1), 1.0)


def _odds_difference(counts: Counts, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The larger difference of the true and of the false positive rates, of groups where each is known."""
    rates = np.divide(counts[..., 1], np.maximum(counts.sum(axis=-1), 1))
    apart = [
        rates[..., known[:, outcome], outcome].max(axis=-1) - rates[..., known[:, outcome], outcome].min(axis=-1)
        for outcome in (0, 1)
        if known[:, outcome].sum() > 1
    ]
    return np.max(apart, axis=0) if apart else np.full(counts.shape[:-3], np.nan)


def _interval(
    figure: Callable[[Counts], NDArray[np.float64]], counts: Counts, drawn: Counts
) -> tuple[float | None, float | None, float | None]:
    """A figure with its basic bootstrap interval, held between 0 and 1.

    The largest of several differences grows with noise, of the resamples as of the rows: turned round the value
    (Davison and Hinkley 1997, section 5.2.1), the interval takes that off.
    """
    value = float(figure(counts))
    if not np.isfinite(value):
        return None, None, None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(figure(drawn), [tail, 1 - tail]).tolist()
    return value, min(max(2 * value - high, 0.0), 1.0), min(max(2 * value - low, 0.0), 1.0)
