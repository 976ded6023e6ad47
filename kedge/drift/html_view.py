"""Profiles and comparisons for people: small histograms of every column, of a comparison the worst first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from kedge import report
from kedge.drift.columns import Categories, Column, Counts, NotCounted, Numbers
from kedge.drift.compare import Comparison, Feature, same_period
from kedge.drift.profile import Profile
from kedge.errors import some
from kedge.report.page import small_multiples

BARS = 24
MAX_CATEGORIES = 12
MAX_UNFOLDED = 40
"""A page of more columns folds those that did not drift."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

HEADS = ("column", "drifted by", "q-value", "PSI less bias", "KS", "JS", "missing before", "missing now", "new", "note")

Histogram = tuple[list[str], Sequence[float], Sequence[float]]


def drift_page(comparison: Comparison, reference: Profile, current: Profile, *, title: str = "Drift") -> str:
    """A whole page about one window."""
    return report.page(title, *drift_sections(comparison, reference, current))


def drift_sections(comparison: Comparison, reference: Profile, current: Profile) -> list[Markup]:
    """The page's parts: the verdict, pairs if any changed, every column drawn, every column in figures."""
    pairs = [pairs_table(comparison)] if comparison.pairs else []
    drawn = small_histograms(comparison, reference, current)
    return [summary(comparison), *pairs, drawn, columns_table(comparison)]


def profile_section(profile: Profile) -> Markup:
    """A profile in a few facts and a small histogram of every column."""
    figures = [_single(name, column, profile.rows) for name, column in profile.columns.items()]
    tiles = {"Rows": profile.rows, "Columns": len(profile.columns)}
    return report.section("Profile", report.facts(tiles), small_multiples(figures))


def summary(comparison: Comparison) -> Markup:
    """The verdict in a few facts and a sentence."""
    drifted = comparison.drifted
    if comparison.verdict == "too few rows":
        sentence = "Too few rows to say anything: this is not the same as no drift."
    elif drifted:
        sentence = f"Drifted, the surest first: {some(drifted)}."
    else:
        sentence = "No column drifted."
    extra = f"Columns the reference does not have: {', '.join(comparison.extra)}." if comparison.extra else ""
    tiles = {
        "Rows": comparison.rows,
        "Reference rows": comparison.reference_rows,
        "Columns drifted": f"{len(drifted)} of {len(comparison.features)}",
    }
    return report.section("Verdict", sentence, *([extra] if extra else []), report.facts(tiles))


def columns_table(comparison: Comparison) -> Markup:
    """One line a column, worst first."""
    explained = (
        "PSI less bias is 0 on average when nothing has changed. The q-value is the smallest false discovery rate at "
        "which a column is called; KS and JS are above 0 even without drift."
    )

    def listed(names: Sequence[str]) -> Markup:
        return report.table(HEADS, [_line(name, comparison.features[name]) for name in names])

    return report.section("Columns", explained, *_worst_open(comparison, listed))


def _line(name: str, feature: Feature) -> tuple[object, ...]:
    measured = feature.psi_debiased, feature.ks, feature.js
    shares = feature.reference_null_rate, feature.null_rate, feature.new_category_share
    rounded = [None if value is None else _rounded(value, 4) for value in (*measured, *shares)]
    return name, ", ".join(feature.reasons) or "–", feature.q_value, *rounded, feature.note


def pairs_table(comparison: Comparison) -> Markup:
    """Pairs of columns whose dependence changed."""
    rows = [
        (pair.first, pair.second, pair.reference_correlation, pair.current_correlation, pair.q_value)
        for pair in comparison.pairs[:50]
    ]
    heads = ("first", "second", "rank correlation before", "now", "q-value")
    return report.section("Pairs that move together differently", report.table(heads, rows))


def small_histograms(comparison: Comparison, reference: Profile, current: Profile) -> Markup:
    """Every column as a small histogram: reference as bars, window as outline."""

    def drawn(names: Sequence[str]) -> Markup:
        figures = (
            _figure(name, comparison.features[name], reference.columns[name], current.columns[name]) for name in names
        )
        return small_multiples(list(figures))

    legend = "Grey bars are the reference, the coloured outline is the window; shares of rows with a value."
    return report.section("Reference against window, worst first", legend, *_worst_open(comparison, drawn))


def _worst_open(comparison: Comparison, draw: Callable[[Sequence[str]], Markup]) -> list[Markup]:
    """The columns drawn, worst first; the quiet ones of a page with many are folded."""
    names, quiet = worst_first(comparison), []
    if len(names) > MAX_UNFOLDED:
        drifted = sum(feature.drifted for feature in comparison.features.values())
        names, quiet = names[:drifted], names[drifted:]
    parts = [draw(names)] if names else []
    if quiet:
        summary = f"{len(quiet):,} columns did not drift"
        parts.append(Markup("<details><summary>{}</summary>{}</details>").format(summary, draw(quiet)))
    return parts


def worst_first(comparison: Comparison) -> list[str]:
    """Names of all columns: drifted ones first, then by q-value, then by PSI."""

    def badness(name: str) -> tuple[bool, float, float]:
        feature = comparison.features[name]
        q_value = feature.q_value if feature.q_value is not None else 1.0
        return (not feature.drifted, 0.0 if feature.drifted and feature.q_value is None else q_value, -_effect(feature))

    return sorted(comparison.features, key=badness)


