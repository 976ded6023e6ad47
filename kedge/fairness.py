"""Whether groups of protected columns are decided alike: parity, odds, disparate impact, each with its interval.

The figures are those of fairlearn (M. Weerts et al., 2023, JMLR 24(257)), which a test compares them with:
``demographic_parity_difference``, ``equalized_odds_difference``, ``demographic_parity_ratio``. Needs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import lgamma, log, log1p
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.decision import decide
from kedge.measure import Floats
from kedge.policy import Gates, Model, Policy

DRAWS = 1000
"""Resamples an interval is taken from."""
SEED = 20_260_301
LEVEL = 0.95

Name = Literal["parity difference", "odds difference", "impact ratio"]
Counts = NDArray[np.float64]
"""Rows by outcome and decision, shape (2, 2); of several groups (..., groups, 2, 2)."""
Figure = Callable[[Counts], NDArray[np.float64]]


class _Intervals(Protocol):
    """Where the figures of counted groups lie."""

    def of(self, name: Name, figure: Figure, known: NDArray[np.bool_]) -> tuple[float, float]: ...


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
    """Two-sided interval."""
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

    def sentence(self, gates: Gates) -> str:
        """Value, interval and limit in words, with the groups that lie farthest apart."""
        bound = f"must be at {'least' if self.name == 'impact ratio' else 'most'} {self.limit:.3g}"
        name, least = f"{self.name} of {self.column}", gates.fairness.min_rows
        if self.value is None:
            groups = f"{self.judged} of {len(self.groups)} groups have {least:,} rows"
            return f"{name}: {groups} and {gates.min_class_rows} of an outcome; two are needed, and it {bound}"
        judged = [group for group in self.groups if group.rows >= least]
        ends = min(judged, key=lambda group: group.selected), max(judged, key=lambda group: group.selected)
        rates = " and ".join(f"{group.selected:.1%} of {group.value} ({group.rows:,} rows)" for group in ends)
        return (
            f"{name} {self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}), {bound}; decided positively "
            f"are between {rates}" + ("" if self.within or self.shown else "; the interval reaches within the limit")
        )


def fairness(policy: Policy, label: Floats, score: Floats, table: pa.Table) -> Iterator[Fair]:
    """Each limited figure of each protected column of ``gates.fairness`` (binary), with bootstrap intervals.

    Args:
        label, score: Outcomes and scores, shape (n,); a row is decided positively from ``model.threshold`` on.
        table: The same rows with the protected columns.
    """
    for column in policy.gates.fairness.columns:
        counts = count(policy.model, label, score, table.column(column).to_pylist())
        yield from of_counts(policy.gates, column, counts, _Drawn)


def count(model: Model, label: Floats, score: Floats, column: Sequence[Any]) -> dict[str, Counts]:
    """Rows by outcome and decision, shape (2, 2), of each value of a column, in the order of their texts."""
    texts = np.array(["missing" if value is None else _text(value) for value in column], dtype=object)
    values, group = np.unique(texts.astype(str), return_inverse=True)
    cells = (group * 2 + label.astype(np.int64)) * 2 + decide(model, score).astype(np.int64)
    counts = np.bincount(cells, minlength=4 * len(values)).reshape(len(values), 2, 2).astype(np.float64)
    return dict(zip(values.tolist(), counts, strict=True))


def over_time(gates: Gates, column: str, counts: Mapping[str, Counts], level: float) -> Iterator[Fair]:
    """The figures of rows that grow, with intervals that hold at all looks at once with chance 1 - ``level``.

    Args:
        counts: As of :func:`count`, all rows so far, groups in the order in which they first appeared.
        level: Of the column, over all figures and groups.
    """
    yield from of_counts(gates, column, counts, partial(_Followed, level=level))


def of_counts(
    gates: Gates, column: str, counts: Mapping[str, Counts], intervals: Callable[[Counts, Any], _Intervals]
) -> Iterator[Fair]:
    """The limited figures of rows that are counted.

    Groups of fewer than ``min_rows`` are told, not judged; of the odds only what ``min_class_rows`` of that outcome
    say.
    """
    rules, stacked = gates.fairness, np.array([*counts.values()]).reshape(-1, 2, 2)
    groups = tuple(
        Group(value=value, rows=int(each.sum()), positives=int(each[1].sum()), selected=_share(each))
        for value, each in counts.items()
    )
    chosen = stacked.sum(axis=(1, 2)) >= rules.min_rows
    judged = stacked[chosen]
    known = judged.sum(axis=2) >= gates.min_class_rows
    between = intervals(judged, np.flatnonzero(chosen)) if len(judged) > 1 else None
    figures: dict[Name, tuple[float | None, Figure]] = {
        "parity difference": (rules.max_parity_difference, _parity_difference),
        "odds difference": (rules.max_odds_difference, partial(_odds_difference, known=known)),
        "impact ratio": (rules.min_impact_ratio, _impact_ratio),
    }
    for name, (limit, figure) in figures.items():
        if limit is None:
            continue
        value = low = high = None
        if between is not None and np.isfinite(found := float(figure(judged))):
            value, (low, high) = found, between.of(name, figure, known)
        yield Fair(
            column=column, name=name, value=value, low=low, high=high, limit=limit, groups=groups, judged=len(judged)
        )


class _Drawn:
    """Basic bootstrap intervals, held between 0 and 1.

    The largest of several differences grows with noise, of the resamples as of the rows: turned round the value
    (Davison and Hinkley 1997, section 5.2.1), the interval takes that off. Of many groups it takes off too little, as
    the farthest two are chosen by their noise: the interval also reaches, towards no difference, over the range of the
    noise of all groups (as Tukey's studentized range does).
    """

    def __init__(self, counts: Counts, _places: NDArray[np.int64]) -> None:
        random = np.random.default_rng(SEED)
        drawn = random.multinomial(int(counts.sum()), counts.ravel() / counts.sum(), size=DRAWS)
        self._counts, self._drawn = counts, drawn.reshape(DRAWS, *counts.shape).astype(np.float64)

    def of(self, name: Name, figure: Figure, known: NDArray[np.bool_]) -> tuple[float, float]:
        value, tail = float(figure(self._counts)), (1 - LEVEL) / 2
        drawn_low, drawn_high = np.quantile(figure(self._drawn), [tail, 1 - tail]).tolist()
        low, high, noise = 2 * value - drawn_high, 2 * value - drawn_low, self._noise(name, known)
        if name == "impact ratio":
            high = max(high, value * np.exp(noise))
        else:
            low = min(low, value - noise)
        return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)

    def _noise(self, name: Name, known: NDArray[np.bool_]) -> float:
        """How far apart groups of equal rates lie by chance; of ratios, in logarithms."""
        apart = [
            np.ptp(drawn - rates, axis=-1)
            for rates, drawn in zip(
                _compared(name, self._counts, known), _compared(name, self._drawn, known), strict=True
            )
        ]
        return float(np.quantile(np.max(apart, axis=0), LEVEL))


class _Followed:
    """Intervals from those of each group's rates, which hold at every look.

    A third of the level goes to each rate (decided positively, true and false positives), of that 6 / (pi k)² to the
    k-th group that appeared: however many appear, the sum is the level.
    """

    def __init__(self, counts: Counts, places: NDArray[np.int64], level: float) -> None:
        levels = 6 * level / (3 * np.pi**2 * (places + 1.0) ** 2)
        hits = np.column_stack([counts[:, :, 1].sum(axis=1), counts[:, :, 1]])
        rows = np.column_stack([counts.sum(axis=(1, 2)), counts.sum(axis=2)])
        bounds = [
            [bounds_of_rate(h, n, each) for h, n in zip(*row, strict=True)]
            for *row, each in zip(hits, rows, levels, strict=True)
        ]
        self._low, self._high = np.moveaxis(np.array(bounds), -1, 0)  # (groups, rates) each

    def of(self, name: Name, _figure: Figure, known: NDArray[np.bool_]) -> tuple[float, float]:
        low, high = self._low[:, 0], self._high[:, 0]
        match name:
            case "parity difference":
                return _apart(low, high)
            case "impact ratio":
                return float(low.min() / high.max()), float(min(high.min() / low.max(), 1.0)) if low.max() else 1.0
            case "odds difference":
                rates = [
                    _apart(self._low[known[:, k], 1 + k], self._high[known[:, k], 1 + k])
                    for k in (0, 1)
                    if known[:, k].sum() > 1
                ]
                return max(low for low, _ in rates), max(high for _, high in rates)


def _apart(low: Floats, high: Floats) -> tuple[float, float]:
    """Bounds of the largest less the smallest of rates, from the bounds of each."""
    return float(max(low.max() - high.min(), 0.0)), float(high.max() - low.min())


def bounds_of_rate(hits: float, rows: float, level: float) -> tuple[float, float]:
    """Where a rate lies, at all looks at once with chance 1 - ``level``, by ``hits`` of ``rows`` independent ones.

    The likelihood ratio of a Beta(1/2, 1/2) mixture against the rate p is a martingale that begins at 1 if p is the
    rate: it ever reaches 1/level with chance at most ``level`` (Ville). In are the rates at which it has not.

    >>> [tuple(round(bound, 3) for bound in bounds_of_rate(rows / 2, rows, 0.05)) for rows in (100, 10_000)]
    [(0.338, 0.662), (0.48, 0.52)]
    """
    limit = _log_beta(hits + 0.5, rows - hits + 0.5) - _log_beta(0.5, 0.5) + log(level)

    def inside(rate: float) -> bool:
        return (hits * log(rate) if hits else 0.0) + ((rows - hits) * log1p(-rate) if rows > hits else 0.0) >= limit

    def edge(within: float, outside: float) -> float:
        for _ in range(40):
            middle = (within + outside) / 2
            within, outside = (middle, outside) if inside(middle) else (within, middle)
        return outside

    best = hits / rows if rows else 0.5
    return edge(best, 0.0) if hits else 0.0, edge(best, 1.0) if rows > hits else 1.0


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _share(count: Counts) -> float:
    return float(count[:, 1].sum() / count.sum()) if count.sum() else 0.0


def _selected(counts: Counts) -> NDArray[np.float64]:
    """Share of each group that is decided positively."""
    return np.asarray(counts[..., 1].sum(axis=-1) / np.maximum(counts.sum(axis=(-1, -2)), 1))


def _parity_difference(counts: Counts) -> NDArray[np.float64]:
    """Largest less smallest share decided positively."""
    return np.asarray(np.ptp(_selected(counts), axis=-1))


def _impact_ratio(counts: Counts) -> NDArray[np.float64]:
    """Smallest over largest share decided positively; 1 where nobody is."""
    selected = _selected(counts)
    most = selected.max(axis=-1)
    return np.where(most > 0, selected.min(axis=-1) / np.where(most > 0, most, 1), 1.0)


def _compared(name: Name, counts: Counts, known: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The rates of the groups that a figure is the range of, shape (..., groups) each."""
    match name:
        case "parity difference":
            return [_selected(counts)]
        case "impact ratio":
            return [np.log((counts[..., 1].sum(axis=-1) + 0.5) / (counts.sum(axis=(-1, -2)) + 0.5))]
        case "odds difference":
            rates = np.divide(counts[..., 1], np.maximum(counts.sum(axis=-1), 1))
            return [rates[..., known[:, k], k] for k in (0, 1) if known[:, k].sum() > 1]


def _odds_difference(counts: Counts, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The larger difference of the true and of the false positive rates, of groups where each is known."""
    apart = [np.ptp(rates, axis=-1) for rates in _compared("odds difference", counts, known)]
    return np.max(apart, axis=0) if apart else np.full(counts.shape[:-3], np.nan)
