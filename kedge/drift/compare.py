"""Compare a window with a reference: which columns drifted, how surely, how far."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from kedge.drift import distances, significance
from kedge.drift.columns import Categories, Column, NotCounted, Numbers
from kedge.drift.dependence import Pair, changed_pairs
from kedge.drift.profile import Profile
from kedge.errors import DataError

ALPHA = 0.05
MIN_PSI = 0.005
"""A shift of 0.07 standard deviations."""
MIN_ROWS = 200
MIN_CORRELATION_CHANGE = 0.03
"""Smaller changes of a pair's correlation are trivial, however sure."""

WEIGHTS = {"distribution": 0.9, "missing values": 0.04, "new categories": 0.03, "range": 0.02, "infinities": 0.01}
"""How a column's share of the false-alarm budget is split over its tests. Moved means cost power; a broken feed shows
in hundreds of rows at once and is found with little of the budget."""
UPPER = 1.645
"""Standard errors above the estimate that an effect may still have: one-sided 95 %."""
FAMILIAR = 0.5
"""Times are compared by value only if both samples cover the same period: so much of the union of their ranges."""


@dataclass(frozen=True)
class Test:
    """One test of one column."""

    p_value: float
    effect: float
    """Debiased PSI of what was tested, in nats."""
    effect_upper: float
    """The largest effect the rows are consistent with: one-sided 95 % upper bound."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """What is known about one column of the window. Shares are 0 to 1 of all its rows; None: could not be measured."""

    kind: str
    verdict: str = "compared"
    """``compared``, or why not: ``missing``, ``missing in some rows``, ``type changed``, ``not comparable``.

    Only the last is no drift: no model input is made of such a column.
    """
    drifted: bool = False
    reasons: tuple[str, ...] = ()
    """The tests that say so, in words: keys of :data:`WEIGHTS`; or the verdict."""
    p_value: float | None = None
    """Chance of so much difference, in any of its tests, without drift."""
    q_value: float | None = None
    """Smallest false discovery rate over all columns at which this one is called."""
    psi: float | None = None
    psi_debiased: float | None = None
    ks: float | None = None
    js: float | None = None
    kl: float | None = None
    hellinger: float | None = None
    wasserstein: float | None = None
    null_rate: float | None = None
    reference_null_rate: float | None = None
    new_category_share: float | None = None
    out_of_range_share: float | None = None
    infinite_share: float | None = None
    tests: Mapping[str, Test] = field(default_factory=dict)
    without_drift: Mapping[str, distances.NoDrift] = field(default_factory=dict)
    """What each distance is when nothing has changed."""
    note: str = ""
    """What a reader should know: a likely new name, new categories, other types."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A window against its reference."""

    verdict: Literal["compared", "too few rows"]
    rows: int
    reference_rows: int
    features: Mapping[str, Feature]
    extra: Mapping[str, str]
    """Columns the reference does not have, with their type."""
    pairs: Sequence[Pair] = ()
    """Pairs of columns whose dependence changed while neither drifted itself; empty if pairs were not counted."""
    drifted_importance: float
    """Share of importance, 0 to 1, of the columns that drifted; columns of kedge's own (``_label``) do not count."""

    @property
    def drifted(self) -> list[str]:
        """Names of the columns that drifted, the surest first."""
        found = [name for name, feature in self.features.items() if feature.drifted]
        return sorted(found, key=lambda name: (self.features[name].q_value or 0.0, -_size(self.features[name])))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every number finite or null."""
        return {
            "verdict": self.verdict,
            "rows": self.rows,
            "reference_rows": self.reference_rows,
            "drifted": self.drifted,
            "drifted_importance": self.drifted_importance,
            "features": {name: _plain(feature) for name, feature in self.features.items()},
            "pairs": [vars(pair) for pair in self.pairs],
            "extra_columns": dict(self.extra),
        }


def compare(
    reference: Profile,
    current: Profile,
    *,
    alpha: float = ALPHA,
    min_psi: float = MIN_PSI,
    min_rows: int = MIN_ROWS,
    importance: Mapping[str, float] | None = None,
    design_effects: Mapping[str, float] | None = None,
) -> Comparison:
    """Say which columns of a window drifted from the reference.

    A column drifted if one of its tests is called by Benjamini and Hochberg's procedure over all columns at level
    ``alpha``, and the effect that test found may be as large as ``min_psi``: surely different, and not surely trivial.
    A column that is missing or changed its type drifted without a test.

    Args:
        reference: Made by :func:`~kedge.drift.build`.
        current: Counted on that reference.
        alpha: False discovery rate over the columns; without drift, the chance of any call.
        min_psi: Effect floor, debiased PSI in nats.
        min_rows: With fewer rows on either side the verdict is "too few rows" and nothing is called drifted.
        importance: Weight of each feature in :attr:`Comparison.drifted_importance`, not negative; without it all
            count alike.
        design_effects: For windows of dependent rows, by column, from
            :func:`~kedge.drift.design_effects.design_effects`.

    Raises:
        DataError: the current profile was not counted on this reference; an importance is negative.
    """
    if list(reference.columns) != list(current.columns):
        raise DataError("the current profile was not counted on this reference: use count(reference, batches)")
    measured = {
        name: _measured(column, current.columns[name], (design_effects or {}).get(name, 1.0), name)
        for name, column in reference.columns.items()
    }
    enough = min(reference.rows, current.rows) >= min_rows
    features = _called(measured, alpha, min_psi) if enough else measured
    features = {name: _noted(name, feature, reference, current) for name, feature in features.items()}
    return Comparison(
        verdict="compared" if enough else "too few rows",
        rows=current.rows,
        reference_rows=reference.rows,
        features=features,
        extra=current.extra,
        pairs=_pairs(reference, current, features, alpha, design_effects or {}) if enough else (),
        drifted_importance=drifted_importance(features, importance) if enough else 0.0,
    )


def drifted_importance(features: Mapping[str, Feature], importance: Mapping[str, float] | None) -> float:
    """Share of importance that drifted, so that a noise feature alone never raises it.

    >>> drifted_importance({"noise": Feature(kind="number", drifted=True), "signal": Feature(kind="number")},
    ...           {"noise": 0.01, "signal": 0.99})
    0.01
    """
    names = [name for name in features if not name.startswith("_")]
    weights = {name: (1.0 if importance is None else float(importance.get(name, 0.0))) for name in names}
    for name, weight in weights.items():
        if not weight >= 0 or math.isinf(weight):
            raise DataError(f"importance of {name!r} is {weight}; it must be finite and not negative")
    total = math.fsum(weights.values())
    return math.fsum(weights[name] for name in names if features[name].drifted) / total if total else 0.0


def _pairs(
    reference: Profile,
    current: Profile,
    features: Mapping[str, Feature],
    alpha: float,
    design_effects: Mapping[str, float],
) -> tuple[Pair, ...]:
    if reference.dependence is None or current.dependence is None:
        return ()
    drifted = [name for name, feature in features.items() if feature.drifted]
    try:
        pairs = changed_pairs(reference.dependence, current.dependence, skip=drifted, design_effects=design_effects)
    except ValueError as exc:
        raise DataError(f"the current profile was not counted on this reference: {exc}") from exc
    return tuple(pair for pair in pairs if pair.q_value <= alpha and pair.change >= MIN_CORRELATION_CHANGE)


def _called(measured: Mapping[str, Feature], alpha: float, min_psi: float) -> dict[str, Feature]:
    """Q-values over the columns that have one, and with them the verdict on each."""
    tested = [name for name, feature in measured.items() if feature.p_value is not None]
    p_values = [measured[name].p_value or 0.0 for name in tested]
    q_values = dict(zip(tested, significance.false_discovery_q_values(p_values), strict=True))
    called = sum(q_value <= alpha for q_value in q_values.values())
    cut = alpha * called / len(tested) if called else -1.0
    result = {}
    for name, feature in measured.items():
        reasons = _reasons(feature, cut, min_psi)
        result[name] = _replace(feature, q_value=q_values.get(name), reasons=reasons, drifted=bool(reasons))
    return result


def _reasons(feature: Feature, cut: float, min_psi: float) -> tuple[str, ...]:
    """Why a column drifted: what shows without a test, and the tests whose p-value is within the cut."""
    if feature.verdict in ("missing", "type changed"):
        return (feature.verdict,)
    shown = [
        name
        for name, test in feature.tests.items()
        if test.p_value / WEIGHTS[name] <= cut and test.effect_upper >= min_psi
    ]
    return ("missing in some rows", *shown) if feature.verdict == "missing in some rows" else tuple(shown)


def _measured(reference: Column, current: Column, design_effect: float, name: str) -> Feature:
    match reference, current:
        case Numbers(), Numbers():
            _must_match(reference.edges.tolist() == current.edges.tolist(), name)
            return _numbers(reference, current, design_effect)
        case Categories(), Categories():
            _must_match(reference.values == current.values, name)
            return _categories(reference, current, design_effect)
        case NotCounted(), _:
            return Feature(
                kind=reference.kind, verdict="not comparable", note=f"{reference.type} columns are not compared"
            )
        case _, NotCounted():
            return Feature(
                kind=reference.kind, verdict="type changed", note=f"was {reference.type}, is {current.type or 'absent'}"
            )
        case _:
            raise DataError(f"column {name!r}: the current profile was not counted on this reference")


def _must_match(same: bool, name: str) -> None:
    if not same:
        raise DataError(f"column {name!r}: the current profile was not counted on this reference; count it anew")


def _numbers(reference: Numbers, current: Numbers, design_effect: float) -> Feature:
    m, n = reference.finite, current.finite
    comparable = reference.kind == "number" or same_period(reference, current)
    tests: dict[str, Test | None] = {"missing values": _missing(reference, current, design_effect)}
    if reference.kind == "time":
        tests["distribution"] = _test(
            significance.homogeneity_test(
                *significance.pooled_cells(reference.clock, current.clock, (0, 0)), design_effect=design_effect
            ),
            reference.clock,
            current.clock,
            design_effect,
        )
    groups = distances.grouped(reference.counts, current.counts)
    if comparable:
        by_value = _test(
            significance.smooth_test(reference.counts, current.counts, design_effect=design_effect),
            *groups,
            design_effect,
        )
        tests["distribution"] = _smaller(tests.get("distribution"), by_value)
        tests["range"] = _outside(reference, current, design_effect)
    tests["infinities"] = _infinities(reference, current, design_effect)
    measures: dict[str, Any] = {}
    if not comparable:  # the figure that is shown is the one that is tested
        cells = significance.pooled_cells(reference.clock, current.clock, (0, 0))
        measures = _cell_distances(cells, m, n)
    elif m and n and len(groups[0]):
        measures = _number_distances(reference, current, groups)
    return _feature(
        reference,
        current,
        tests,
        out_of_range_share=_share(current.below + current.above + current.infinite, current.rows)
        if comparable
        else None,
        infinite_share=_share(current.infinite, current.rows),
        **measures,
    )


def _number_distances(reference: Numbers, current: Numbers, groups: tuple[Any, Any]) -> dict[str, Any]:
    m, n, cells = reference.finite, current.finite, len(groups[0])
    with np.errstate(over="ignore", invalid="ignore"):  # values may be further apart than a number can say
        area = _moved(reference, current)
    return {
        **_share_distances(*groups),
        "ks": distances.kolmogorov_smirnov(reference.counts, current.counts),
        "wasserstein": area if math.isfinite(area) else None,
        "without_drift": {
            **_shares_without_drift(cells, m, n),
            "ks": distances.kolmogorov_smirnov_without_drift(m, n),
        },
    }


def _moved(reference: Numbers, current: Numbers) -> float:
    """How far a value moved on average."""
    if len(reference.atoms):
        return distances.wasserstein_of_atoms(reference.counts, current.counts, reference.atoms)
    cut_counts = _cut_at_extremes(reference, reference), _cut_at_extremes(current, reference)
    low, high = _span(reference)
    edges = np.concatenate([[low], reference.edges, [np.nextafter(high, np.inf)]])
    return distances.wasserstein(*cut_counts, edges, (low, high), _span(current))


def _categories(reference: Categories, current: Categories, design_effect: float) -> Feature:
    m, n = reference.present, current.present
    rest = reference.other + reference.new, current.other + current.new
    least = int(reference.counts.min()) if len(reference.counts) and reference.tail else 0
    floor = significance.safe_floor(least, m, n) if least and n else 0
    cells = significance.pooled_cells(reference.counts, current.counts, rest, floor=floor)
    tests = {
        "distribution": _test(
            significance.homogeneity_test(*cells, design_effect=design_effect), *cells, design_effect
        ),
        "missing values": _missing(reference, current, design_effect),
        "new categories": _unseen(reference, current, design_effect),
    }
    measures = _cell_distances(cells, m, n)
    return _feature(reference, current, tests, new_category_share=_share(current.new, current.rows), **measures)


def _cell_distances(cells: tuple[Any, Any], m: int, n: int) -> dict[str, Any]:
    if not (m and n and len(cells[0]) > 1):
        return {}
    return {**_share_distances(*cells), "without_drift": _shares_without_drift(len(cells[0]), m, n)}


def _feature(
    reference: Numbers | Categories, current: Numbers | Categories, tests: Mapping[str, Test | None], **measures: Any
) -> Feature:
    done = {name: test for name, test in tests.items() if test is not None}
    p_value = min((min(1.0, test.p_value / WEIGHTS[name]) for name, test in done.items()), default=None)
    verdict = "compared"
    if current.absent:
        verdict = "missing" if current.absent == current.rows else "missing in some rows"
    return Feature(
        kind=reference.kind,
        verdict=verdict,
        p_value=p_value,
        tests=done,
        null_rate=_share(current.missing, current.rows),
        reference_null_rate=_share(reference.missing, reference.rows),
        **measures,
    )


def _missing(reference: Numbers | Categories, current: Numbers | Categories, design_effect: float) -> Test | None:
    table = (reference.missing, reference.rows, current.missing, current.rows)
    p_value = significance.share_change_test(*(round(rows / design_effect) for rows in table))
    before, after = ([column.rows - column.missing, column.missing] for column in (reference, current))
    return _test(p_value, before, after, design_effect)


def _infinities(reference: Numbers, current: Numbers, design_effect: float) -> Test | None:
    before, after = ([column.finite, column.infinite] for column in (reference, current))
    table = (before[1], sum(before), after[1], sum(after))
    p_value = significance.share_increase_test(*(round(rows / design_effect) for rows in table))
    return _test(p_value, before, after, design_effect)


def _outside(reference: Numbers, current: Numbers, design_effect: float) -> Test | None:
    m, n = round(reference.finite / design_effect), round(current.finite / design_effect)
    sides = []
    for before, now in ((reference.below, current.below), (reference.above, current.above)):
        k, j = round(before / design_effect), round(now / design_effect)
        sides.append(significance.share_increase_test(k, m, j, n) if k else significance.outside_test(m, j, n))
    found = [p for p in sides if p is not None]
    before, now = reference.below + reference.above, current.below + current.above
    p_value = min(1.0, 2 * min(found)) if found else None
    return _test(p_value, [reference.finite - before, before], [current.finite - now, now], design_effect)


def _unseen(reference: Categories, current: Categories, design_effect: float) -> Test | None:
    m, n = reference.present, current.present
    scaled = [round(value / design_effect) for value in (reference.singletons, m, current.new, n)]
    expected = reference.singletons
    return _test(
        significance.unseen_test(*scaled), [m - expected, expected], [n - current.new, current.new], design_effect
    )


def _test(p_value: float | None, reference: Any, current: Any, design_effect: float) -> Test | None:
    if p_value is None:
        return None
    r, c = [float(x) / design_effect for x in reference], [float(x) / design_effect for x in current]
    if not sum(r) or not sum(c):
        return Test(p_value, math.inf, math.inf)
    effect, error = distances.debiased_psi(r, c)
    return Test(p_value, effect, effect + UPPER * error)


def _smaller(first: Test | None, second: Test | None) -> Test | None:
    """The surer of two tests, paid for by doubling its p-value."""
    if first is None or second is None:
        return first or second
    surer = min(first, second, key=lambda test: test.p_value)
    return Test(min(1.0, 2 * surer.p_value), surer.effect, surer.effect_upper)


def same_period(reference: Numbers, current: Numbers) -> bool:
    """Whether both cover mostly the same values: times of other periods are compared by their hour of the day."""
    if reference.low is None or reference.high is None or current.minimum is None or current.maximum is None:
        return False
    union = max(reference.high, current.maximum) - min(reference.low, current.minimum)
    shared = min(reference.high, current.maximum) - max(reference.low, current.minimum)
    return union == 0 or shared / union >= FAMILIAR


def _share_distances(reference: Any, current: Any) -> dict[str, float]:
    return {
        "psi": distances.psi(reference, current),
        "psi_debiased": distances.debiased_psi(reference, current)[0],
        "js": distances.jensen_shannon(reference, current),
        "kl": distances.kullback_leibler(reference, current),
        "hellinger": distances.hellinger(reference, current),
    }


def _shares_without_drift(cells: int, m: int, n: int) -> dict[str, distances.NoDrift]:
    root = distances.root_distance_without_drift(cells, m, n)
    return {
        "psi": distances.psi_without_drift(cells, m, n),
        "js": root,
        "kl": distances.kullback_leibler_without_drift(cells, m, n),
        "hellinger": root,
    }


def _noted(name: str, feature: Feature, reference: Profile, current: Profile) -> Feature:
    notes = [feature.note] if feature.note else []
    column = current.columns[name]
    if feature.verdict == "missing":
        likely = _likely_new_name(name, reference, current)
        notes.append(f"renamed to {likely!r}?" if likely else "the window has no such column")
    elif feature.verdict == "missing in some rows" and isinstance(column, Numbers | Categories):
        notes.append(f"{column.absent:,} of {column.rows:,} rows come from files without it")
    if isinstance(column, Numbers | Categories) and column.type and column.type != reference.columns[name].type:
        notes.append(f"type was {reference.columns[name].type}, is {column.type}")
    if isinstance(column, Numbers) and column.unreadable:
        notes.append(f"{column.unreadable:,} values are no {column.kind}s and count as missing")
    if _of_other_periods(reference.columns[name], column):
        notes.append("times of another period: compared by the hour of the day, UTC")
    if isinstance(column, Categories) and column.new_values:
        top = sorted(column.new_values.items(), key=lambda item: (-item[1], item[0]))[:3]
        notes.append("new: " + ", ".join(f"{value!r} ({rows:,} rows)" for value, rows in top))
    return _replace(feature, note="; ".join(notes))


def _of_other_periods(reference: Column, current: Column) -> bool:
    """Whether both are times, and of other periods."""
    if not (isinstance(reference, Numbers) and isinstance(current, Numbers) and reference.kind == "time"):
        return False
    return reference.finite > 0 < current.finite and not same_period(reference, current)


def _likely_new_name(name: str, reference: Profile, current: Profile) -> str | None:
    """A new column that is spelt alike, or holds the old name or is held by it, or is the only one of the old type."""
    close = difflib.get_close_matches(name, list(current.extra), n=1, cutoff=0.6)
    inside = [new for new in current.extra if name.lower() in new.lower() or new.lower() in name.lower()]
    alike = [new for new, found in current.extra.items() if found == reference.columns[name].type]
    gone = [
        old
        for old, column in current.columns.items()
        if isinstance(column, Numbers | Categories)
        and column.absent == current.rows
        and reference.columns[old].type == reference.columns[name].type
    ]
    alone = alike if len(alike) == len(gone) == 1 else []
    return next(iter([*close, *inside, *alone]), None)


def _replace(feature: Feature, **changes: Any) -> Feature:
    return Feature(**{**vars(feature), **changes})


def _cut_at_extremes(column: Numbers, reference: Numbers) -> list[int]:
    """Counts with the rows beyond the reference's extremes apart."""
    below, above = (column.below, column.above) if column is not reference else (0, 0)
    counts = column.counts.tolist()
    counts[0] -= below
    counts[-1] -= above
    return [below, *counts, above]


def _span(column: Numbers) -> tuple[float, float]:
    return (column.minimum or 0.0, column.maximum or 0.0)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _size(feature: Feature) -> float:
    return feature.psi_debiased or 0.0


def _plain(feature: Feature) -> dict[str, Any]:
    body = {name: _finite(value) for name, value in vars(feature).items() if name not in ("tests", "without_drift")}
    body["reasons"] = list(feature.reasons)
    body["tests"] = {
        name: {key: _finite(value) for key, value in vars(test).items()} for name, test in feature.tests.items()
    }
    body["without_drift"] = {name: vars(found) for name, found in feature.without_drift.items()}
    return body


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
