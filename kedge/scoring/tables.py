"""The table that is scored, by the policy's names and types: ids and features, as training reads them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from kedge.bundle import Signature
from kedge.errors import DataError, UsageError
from kedge.policy import Policy, Source
from kedge.tables import columns
from kedge.tables.columns import ID, Kind
from kedge.tables.reader import BATCH_ROWS
from kedge.tables.sources import Table, open_reader, open_table

SQL = "sql:"


def open_rows(policy: Policy, location: str, id_column: str | None, query: str | None, signature: Signature) -> Table:
    """A table whose rows have an id and every feature of a model.

    Args:
        location: What :func:`kedge.tables.sources.open_table` takes, or ``sql:VARIABLE`` with a query.
        id_column: Default that of the policy.
        signature: Of the model that scores.

    Raises:
        DataError: no table, or one of another schema.
        UsageError: a query without a database, or a database without a query.
    """
    if location.startswith(SQL) != (query is not None):
        raise UsageError(f"--data {location}: sql:VARIABLE and --query, one SELECT, belong together")
    if query is not None:
        reader = open_reader(Source(format="sql", location=location.removeprefix(SQL), query=query))
    else:
        reader = open_table(location)
    named = id_column or policy.data.id_column
    if named is None:
        raise DataError(
            f"{location}: which column is the id? Outcomes find their predictions by it: name it with --id, or as "
            "data.id_column in the policy"
        )
    present = {name: column for column, name in columns.named(policy.model, reader.names).items()}
    known = policy.model.features
    lost = [each.name for each in signature.inputs if each.name not in known]
    if lost:
        raise DataError(
            f"policy {policy.name}: the champion needs feature {lost[0]!r}, which the policy does not declare: score "
            "with the policy that it was trained by (--model), or train anew"
        )
    needed = [named, *(present.get(each.name, policy.model.columns[each.name]) for each in signature.inputs)]
    if not set(needed) <= set(reader.names):
        raise DataError(f"{columns.describe_missing(needed, reader.names, reader.place)}; nothing was scored")
    kinds: dict[str, Kind] = {ID: "id", **{name: feature.type for name, feature in known.items() if name in present}}
    sources = {ID: named, **{name: present[name] for name in kinds if name != ID}}
    return Table(reader=reader, kinds=kinds, sources=sources, model=policy.model, formats=columns.formats(policy.model))


def in_slices(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, ``BATCH_ROWS`` at a time, the last ones fewer: however the files were cut.

    >>> parts = [pa.record_batch({"a": list(range(length))}) for length in (60_000, 60_000, 60_000)]
    >>> [len(part) for part in in_slices(iter(parts))]
    [65536, 65536, 48928]
    """
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        while sum(map(len, held)) >= BATCH_ROWS:
            whole = held[0] if len(held) == 1 else pa.concat_batches(held)
            yield whole.slice(0, BATCH_ROWS)
            held = [whole.slice(BATCH_ROWS)] if len(whole) > BATCH_ROWS else []
    if held:
        yield pa.concat_batches(held)
