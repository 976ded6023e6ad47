"""False alarms and power of the drift check, by simulation. Prints tables in Markdown.

    python benchmarks/drift_quality.py                 about half an hour on two cores
    python benchmarks/drift_quality.py --windows 40    a first look

A window without drift and its reference are drawn anew from one distribution. The false-alarm rate is the share of
windows in which any of the columns is called drifted, at the command's own defaults (alpha 0.05).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from components import profile
from components.profile import Comparison, Profile

Draw = Callable[[np.random.Generator, int, int], list[pa.Array]]


def normal(rng: np.random.Generator, rows: int, columns: int) -> list[pa.Array]:
    """Independent standard normal columns."""
    return [pa.array(rng.standard_normal(rows)) for _ in range(columns)]


def heavy_tailed(rng: np.random.Generator, rows: int, columns: int) -> list[pa.Array]:
    """Student's t with 1.5 degrees of freedom: no variance."""
    return [pa.array(rng.standard_t(1.5, rows)) for _ in range(columns)]


def discrete(rng: np.random.Generator, rows: int, columns: int) -> list[pa.Array]:
    """Poisson counts with means from 0.1 to 30."""
    return [pa.array(rng.poisson(mean, rows)) for mean in np.geomspace(0.1, 30, columns)]


def zero_inflated(rng: np.random.Generator, rows: int, columns: int) -> list[pa.Array]:
    """Zero in 10 to 90 % of the rows, log-normal in the others, null in 5 %."""
    made = []
    for share in np.linspace(0.1, 0.9, columns):
        values = np.where(rng.random(rows) < share, 0.0, rng.lognormal(size=rows))
        made.append(pa.array(values, mask=rng.random(rows) < 0.05))
    return made


def correlated(rng: np.random.Generator, rows: int, columns: int) -> list[pa.Array]:
    """Normal columns with correlation 0.7 between any two."""
    shared = rng.standard_normal(rows)
    return [pa.array(math.sqrt(0.7) * shared + math.sqrt(0.3) * rng.standard_normal(rows)) for _ in range(columns)]


def categories(rng: np.random.Generator, rows: int, columns: int) -> list[pa.Array]:
    """Zipf categories, from 2 to 2,000 possible values."""
    made = []
    for count in np.geomspace(2, 2000, columns).astype(int):
        shares = 1 / np.arange(1, count + 1)
        codes = np.searchsorted(np.cumsum(shares / shares.sum()), rng.random(rows)).clip(0, count - 1)
        made.append(pa.DictionaryArray.from_arrays(codes.astype(np.int32), [f"v{k}" for k in range(count)]))
    return made


KINDS: dict[str, Draw] = {
    draw.__name__.replace("_", "-"): draw
    for draw in (normal, heavy_tailed, discrete, zero_inflated, correlated, categories)
}
SIZES = ((500, 20, 400), (500, 200, 100), (5000, 20, 200), (5000, 200, 60), (100_000, 20, 60), (100_000, 200, 12))

POWER = ((0.1, 5000, 5000), (0.1, 5000, 100_000), (0.05, 5000, 100_000), (0.01, 100_000, 100_000))


def batches(columns: list[pa.Array]) -> Iterator[pa.RecordBatch]:
    """One batch of these columns."""
    yield pa.record_batch(columns, names=[f"c{k}" for k in range(len(columns))])


def compared(
    reference: list[pa.Array], current: list[pa.Array], **options: float
) -> tuple[Comparison, Profile, Profile]:
    """Through the code a user runs."""
    known = profile.build(batches(reference))
    counted = profile.count(known, batches(current))
    return profile.compare(known, counted, **options), known, counted


def false_alarms(draw: Draw, rows: int, columns: int, windows: int, seed: int) -> tuple[float, float, float]:
    """Share of windows with any alarm, at the defaults and without the effect floor; share of p-values below 0.001."""
    rng = np.random.default_rng(seed)
    floored = bare = extreme = 0
    for _ in range(windows):
        made, known, counted = compared(draw(rng, rows, columns), draw(rng, rows, columns))
        floored += bool(made.drifted)
        bare += bool(profile.compare(known, counted, min_psi=0).drifted)
        extreme += sum((feature.p_value or 1.0) <= 0.001 for feature in made.features.values())
    return floored / windows, bare / windows, extreme / windows / columns


def power(shift: float, rows: int, reference_rows: int, windows: int) -> float:
    """Share of windows in which the one shifted column of 20 normal ones is called."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(windows):
        known = profile.build(batches(normal(rng, reference_rows, 20)))
        current = normal(rng, rows, 20)
        current[0] = pa.array(np.asarray(current[0]) + shift)
        found += "c0" in profile.compare(known, profile.count(known, batches(current))).drifted
    return found / windows


def error(share: float, windows: int) -> float:
    """Two standard errors of a share."""
    return 2 * math.sqrt(max(share * (1 - share), 0.05 * 0.95) / windows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, help="Windows a cell, at most.")
    parser.add_argument("--largest", type=int, default=100_000, help="Largest window.")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    asked = parser.parse_args()
    most = asked.windows or 10**9
    print(
        "Share of windows with at least one false alarm; in brackets without the effect floor, and the share of single"
    )
    print("columns' p-values at or below 0.001. Reference and window have equal size.\n")
    print("| rows | columns | windows | " + " | ".join(asked.kinds) + " | error |")
    print("|---|---|---|" + "---|" * (len(asked.kinds) + 1), flush=True)
    for rows, columns, usual in SIZES:
        if rows <= asked.largest:
            windows = min(usual, most)
            cells = [false_alarms(KINDS[kind], rows, columns, windows, seed) for seed, kind in enumerate(asked.kinds)]
            told = " | ".join(f"{floored:.3f} ({bare:.3f}, {extreme:.4f})" for floored, bare, extreme in cells)
            print(f"| {rows} | {columns} | {windows} | {told} | ±{error(0.05, windows):.3f} |", flush=True)
    print("\nPower: one of 20 normal columns shifted\n")
    print("| shift (sd) | rows | reference rows | windows | found |\n|---|---|---|---|---|")
    for shift, rows, reference_rows in POWER:
        if max(rows, reference_rows) <= asked.largest:
            windows = min(100, most)
            found = power(shift, rows, reference_rows, windows)
            print(f"| {shift} | {rows} | {reference_rows} | {windows} | {found:.3f} |", flush=True)


if __name__ == "__main__":
    main()
