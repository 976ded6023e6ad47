"""What a profile keeps of one column. Every counter is an integer or an extreme, so merging is exact in any order."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kedge.drift.hashing import highest
from kedge.errors import DataError

Counts = NDArray[np.int64]

MAX_NEW_VALUES = 1000
"""Values the reference did not know are counted by name up to this many distinct ones; beyond, only their rows."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A numeric or time column. Bin k holds the finite values with ``edges[k - 1] <= value < edges[k]``.

    The outer bins are open. Times are microseconds since 1970 in UTC. ``low`` and ``high`` are the reference's finite
    extremes, the same in every profile counted on it; ``minimum`` and ``maximum`` are those of the rows counted here.
    ``atoms`` are the bins' values if each holds one, as far as the reference's first rows show; else it is empty.
    ``clock`` counts times by their hour of the day in UTC, 24 cells; for numbers it is empty. ``unreadable`` are those
    of the nulls whose value is there and is no number or time, as far as who read the table says so.
    """

    kind: Literal["number", "time"]
    type: str
    edges: NDArray[np.float64]
    counts: Counts
    low: float | None
    high: float | None
    atoms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    clock: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    minimum: float | None = None
    maximum: float | None = None
    null: int = 0
    unreadable: int = 0
    nan: int = 0
    infinite_below: int = 0
    infinite_above: int = 0
    below: int = 0
    above: int = 0
    absent: int = 0

    @property
    def finite(self) -> int:
        """Rows with a finite value."""
        return int(self.counts.sum())

    @property
    def infinite(self) -> int:
        """Rows with an infinity of either sign."""
        return self.infinite_below + self.infinite_above

    @property
    def missing(self) -> int:
        """Rows without a value: null, NaN, or in a batch without the column."""
        return self.null + self.nan + self.absent

    @property
    def rows(self) -> int:
        """All rows."""
        return self.finite + self.infinite + self.missing

    def merge(self, other: Numbers) -> Numbers:
        """Add two counts on the same edges.

        Raises:
            ValueError: they were counted on other edges.
        """
        same = self.kind == other.kind and np.array_equal(self.edges, other.edges)
        if not same or (self.low, self.high) != (other.low, other.high):
            raise ValueError("counted on other edges")
        added = {
            name: getattr(self, name) + getattr(other, name)
            for name in (
                "counts",
                "clock",
                "null",
                "unreadable",
                "nan",
                "infinite_below",
                "infinite_above",
                "below",
                "above",
                "absent",
            )
        }
        return replace(
            self,
            type=types(self.type, other.type),
            minimum=_extreme(min, self.minimum, other.minimum),
            maximum=_extreme(max, self.maximum, other.maximum),
            **added,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Numbers:
        """Read back :meth:`to_dict`.

        Raises:
            ValueError: edges do not ascend, or there are not as many counts as bins.
        """
        body = _in_seconds(body)
        edges = np.asarray(body["edges"], np.float64)
        counts = _counts(body["counts"])
        if counts.shape != (len(edges) + 1,) or not np.all(np.diff(edges) > 0) or not np.isfinite(edges).all():
            raise ValueError(f"{len(counts)} counts do not fit {len(edges)} ascending edges")
        atoms = np.asarray(body["atoms"], np.float64)
        return cls(**{**body, "edges": edges, "counts": counts, "clock": _counts(body["clock"]), "atoms": atoms})


@dataclass(frozen=True, kw_only=True)
class Categories:
    """A text column: the reference's frequent ``values`` by name, the rest of its values as ``other``.

    ``tail`` is a Bloom filter of the reference's values that are not counted by name, so that ``new`` rows (values the
    reference never held) are told from ``other`` ones. ``singletons`` is the number of values seen in one reference row
    only; with it the share of never-seen values to be expected is estimated. ``registers`` estimate distinct values.
    """

    kind: Literal["category"] = "category"
    type: str
    values: tuple[str, ...]
    counts: Counts
    tail: bytes = b""
    singletons: int = 0
    registers: bytes = b""
    other: int = 0
    new: int = 0
    new_values: Mapping[str, int] | None = field(default_factory=dict)
    null: int = 0
    absent: int = 0

    @property
    def missing(self) -> int:
        """Rows without a value: null, or in a batch without the column."""
        return self.null + self.absent

    @property
    def present(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum()) + self.other + self.new

    @property
    def rows(self) -> int:
        """All rows."""
        return self.present + self.missing

    def merge(self, other: Categories) -> Categories:
        """Add two counts of the same reference's values.

        Raises:
            ValueError: they were counted against another reference.
        """
        if self.values != other.values or self.tail != other.tail or self.singletons != other.singletons:
            raise ValueError("counted on other categories")
        return replace(
            self,
            type=types(self.type, other.type),
            counts=self.counts + other.counts,
            registers=highest(self.registers, other.registers),
            other=self.other + other.other,
            new=self.new + other.new,
            new_values=_added(self.new_values, other.new_values),
            null=self.null + other.null,
            absent=self.absent + other.absent,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        body: dict[str, Any] = {name: value for name, value in vars(self).items() if name not in ("values", "counts")}
        body["values"] = dict(zip(self.values, self.counts.tolist(), strict=True))
        body["tail"] = base64.b64encode(self.tail).decode()
        body["registers"] = base64.b64encode(self.registers).decode()
        body["new_values"] = None if self.new_values is None else dict(sorted(self.new_values.items()))
        return body

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Categories:
        """Read back :meth:`to_dict`."""
        return cls(
            **{
                **body,
                "values": tuple(body["values"]),
                "counts": _counts(list(body["values"].values())),
                "tail": base64.b64decode(body["tail"], validate=True),
                "registers": base64.b64decode(body["registers"], validate=True),
            }
        )


@dataclass(frozen=True, kw_only=True)
class NotCounted:
    """A column that could not be counted: its type is not the reference's, or no model input is made of it."""

    kind: Literal["unread"] = "unread"
    type: str
    rows: int

    def merge(self, other: Column) -> NotCounted:
        """Add; whatever a shard of another type counted, the column as a whole has mixed types."""
        return NotCounted(type=types(self.type, other.type), rows=self.rows + other.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))


