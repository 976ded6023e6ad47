"""From record batches to profiles: edges chosen once, then exact counts."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import pyarrow as pa

from kedge.drift.arrow_reader import Kind, kind_of, readable, type_of
from kedge.drift.binning import Scratch
from kedge.drift.categories import CategoryBuilder, CategoryCounter
from kedge.drift.columns import Categories, Column, NotCounted, Numbers, types
from kedge.drift.dependence import DependenceCounter, choose_levels
from kedge.drift.numeric import NumberBuilder, NumberCounter
from kedge.drift.profile import Profile
from kedge.errors import DataError, some

HELD_BYTES = 24_000_000
"""Of a reference's first rows, held to choose edges on."""
MIN_HELD = 4096

Batches = Iterable[pa.RecordBatch]


def build(
    batches: Batches, kinds: Mapping[str, Kind] | None = None, *, dependence: bool | Sequence[str] = False
) -> Profile:
    """Profile a reference in one pass: choose edges and categories, and count.

    Args:
        batches: The reference's rows; every batch has the columns of the first.
        kinds: How to count some of the columns; the others go by their Arrow type. A number counted as ``category`` is
            read as text.
        dependence: Also count pairs, of these columns or, if true, of the first 50.

    Raises:
        DataError: there are no rows, batches differ in their columns or types, or a kind does not fit its column.
    """
    rows, builders, schema, pairs = 0, {}, None, None
    for batch in batches:
        if schema is None:
            schema = batch.schema
            builders = _builders(schema, kinds or {})
            if dependence:
                pairs = DependenceCounter(choose_levels(batch, _paired(schema, dependence)))
        elif batch.schema != schema and _named_types(batch.schema) != _named_types(schema):
            raise DataError(f"the reference mixes schemas: {_difference(schema, batch.schema)}; make them one first")
        rows += batch.num_rows
        for name, builder in builders.items():
            builder.add(batch.column(name))
        if pairs is not None:
            pairs.add(batch)
    if not rows or schema is None:
        raise DataError("the reference has no rows: a profile needs some")
    columns: dict[str, Column] = {name: builder.result() for name, builder in builders.items()}
    unread = {n: NotCounted(type=str(t), rows=rows) for n, t in zip(schema.names, schema.types, strict=True)}
    columns = {name: columns.get(name, unread[name]) for name in schema.names}
    return Profile(rows=rows, columns=columns, dependence=pairs.result() if pairs else None)


def count(reference: Profile, batches: Batches, *, threads: int = 1) -> Profile:
    """Count rows on the edges and categories of a reference.

    A column the batches lack, or hold in another type, is counted as absent or unread; :func:`compare` names it.

    Args:
        reference: Made by :func:`build`, or anything counted on one.
        batches: The rows; may be empty. Batches may differ in their columns.
        threads: Count so many batches at a time; the result does not depend on it.
    """
    if threads <= 1:
        return _count(reference, iter(batches))
    shared = _Shared(batches)
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda _: _count(reference, shared), range(threads)))
    return reduce(Profile.merge, parts)


class _Shared:
    """One iterator for several threads."""

    def __init__(self, batches: Batches) -> None:
        self._batches = iter(batches)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        with self._lock:
            return next(self._batches)


def _builders(schema: pa.Schema, kinds: Mapping[str, Kind]) -> dict[str, NumberBuilder | CategoryBuilder]:
    for name in kinds:
        if name not in schema.names:
            raise DataError(f"column {name!r} is to be profiled, but the table has: {some(schema.names)}")
    builders: dict[str, NumberBuilder | CategoryBuilder] = {}
    scratch, hold_rows = Scratch(), max(MIN_HELD, HELD_BYTES // (8 * len(schema)))
    for column in schema:
        natural = kind_of(column.type)
        kind = kinds.get(column.name, natural)
        if kind != natural and not (kind == "category" and natural == "number"):
            raise DataError(f"column {column.name!r} holds {column.type}, which cannot be counted as {kind}")
        if kind == "category":
            builders[column.name] = CategoryBuilder(type_of(column.type))
        elif kind is not None:
            builders[column.name] = NumberBuilder(kind, type_of(column.type), hold_rows, scratch)
    return builders


def _paired(schema: pa.Schema, dependence: bool | Sequence[str]) -> list[str]:
    if dependence is not True:
        unknown = [name for name in dependence or () if name not in schema.names]
        if unknown:
            raise DataError(f"column {unknown[0]!r} is to be paired, but the table has: {some(schema.names)}")
        return list(dependence or ())
    return [column.name for column in schema if kind_of(column.type) in ("number", "category")]


def _count(reference: Profile, batches: Iterator[pa.RecordBatch]) -> Profile:
    rows = 0
    scratch = Scratch()
    counters = {name: _counter(column, scratch) for name, column in reference.columns.items()}
    pairs = DependenceCounter(reference.dependence.levels) if reference.dependence else None
    unread: dict[str, NotCounted] = {}
    extra: dict[str, str] = {}
    for batch in batches:
        rows += batch.num_rows
        if pairs:
            pairs.add(batch)
        found = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name, counter in counters.items():
            array = found.pop(name, None)
            if array is None:
                counter.absent += batch.num_rows
            elif _fits(reference.columns[name], array.type):
                counter.add(array)
            else:
                odd = NotCounted(type=type_of(array.type), rows=len(array))
                unread[name] = unread[name].merge(odd) if name in unread else odd
        extra |= {name: types(extra.get(name, ""), type_of(array.type)) for name, array in found.items()}
    columns: dict[str, Column] = {}
    for name, counter in counters.items():
        columns[name] = unread[name].merge(counter.result()) if name in unread else counter.result()
    extra = dict(sorted(extra.items()))
    return Profile(rows=rows, columns=columns, extra=extra, dependence=pairs.result() if pairs else None)


class _Ignored:
    """Stands for a reference column that was never read."""

    def __init__(self, column: NotCounted) -> None:
        self.absent = 0
        self._type, self._rows = column.type, 0

    def add(self, array: pa.Array) -> None:
        self._rows += len(array)

    def result(self) -> NotCounted:
        return NotCounted(type=self._type if self._rows else "", rows=self._rows + self.absent)


def _counter(column: Column, scratch: Scratch) -> NumberCounter | CategoryCounter | _Ignored:
    match column:
        case Numbers():
            return NumberCounter(column, scratch)
        case Categories():
            return CategoryCounter(column)
        case NotCounted():
            return _Ignored(column)


def _fits(column: Column, found: pa.DataType) -> bool:
    if isinstance(column, NotCounted):
        return column.type == str(found)
    return readable(column.kind, column.type, found)


def _named_types(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(column.name, type_of(column.type)) for column in schema]


def _difference(first: pa.Schema, second: pa.Schema) -> str:
    """What two schemas disagree on, in words."""
    said = []
    for name in [*first.names, *(name for name in second.names if name not in first.names)]:
        ours, theirs = (type_of(s.field(name).type) if name in s.names else "missing" for s in (first, second))
        if ours != theirs:
            said.append(f"{name!r} is {ours} in one batch and {theirs} in another")
    return "; ".join(said[:5]) or "the order of the columns"
