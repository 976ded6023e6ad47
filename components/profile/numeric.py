"""Counting numbers and times."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.profile.binning import Binner, choose_edges
from components.profile.columns import Counts, Numbers
from components.profile.reading import numbers

HOUR = 3_600_000_000


class NumberCounter:
    """Counts batches of one column on the edges of a reference."""

    def __init__(self, reference: Numbers) -> None:
        self._reference = reference
        self._binner = Binner(reference.edges)
        self._counts = np.zeros(len(reference.edges) + 1, np.int64)
        self._clock = np.zeros(len(reference.clock), np.int64)
        self._low = -math.inf if reference.low is None else reference.low
        self._high = math.inf if reference.high is None else reference.high
        self._least, self._most = math.inf, -math.inf
        self._null = self._nan = self._below = self._above = self._infinite_below = self._infinite_above = 0
        self._type = ""
        self.absent = 0

    def add(self, array: pa.Array) -> None:
        """Count one array."""
        self._type = self._type or str(array.type)
        values, nulls = numbers(array)
        self._null += nulls
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
        self._counts += self._binner.count(values)
        if len(self._clock):
            self._clock += hours(values)

    def result(self) -> Numbers:
        """The counts so far."""
        known = self._least <= self._most
        return Numbers(
            kind=self._reference.kind,
            type=self._type,
            edges=self._reference.edges,
            counts=self._counts,
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
    """Chooses the edges of a column, then counts on them."""

    def __init__(self, kind: Literal["number", "time"], type_: str) -> None:
        self._kind, self._type = kind, type_
        self._held: list[NDArray[Any]] = []
        self._nulls = 0

    def add(self, array: pa.Array) -> None:
        """Hold one array."""
        values, nulls = numbers(array)
        self._nulls += nulls
        self._held.append(values)

    def result(self) -> Numbers:
        """Edges and counts."""
        values = np.concatenate(self._held) if self._held else np.empty(0)
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
        empty = Numbers(
            kind=self._kind,
            type=self._type,
            edges=choose_edges(finite),
            counts=np.zeros(0, np.int64),
            low=low,
            high=high,
            clock=np.zeros(24 if self._kind == "time" else 0, np.int64),
        )
        counter = NumberCounter(empty)
        counter.add_values(values)
        return replace(counter.result(), type=self._type, null=self._nulls)


def hours(microseconds: NDArray[Any]) -> Counts:
    """Counts by hour of the day in UTC."""
    return np.bincount((microseconds.astype(np.int64) // HOUR) % 24, minlength=24)
