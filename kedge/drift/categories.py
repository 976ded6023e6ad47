"""Counting text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.drift import hashing
from kedge.drift.arrow_reader import codes, flags, lengths, places, texts, type_of, view
from kedge.drift.columns import MAX_NEW_VALUES, Categories, Counts

MAX_NAMED = 1000
"""The reference's most frequent values counted by name."""
MAX_HELD = 200_000
"""Distinct values counted exactly while a reference is read; later ones only as rows."""
FEW = 2000
"""So many values are looked up in a dict: sooner done than importing Arrow's functions."""
MAX_NAME = 200
"""Longer texts are never kept by name."""


class _Tally:
    """Adds up codes while batches share a dictionary, as those of one Parquet row group do."""

    def __init__(self) -> None:
        self.dictionary = texts([])
        self.counts = np.zeros(0, np.int64)
        self.nulls = 0
        self.type = ""

    def add(self, array: pa.Array) -> tuple[pa.Array, Counts] | None:
        """Count one array; hands out what was counted on another dictionary before it."""
        self.type = self.type or type_of(array.type)
        indices, dictionary, nulls = codes(array)
        self.nulls += nulls
        full = None
        if not dictionary.equals(self.dictionary):
            full = self.take()
            self.dictionary, self.counts = dictionary, np.zeros(len(dictionary), np.int64)
        if len(indices):
            self.counts += np.bincount(indices, minlength=len(dictionary))
        return full

    def take(self) -> tuple[pa.Array, Counts]:
        """The values counted and their counts, none of them zero. An empty text is a missing value."""
        filled = lengths(self.dictionary) > 0
        self.nulls += int(self.counts[~filled].sum())
        used = np.flatnonzero((self.counts > 0) & filled)
        values, counts = self.dictionary, self.counts[used]
        if len(used) < len(values):
            values = values.take(places(used))
        self.dictionary, self.counts = self.dictionary[:0], np.zeros(0, np.int64)
        return values, counts


class CategoryCounter:
    """Counts batches of one column against the values of a reference."""

    def __init__(self, reference: Categories) -> None:
        self._reference = reference
        self._names = texts(reference.values)
        self._place_of = {value: k for k, value in enumerate(reference.values)}
        self._counts = np.zeros(len(reference.values), np.int64)
        self._registers = b""
        self._other = self._new = 0
        self._new_values: dict[str, int] | None = {}
        self._tally = _Tally()
        self.absent = 0

    def add(self, array: pa.Array) -> None:
        """Count one array."""
        full = self._tally.add(array)
        if full is not None:
            self._place(*full)

    def result(self) -> Categories:
        """The counts so far."""
        self._place(*self._tally.take())
        reference = self._reference
        seen = hashing.hashes(self._names)[self._counts > 0]
        return Categories(
            type=self._tally.type,
            values=reference.values,
            counts=self._counts,
            tail=reference.tail,
            singletons=reference.singletons,
            registers=hashing.highest(self._registers, hashing.registers(seen)),
            other=self._other,
            new=self._new,
            new_values=self._new_values,
            null=self._tally.nulls,
            absent=self.absent,
        )

    def _place(self, values: pa.Array, counts: Counts) -> None:
        if not len(values):
            return
        place = self._places(values)
        named = place >= 0
        self._counts[place[named]] += counts[named]
        if named.all():
            return
        values, counts = values.take(places(np.flatnonzero(~named))), counts[~named]
        hashed = hashing.hashes(values)
        self._registers = hashing.highest(self._registers, hashing.registers(hashed))
        tail = hashing.known(self._reference.tail, hashed)
        self._other += int(counts[tail].sum())
        self._new += int(counts[~tail].sum())
        self._name_new(values.take(places(np.flatnonzero(~tail))), counts[~tail])

    def _places(self, values: pa.Array) -> NDArray[np.int64]:
        """Which named value each is, -1 for none."""
        if len(values) <= FEW:
            return np.array([self._place_of.get(value, -1) for value in values.to_pylist()], np.int64)
        import pyarrow.compute as pc

        found = pc.index_in(values, self._names)
        return np.where(flags(found.is_valid()), view(found), -1)

    def _name_new(self, values: pa.Array, counts: Counts) -> None:
        if self._new_values is None or not len(values):
            return
        if len(values) > MAX_NEW_VALUES:
            self._new_values = None
            return
        for value, rows in zip(values.to_pylist(), counts.tolist(), strict=True):
            name = value[:MAX_NAME]
            self._new_values[name] = self._new_values.get(name, 0) + rows
        if len(self._new_values) > MAX_NEW_VALUES:
            self._new_values = None


class CategoryBuilder:
    """Chooses the categories of a column and counts them."""

    def __init__(self, type_: str) -> None:
        self._type = type_
        self._held: dict[str, int] = {}
        self._registers = b""
        self._late = 0
        self._late_hashes: list[NDArray[Any]] = []
        self._tally = _Tally()

    def add(self, array: pa.Array) -> None:
        """Count one array."""
        full = self._tally.add(array)
        if full is not None:
            self._hold(*full)

    def result(self) -> Categories:
        """The most frequent values by name, the others as a tail."""
        self._hold(*self._tally.take())
        ranked = sorted(self._held.items(), key=lambda item: (-item[1], item[0]))
        named = [item for item in ranked if len(item[0]) <= MAX_NAME][:MAX_NAMED]
        names = {value for value, _ in named}
        tail = [value for value in self._held if value not in names]
        hashed = hashing.hashes(texts(tail))
        return Categories(
            type=self._type,
            values=tuple(value for value, _ in named),
            counts=np.array([rows for _, rows in named], np.int64),
            tail=hashing.bloom(np.concatenate([hashed, *self._late_hashes])),
            singletons=sum(rows == 1 for rows in self._held.values()) + self._late,
            registers=self._registers,
            other=sum(self._held[value] for value in tail) + self._late,
            null=self._tally.nulls,
        )

    def _hold(self, values: pa.Array, counts: Counts) -> None:
        if not len(values):
            return
        hashed = hashing.hashes(values)
        self._registers = hashing.highest(self._registers, hashing.registers(hashed))
        held = self._held
        late = []
        for k, (value, rows) in enumerate(zip(values.to_pylist(), counts.tolist(), strict=True)):
            if value in held:
                held[value] += rows
            elif len(held) < MAX_HELD:
                held[value] = rows
            else:
                self._late += rows
                late.append(k)
        if late and sum(map(len, self._late_hashes)) < MAX_HELD:
            self._late_hashes.append(hashed[late])
