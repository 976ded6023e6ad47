"""How many values lie between ascending edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.profile.columns import Counts

BINS = 64


class Binner:
    """Counts finite values between edges: bin k holds ``edges[k - 1] <= value < edges[k]``."""

    def __init__(self, edges: NDArray[np.float64]) -> None:
        self.edges = edges

    def count(self, values: NDArray[Any]) -> Counts:
        """Counts of one array, one more than there are edges."""
        return np.bincount(np.searchsorted(self.edges, values, side="right"), minlength=len(self.edges) + 1)


def choose_edges(values: NDArray[Any], bins: int = BINS) -> NDArray[np.float64]:
    """Edges that cut the values into about equal parts; a value that repeats often gets a bin of its own."""
    if not len(values):
        return np.empty(0)
    ordered = np.sort(values.astype(np.float64))
    distinct, first = np.unique(ordered, return_index=True)
    if len(distinct) <= bins:
        return distinct[1:]
    places = np.arange(1, bins) * len(ordered) // bins
    cuts = ordered[places]
    sizes = np.diff(np.append(first, len(ordered)))
    atoms = distinct[sizes * bins > len(ordered)]
    return np.unique(np.concatenate([cuts, atoms, np.nextafter(atoms, np.inf)])[:])[0 if cuts[0] > ordered[0] else 1 :]
