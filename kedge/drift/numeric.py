"""Counting numbers and times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.decimals import widened
from kedge.drift.arrow_reader import numbers, type_of
from kedge.drift.binning import Binner, Scratch
from kedge.drift.columns import Counts, Numbers
from kedge.drift.edges import atoms, fine_cuts, thinned

HOUR = 3_600_000_000
SAMPLE = 16_384
NARROW: dict[str, Any] = {"float": np.float32, "halffloat": np.float16}


class NumberCounter:
    """Counts batches of one column on the edges of a reference."""

    def __init__(self, reference: Numbers, scratch: Scratch) -> None:
        self._reference = reference
        span = None if reference.low is None or reference.high is None else (reference.low, reference.high)
        self._binner = Binner(reference.edges, scratch, span)
        self._width = NARROW.get(reference.type, np.float64)
        self._clock = np.zeros(len(reference.clock), np.int64)
        self._low = -math.inf if reference.low is None else reference.low
        self._high = math.inf if reference.high is None else reference.high
        self._least, self._most = math.inf, -math.inf
        self._null = self._nan = self._below = self._above = self._infinite_below = self._infinite_above = 0
        self._type = ""
        self.absent = 0

    def add(self, array: pa.Array) -> None:
        """Count one array."""
        self._type = self._type or type_of(array.type)
        values, nulls = numbers(array)
        self._null += nulls
        if values.dtype.kind == "f" and values.dtype != self._width:
            values = values.astype(self._width) if self._width != np.float64 else widened(values)
        self.add_values(values)

    def add_values(self, values: NDArray[Any]) -> None:
        """Count values that are not null; not-a-number and infinities are told apart."""
        if not len(values):
            return
        least, most = float(values.min()), float(values.max())
        if not (math.isfinite(least) and math.isfinite(most)):
            values = self._without_infinities(values)
            if not len(values):
                return
            least, most = float(values.min()), float(values.max())
        self._least, self._most = min(self._least, least), max(self._most, most)
        if least < self._low:
            self._below += int(np.count_nonzero(values < self._low))
        if most > self._high:
            self._above += int(np.count_nonzero(values > self._high))
        self._binner.add(values, least, most)
        if len(self._clock):
            self._clock += hours(values)

    def result(self) -> Numbers:
        """The counts so far."""
        known = self._least <= self._most
        return Numbers(
            kind=self._reference.kind,
            type=self._type,
            edges=self._reference.edges,
            counts=self._binner.counts(),
            atoms=self._reference.atoms,
            low=self._reference.low,
            high=self._reference.high,
            clock=self._clock,
            minimum=self._least if known else None,
            maximum=self._most if known else None,
            null=self._null,
            nan=self._nan,
            infinite_below=self._infinite_below,
            infinite_above=self._infinite_above,
            below=self._below,
            above=self._above,
            absent=self.absent,
        )

    def _without_infinities(self, values: NDArray[Any]) -> NDArray[Any]:
        self._nan += int(np.count_nonzero(np.isnan(values)))
        self._infinite_below += int(np.count_nonzero(values == -math.inf))
        self._infinite_above += int(np.count_nonzero(values == math.inf))
        finite: NDArray[Any] = values[np.isfinite(values)]
        return finite


class NumberBuilder:
    """Chooses the edges of a column and counts on them, in one pass.

    The first rows are held. Cuts much finer than the edges are chosen on a sample of them, everything is counted on
    these cuts, and cuts are left out at the end until the bins are about equal: the counts are exact, and the bins are
    good even if the first rows were unlike the rest.
    """

    def __init__(self, kind: Literal["number", "time"], type_: str, hold_rows: int, scratch: Scratch) -> None:
        self._kind, self._type, self._hold_rows, self._scratch = kind, type_, hold_rows, scratch
        self._held: list[NDArray[Any]] = []
        self._held_rows = self._nulls = 0
        self._distinct = np.empty(0)
        self._counter: NumberCounter | None = None

    def add(self, array: pa.Array) -> None:
        """Hold or count one array."""
        values, nulls = numbers(array)
        self._nulls += nulls
        if self._counter is not None:
            self._counter.add_values(values)
        else:
            self._held.append(values)
            self._held_rows += len(values)
            if self._held_rows >= self._hold_rows:
                self._counter = self._started()

    def result(self) -> Numbers:
        """Edges and counts."""
        fine = (self._counter or self._started()).result()
        edges, counts = thinned(fine.edges, fine.counts)
        return replace(
            fine,
            type=self._type,
            edges=edges,
            counts=counts,
            atoms=atoms(edges, self._distinct),
            low=fine.minimum,
            high=fine.maximum,
            null=self._nulls,
        )

    def _started(self) -> NumberCounter:
        sample = _sampled(self._held)
        self._distinct = np.unique(sample)
        cuts = fine_cuts(sample)
        empty = Numbers(
            kind=self._kind,
            type=self._type,
            edges=cuts,
            counts=np.zeros(len(cuts) + 1, np.int64),
            low=None,
            high=None,
            clock=np.zeros(24 if self._kind == "time" else 0, np.int64),
        )
        counter = NumberCounter(empty, self._scratch)
        for values in self._held:
            counter.add_values(values)
        self._held = []
        return counter


def _sampled(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """About :data:`SAMPLE` finite values, evenly over the arrays."""
    step = max(1, sum(map(len, arrays)) // SAMPLE)
    parts = [values[::step] for values in arrays]
    sample = np.concatenate(parts) if parts else np.empty(0)
    finite: NDArray[Any] = sample[np.isfinite(sample)]
    return finite


def hours(microseconds: NDArray[Any]) -> Counts:
    """Counts by hour of the day in UTC."""
    return np.bincount((microseconds.astype(np.int64) // HOUR) % 24, minlength=24)