Column = Numbers | Categories | NotCounted


def merged(first: Column, second: Column) -> Column:
    """Add two columns of the same reference; shards of different types give an unread column.

    Raises:
        ValueError: they were counted against different references.
    """
    match first, second:
        case Numbers(), Numbers():
            return first.merge(second)
        case Categories(), Categories():
            return first.merge(second)
        case NotCounted(), _:
            return first.merge(second)
        case _, NotCounted():
            return second.merge(first)
        case _:
            raise ValueError(f"one is a {first.kind}, the other a {second.kind}")


def from_dict(body: Mapping[str, Any]) -> Column:
    """Read one column back.

    Raises:
        ValueError, TypeError, KeyError: it is not one.
    """
    match body.get("kind"):
        case "number" | "time":
            return Numbers.from_dict(body)
        case "category":
            return Categories.from_dict(body)
        case "unread":
            return NotCounted(**body)
        case kind:
            raise DataError(f"column kind {kind!r} is not known to this version of kedge")


def types(first: str, second: str) -> str:
    """Types seen, each once, in alphabetical order; a batch without the column adds none."""
    return " and ".join(sorted({*first.split(" and "), *second.split(" and ")} - {""}))


def _in_seconds(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Profiles of before counted durations in the unit of their table."""
    ticks = {"duration[ms]": 1e3, "duration[us]": 1e6, "duration[ns]": 1e9}.get(body["type"])
    if ticks is None:
        return body
    edges: list[float] = []
    for edge in body["edges"]:
        edges.append(max(edge / ticks, math.nextafter(edges[-1], math.inf) if edges else -math.inf))
    ends = {name: body[name] and body[name] / ticks for name in ("low", "high", "minimum", "maximum")}
    atoms = [atom / ticks for atom in body["atoms"]]
    return {**body, **ends, "edges": edges, "atoms": atoms, "type": "duration[s]"}


def _extreme(choose: Any, first: float | None, second: float | None) -> float | None:
    known = [value for value in (first, second) if value is not None]
    return choose(known) if known else None


def _added(first: Mapping[str, int] | None, second: Mapping[str, int] | None) -> Mapping[str, int] | None:
    """Counts by name while few; whether they are few depends on the union alone, so the order does not matter."""
    if first is None or second is None:
        return None
    total = dict(first)
    for value, rows in second.items():
        total[value] = total.get(value, 0) + rows
    return total if len(total) <= MAX_NEW_VALUES else None


def _counts(values: Any) -> Counts:
    counts = np.asarray(values, np.int64)
    if (counts < 0).any():
        raise ValueError("a count is negative")
    return counts