def histogram(reference: Column, current: Column) -> Histogram | None:
    """Labels and heights of both samples in few bars; None where there is nothing to draw."""
    match reference, current:
        case Numbers(kind="time"), Numbers() if not same_period(reference, current):
            hours = [f"{hour:02d}:00" for hour in range(len(reference.clock))]
            return hours, reference.clock.tolist(), current.clock.tolist()
        case Numbers(), Numbers():
            return _atoms(reference, current) if len(reference.atoms) else _bars(reference, current)
        case Categories(), Categories():
            return _categories(reference, current)
        case _:
            return None


def _figure(name: str, feature: Feature, reference: Column, current: Column) -> Markup:
    said = ", ".join(feature.reasons) or "no drift"
    numbers = f"PSI {_rounded(feature.psi_debiased, 3):.3f}" if feature.psi_debiased is not None else ""
    missing = ""
    if feature.null_rate or feature.reference_null_rate:
        missing = f"missing {feature.reference_null_rate or 0:.1%} → {feature.null_rate or 0:.1%}"
    drawn = histogram(reference, current)
    categories = _named(*drawn) if drawn is not None and isinstance(reference, Categories) else ""
    told = " · ".join(part for part in (said, numbers, missing, _unit_of(reference), categories) if part)
    caption = Markup("<b>{}</b><br>{}").format(name, told)
    if drawn is None:
        return Markup("<figure><figcaption>{}</figcaption></figure>").format(caption)
    return report.histogram_pair(*drawn, caption=caption)


def _named(labels: Sequence[str], before: Sequence[float], after: Sequence[float]) -> str:
    """Each bar of categories in words: its share of the reference and of the window; none of less than a percent."""
    old, new = max(sum(before), 1), max(sum(after), 1)
    shares = ((label, b / old, a / new) for label, b, a in zip(labels, before, after, strict=True))
    return ", ".join(f"{label} {b:.0%} → {a:.0%}" for label, b, a in shares if max(a, b) >= 0.01)


def _unit_of(column: Column) -> str:
    """The unit that a profile counts in, where its type says one."""
    if isinstance(column, Numbers) and column.kind == "time":
        return "UTC"
    return "seconds" if isinstance(column, Numbers) and column.type.startswith("duration") else ""


def _single(name: str, column: Column, rows: int) -> Markup:
    missing = 0 if isinstance(column, NotCounted) else column.missing
    notes = [
        column.type,
        *filter(None, [_unit_of(column)]),
        *([f"missing {missing / rows:.1%}"] if missing and rows else []),
    ]
    caption = Markup("<b>{}</b><br>{}").format(name, " · ".join(notes))
    drawn = histogram(column, column)
    if drawn is None:
        return Markup("<figure><figcaption>{}</figcaption></figure>").format(caption)
    labels, counts, _ = drawn
    return report.histogram(labels, counts, caption=caption)


def _bars(reference: Numbers, current: Numbers) -> Histogram | None:
    """Equal bars between the outer edges and one on either side; rows are spread evenly within a bin."""
    edges = reference.edges
    if len(edges) < 2:
        total = [float(reference.finite)], [float(current.finite)]
        return (["all values"], *total) if reference.finite or current.finite else None
    unit = _unit(edges)
    scaled = edges / unit
    grid = np.linspace(scaled[0], scaled[-1], BARS + 1)
    written = [_written(reference, value * unit) for value in grid]
    labels = [f"below {written[0]}", *(f"{a} to {b}" for a, b in pairwise(written)), f"from {written[-1]}"]
    return labels, _spread(scaled, reference.counts, grid), _spread(scaled, current.counts, grid)


def _unit(edges: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """What edges are divided by so that their differences are numbers: one, but for the largest and the smallest."""
    with np.errstate(over="ignore"):
        span = float(edges[-1] - edges[0])
    return 1.0 if 1e-290 < span < np.inf else max(abs(float(edges[0])), abs(float(edges[-1])))


def _spread(edges: np.ndarray[tuple[int], np.dtype[np.float64]], counts: Counts, grid: object) -> list[float]:
    below = np.interp(np.asarray(grid), edges, np.cumsum(counts)[:-1])
    heights: list[float] = np.diff(below, prepend=0, append=counts.sum()).clip(0).tolist()
    return heights


def _atoms(reference: Numbers, current: Numbers) -> Histogram:
    labels = [_written(reference, value) for value in reference.atoms]
    return labels, reference.counts.tolist(), current.counts.tolist()


def _categories(reference: Categories, current: Categories) -> Histogram | None:
    m, n = max(reference.present, 1), max(current.present, 1)
    importance = np.maximum(reference.counts / m, current.counts / n)
    shown = np.sort(np.argsort(-importance, kind="stable")[:MAX_CATEGORIES])
    labels = [reference.values[k] for k in shown]
    before, after = reference.counts[shown].tolist(), current.counts[shown].tolist()
    for label, old, new in (
        ("(others)", reference.present - reference.new - sum(before), current.present - current.new - sum(after)),
        ("(new)", reference.new, current.new),
    ):
        if old or new:
            labels, before, after = [*labels, label], [*before, old], [*after, new]
    return (labels, before, after) if labels else None


def _written(column: Numbers, value: float) -> str:
    if column.kind == "time":
        seconds = min(max(float(value) / 1e6, -6.2e10), 2.5e11)  # the years 5 to 9892
        return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M}"
    return f"{value:.4g}"


def _rounded(value: float, digits: int) -> float:
    """Rounded, and never -0."""
    return round(value, digits) + 0.0


def _effect(feature: Feature) -> float:
    return feature.psi_debiased or 0.0
