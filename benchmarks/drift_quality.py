"""False alarms and power of the drift check, by simulation. Prints tables in Markdown.

    python benchmarks/drift_quality.py                         about half an hour on one core
    python benchmarks/drift_quality.py --references 10         a first look

A reference is drawn row by row and profiled by the code a user runs. The windows against it are drawn as counts: given
the reference's edges, rows between them are multinomial with known chances, so drawing the counts is drawing the rows
and counting them. Correlated columns are drawn row by row. The false-alarm rate is the share of windows in which any of
the columns is called drifted, at the command's own defaults (alpha 0.05); errors are two standard errors of the mean
over references.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from kedge import drift
from kedge.drift import Profile, hashing
from kedge.drift.arrow_reader import texts
from kedge.drift.columns import Categories, Column, Numbers
from kedge.drift.compare import ALPHA

Floats = NDArray[np.float64]
MISSING = 0.05


@dataclass(frozen=True)
class Law:
    """How one column is distributed."""

    draw: Callable[[np.random.Generator, int], pa.Array]
    below: Callable[[Floats], Floats] | None = None
    """Chance of a value below each point, for numbers."""
    names: tuple[str, ...] = ()
    shares: Floats | None = None
    """Chance of each of the names, for categories."""
    missing: float = 0.0


def normal(columns: int, shift: float = 0.0) -> list[Law]:
    """Independent normal columns."""
    return [
        Law(lambda rng, rows: pa.array(rng.standard_normal(rows) + shift), lambda x: stats.norm.cdf(x - shift))
    ] * columns


def heavy_tailed(columns: int) -> list[Law]:
    """Cauchy: no mean, no variance."""
    return [Law(lambda rng, rows: pa.array(rng.standard_cauchy(rows)), stats.cauchy.cdf)] * columns


def discrete(columns: int) -> list[Law]:
    """Poisson counts with means from 0.1 to 30."""

    def law(mean: float) -> Law:
        return Law(
            lambda rng, rows: pa.array(rng.poisson(mean, rows)), lambda x: stats.poisson.cdf(np.ceil(x) - 1, mean)
        )

    return [law(mean) for mean in np.geomspace(0.1, 30, columns)]


def zero_inflated(columns: int) -> list[Law]:
    """Zero in 10 to 90 % of the rows, log-normal in the others, null in 5 %."""

    def law(zeros: float) -> Law:
        def draw(rng: np.random.Generator, rows: int) -> pa.Array:
            values = np.where(rng.random(rows) < zeros, 0.0, rng.lognormal(size=rows))
            return pa.array(values, mask=rng.random(rows) < MISSING)

        def below(x: Floats) -> Floats:
            return np.asarray(zeros * (x > 0) + (1 - zeros) * stats.norm.cdf(np.log(np.maximum(x, 1e-300))))

        return Law(draw, below, missing=MISSING)

    return [law(zeros) for zeros in np.linspace(0.1, 0.9, columns)]


def categories(columns: int) -> list[Law]:
    """Zipf categories, from 2 to 2,000 possible values."""

    def law(count: int) -> Law:
        names = tuple(f"v{k}" for k in range(count))
        shares = 1 / np.arange(1, count + 1)
        cumulated = np.cumsum(shares / shares.sum())

        def draw(rng: np.random.Generator, rows: int) -> pa.Array:
            codes = np.searchsorted(cumulated, rng.random(rows)).clip(0, count - 1)
            return pa.DictionaryArray.from_arrays(codes.astype(np.int32), texts(names))

        return Law(draw, names=names, shares=shares / shares.sum())

    return [law(count) for count in np.geomspace(2, 2000, columns).astype(int)]


def correlated(rng: np.random.Generator, rows: int, columns: int) -> list[pa.Array]:
    """Normal columns with correlation 0.7 between any two."""
    shared = rng.standard_normal(rows)
    return [pa.array(math.sqrt(0.7) * shared + math.sqrt(0.3) * rng.standard_normal(rows)) for _ in range(columns)]


FAMILIES = {
    "normal": normal,
    "heavy-tailed": heavy_tailed,
    "discrete": discrete,
    "zero-inflated": zero_inflated,
    "categories": categories,
}
KINDS = (*FAMILIES, "correlated")

SIZES = (
    (500, 500, 20, 100, 5),
    (500, 500, 200, 50, 4),
    (5000, 5000, 20, 100, 5),
    (5000, 5000, 200, 50, 4),
    (5000, 100_000, 20, 40, 10),
    (100_000, 100_000, 20, 60, 5),
    (100_000, 100_000, 200, 25, 4),
)
"""Rows of the window and of the reference, columns, references, windows against each."""
POWER = (
    (0.1, 5000, 5000),
    (0.1, 5000, 10_000),
    (0.1, 5000, 20_000),
    (0.1, 5000, 100_000),
    (0.05, 5000, 100_000),
    (0.01, 100_000, 100_000),
)
"""Shift in standard deviations, rows of the window and of the reference."""


def batches(columns: list[pa.Array]) -> Iterator[pa.RecordBatch]:
    """One batch of these columns."""
    yield pa.record_batch(columns, names=[f"c{k}" for k in range(len(columns))])


def drawn(reference: Column, law: Law, rows: int, rng: np.random.Generator) -> Column:
    """What counting so many rows of the law on a reference column gives."""
    missing = int(rng.binomial(rows, law.missing))
    if isinstance(reference, Categories):
        return _drawn_categories(reference, law, rows - missing, missing, rng)
    if not isinstance(reference, Numbers) or law.below is None or reference.low is None or reference.high is None:
        raise TypeError(f"no counts can be drawn for {reference}")
    ends = [reference.low, np.nextafter(reference.high, np.inf)]
    cuts = np.unique(np.concatenate([reference.edges, ends]))
    cells = rng.multinomial(rows - missing, np.diff(law.below(cuts), prepend=0, append=1).clip(0))
    sums = np.append(0, np.cumsum(cells))
    at = sums[1 + np.searchsorted(cuts, reference.edges)]
    return replace(
        reference,
        counts=np.diff(at, prepend=0, append=sums[-1]),
        below=int(sums[1 + np.searchsorted(cuts, ends[0])]),
        above=int(sums[-1] - sums[1 + np.searchsorted(cuts, ends[1])]),
        minimum=reference.low,
        maximum=reference.high,
        null=missing,
    )


def _drawn_categories(reference: Categories, law: Law, rows: int, missing: int, rng: np.random.Generator) -> Categories:
    rows_of = dict(zip(law.names, rng.multinomial(rows, law.shares).tolist(), strict=True))
    counts = np.array([rows_of.pop(name) for name in reference.values], np.int64)
    left = list(rows_of)
    known = hashing.known(reference.tail, hashing.hashes(texts(left)))
    other = sum(rows_of[name] for name, seen in zip(left, known, strict=True) if seen)
    new = rows - int(counts.sum()) - other
    return replace(reference, counts=counts, other=other, new=new, new_values=None, null=missing)


def windows(
    kind: str, rows: int, reference_rows: int, columns: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[Profile, Profile]]:
    """One reference, and windows without drift against it."""
    if kind == "correlated":
        known = drift.build(batches(correlated(rng, reference_rows, columns)))
        for _ in range(count):
            yield known, drift.count(known, batches(correlated(rng, rows, columns)))
        return
    laws = FAMILIES[kind](columns)
    known = drift.build(batches([law.draw(rng, reference_rows) for law in laws]))
    for _ in range(count):
        yield known, _window(known, laws, rows, rng)


def _window(known: Profile, laws: list[Law], rows: int, rng: np.random.Generator) -> Profile:
    counted = {
        name: drawn(column, law, rows, rng) for (name, column), law in zip(known.columns.items(), laws, strict=True)
    }
    return Profile(rows=rows, columns=counted)


def false_alarms(
    kind: str, rows: int, reference_rows: int, columns: int, references: int, count: int
) -> tuple[Floats, Floats]:
    """By reference, the share of windows with any alarm: at the defaults, and without the effect floor."""
    rng = np.random.default_rng([rows, reference_rows, columns, KINDS.index(kind)])
    floored, bare = np.zeros(references), np.zeros(references)
    for k in range(references):
        for known, counted in windows(kind, rows, reference_rows, columns, count, rng):
            made = drift.compare(known, counted)
            floored[k] += bool(made.drifted) / count
            bare[k] += any(one.q_value is not None and one.q_value <= ALPHA for one in made.features.values()) / count
    return floored, bare


def power(shift: float, rows: int, reference_rows: int, references: int, count: int) -> Floats:
    """By reference, the share of windows in which the one shifted column of 20 normal ones is called."""
    rng = np.random.default_rng([rows, reference_rows])
    laws = normal(20)
    found = np.zeros(references)
    for k in range(references):
        known = drift.build(batches([law.draw(rng, reference_rows) for law in laws]))
        for _ in range(count):
            counted = _window(known, [*normal(1, shift), *laws[1:]], rows, rng)
            found[k] += ("c0" in drift.compare(known, counted).drifted) / count
    return found


def t_test_power(shift: float, rows: int, reference_rows: int, columns: int = 20) -> float:
    """Of the most powerful test of a shift of normal values, at the level a single call among the columns needs."""
    needed = stats.norm.isf(ALPHA / columns / 2)
    return float(stats.norm.sf(needed - shift / math.sqrt(1 / rows + 1 / reference_rows)))


def told(shares: Floats) -> str:
    """Mean and two standard errors."""
    error = 2 * float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else math.nan
    return f"{shares.mean():.3f} ±{error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=10**9, help="References a cell, at most.")
    parser.add_argument("--rows", type=int, nargs="*", help="Windows of these sizes only.")
    parser.add_argument("--columns", type=int, nargs="*", help="Tables of so many columns only.")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--no-power", action="store_true", help="False alarms only.")
    asked = parser.parse_args()
    print("Share of windows with at least one false alarm; in brackets without the effect floor.\n")
    print("| rows | reference | columns | windows | " + " | ".join(asked.kinds) + " |")
    print("|---|---|---|---|" + "---|" * len(asked.kinds), flush=True)
    for rows, reference_rows, columns, references, count in SIZES:
        if rows not in (asked.rows or [rows]) or columns not in (asked.columns or [columns]):
            continue
        references = min(references, asked.references)
        cells = []
        for kind in asked.kinds:
            floored, bare = false_alarms(kind, rows, reference_rows, columns, references, count)
            cells.append(f"{told(floored)} ({bare.mean():.3f})")
        print(f"| {rows} | {reference_rows} | {columns} | {references * count} | {' | '.join(cells)} |", flush=True)
    if asked.no_power:
        return
    print("\nPower: one of 20 normal columns shifted\n")
    print("| shift (sd) | rows | reference rows | windows | found | t-test |\n|---|---|---|---|---|---|")
    for shift, rows, reference_rows in POWER:
        references = min(50, asked.references)
        found = power(shift, rows, reference_rows, references, 20)
        best = t_test_power(shift, rows, reference_rows)
        print(f"| {shift} | {rows} | {reference_rows} | {references * 20} | {told(found)} | {best:.4f} |", flush=True)


if __name__ == "__main__":
    main()
