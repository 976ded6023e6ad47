"""Edges: chosen on a sample as fine cuts to count on, and thinned to about equal bins once everything is counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge.drift.binning import MAX_CELLS, Floats, on_grid
from kedge.drift.columns import Counts

BINS = 64
TRIMS = (0, 1, 3, 6, 12, 20, 28)
"""Quantiles, of 64, that a grid may leave out at either end so that its cells are fine enough for the rest."""
HEAVY = 1.5
"""A piece with so many times the share of a bin keeps a bin of its own."""
CUTS_AN_OCTAVE = 8
OCTAVES = 40


def fine_cuts(sample: NDArray[Any]) -> Floats:
    """Cuts fine enough for equal bins to be made of the pieces, whatever the rows after the sample are like.

    Between the sample's outer values: the edges of a grid (free to count), every 64-quantile the grid is too coarse
    for, and both sides of every value that repeats. Beyond them: cuts at geometrically growing distance.
    """
    if not len(sample):
        return np.empty(0)
    distinct, counts = np.unique(sample.astype(np.float64), return_counts=True)
    with np.errstate(over="ignore"):  # two numbers may be further apart than a number can say
        if len(distinct) <= BINS:
            inner = _between(distinct)
        else:
            inner = np.unique(_gridded(np.repeat(distinct, counts)))
            atoms = _mixed_atoms(distinct, counts, inner)
            inner = np.concatenate([inner, atoms, np.nextafter(atoms, np.inf)])
        cuts = np.unique(np.concatenate([inner, _outer(distinct)]))
    finite: Floats = cuts[np.isfinite(cuts)]
    return finite


def thinned(cuts: Floats, counts: Counts, bins: int = BINS) -> tuple[Floats, Counts]:
    """Leave out cuts until the bins hold about equal shares; a piece that holds a share alone keeps both its sides.

    If at most ``bins`` pieces hold rows, one cut between each two of them is left.

    Args:
        cuts: Ascending, shape (k,).
        counts: Rows of the k + 1 pieces.

    Returns:
        The cuts that stay and the counts of the bins between them.
    """
    if not len(cuts):
        return cuts, counts
    filled = np.flatnonzero(counts)
    if len(filled) <= bins:
        kept = filled[1:] - 1
    else:
        below = np.cumsum(counts)
        targets = np.arange(1, bins) * below[-1] / bins
        right = np.searchsorted(below[:-1], targets).clip(0, len(cuts) - 1)
        left = (right - 1).clip(0)
        nearest = np.where(targets - below[left] < below[right] - targets, left, right)
        heavy = np.flatnonzero(counts * bins > HEAVY * below[-1])
        both = np.concatenate([heavy - 1, heavy])
        kept = np.unique(np.concatenate([nearest, both[(both >= 0) & (both < len(cuts))]]))
        kept = kept[(below[kept] > 0) & (below[kept] < below[-1])]
    return cuts[kept], np.add.reduceat(counts, np.concatenate([[0], kept + 1]))


def atoms(edges: Floats, distinct: Floats) -> Floats:
    """The one value of each bin, if a sample's values fall one into each; else empty.

    >>> atoms(np.array([0.5]), np.array([0.0, 1.0]))
    array([0., 1.])
    """
    if len(distinct) != len(edges) + 1:
        return np.empty(0)
    alone = np.array_equal(np.searchsorted(edges, distinct, side="right"), np.arange(len(distinct)))
    return distinct.astype(np.float64) if alone else np.empty(0)


def _gridded(values: Floats) -> Floats:
    """Edges of the grid that serves most of the 64-quantiles, and the quantiles it does not serve."""
    quantiles = values[np.arange(1, BINS) * len(values) // BINS]
    gaps = np.diff(quantiles)
    gap = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
    gap[gap == 0] = np.inf
    best: tuple[int, int, int, int] | None = None
    for low in TRIMS:
        for high in TRIMS:
            inner = slice(low, len(quantiles) - high)
            span = float(quantiles[inner][-1] - quantiles[inner][0]) if quantiles[inner].size else 0.0
            if not 0 < span < math.inf:
                continue
            needed = math.ceil(_log2(6, float(gap[inner].min()))) if np.isfinite(gap[inner].min()) else -900
            fineness = min(needed, math.floor(_log2(MAX_CELLS, span)))
            served = int((gap[inner] * 2.0**fineness >= 4).sum()) if abs(fineness) < 900 else 0
            if best is None or served > best[0]:
                best = (served, fineness, low, high)
    if best is None or best[0] < 4:
        return np.unique(quantiles)
    served, fineness, low, high = best
    inner = slice(low, len(quantiles) - high)
    first, last = (float(edge) for edge in on_grid(quantiles[inner][[0, -1]], fineness))
    grid = np.arange(first, last, math.ldexp(2.0, -fineness))
    coarse = np.ones(len(quantiles), np.bool_)
    coarse[inner] = gap[inner] * 2.0**fineness < 4
    return np.concatenate([grid, quantiles[coarse]])


def _mixed_atoms(distinct: Floats, counts: Counts, cuts: Floats) -> Floats:
    """Values that repeat and share their piece with others."""
    piece = np.searchsorted(cuts, distinct, side="right")
    alone = np.diff(piece, prepend=-1, append=len(cuts) + 1) > 0
    often = counts * 2 * BINS > counts.sum()
    mixed: Floats = distinct[often & ~(alone[:-1] & alone[1:])]
    return mixed


def _between(distinct: Floats) -> Floats:
    """One cut between each two values: on one grid where the values allow it, else the upper value itself."""
    gaps = np.diff(distinct)
    if not len(gaps):
        return gaps
    fineness = math.ceil(_log2(2, float(gaps.min())))
    if abs(fineness) > 900 or float(distinct[-1] - distinct[0]) > math.ldexp(MAX_CELLS, -fineness):
        return distinct[1:]
    half = np.floor((np.ldexp(distinct[1:], fineness) + 0.5) / 2)
    cuts = np.ldexp(2 * half - 0.5, -fineness)
    fits = (cuts > distinct[:-1]) & (cuts <= distinct[1:])
    return np.where(fits, cuts, distinct[1:])


def _log2(whole: int, part: float) -> float:
    """The logarithm of a ratio; of parts so small or large that no grid serves them, one beyond what a grid may have.

    >>> _log2(6, 1.5), _log2(2, 5e-324) > 900, _log2(2, math.inf) < -900
    (2.0, True, True)
    """
    return math.log2(whole / min(max(part, 1e-290), 1e290))


def _outer(distinct: Floats) -> Floats:
    """Cuts beyond the sample at growing distance, and at its ends."""
    first, last = float(distinct[0]), float(distinct[-1])
    middle = distinct[len(distinct) // 64 : len(distinct) - len(distinct) // 64]
    unit = (float(middle[-1] - middle[0]) or abs(last) or 1.0) / 64
    steps = unit * 2.0 ** (np.arange(OCTAVES * CUTS_AN_OCTAVE) / CUTS_AN_OCTAVE)
    return np.concatenate([first - steps, [first, np.nextafter(last, np.inf)], last + steps])
