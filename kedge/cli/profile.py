"""``kedge profile``: what a reference table looks like, in a few kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyarrow import RecordBatch

    from kedge.drift import Kind


def register(app: typer.Typer) -> None:
    """Add ``kedge profile``."""
    app.command("profile")(profile)


def profile(
    data: Annotated[str, typer.Argument(help="Parquet or CSV file, folder or pattern of them, or Delta table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the profile is written, as JSON.")],
    policy: Annotated[Path | None, typer.Option(help="Profile this policy's features and target only.")] = None,
    dependence: Annotated[
        bool, typer.Option(help="Also count pairs of columns: their dependence is then compared, at twice the time.")
    ] = False,
) -> None:
    """Profile a reference table, for `kedge drift`.

    Example: kedge profile reference.parquet -o reference.json
    """
    from kedge import drift as profiles
    from kedge.progress import watched
    from kedge.store.files import write_file
    from kedge.tables.scan import open_table

    table = open_table(data)
    names, kinds = _asked(policy, table.schema().names, data) if policy else (None, None)
    batches = _some(watched(table.batches(list(names) if names else None, spread=True), data), data)
    if names is not None:
        batches = (batch.rename_columns([names[each] for each in batch.schema.names]) for batch in batches)
    made = profiles.build(batches, kinds, dependence=dependence)
    raw = made.to_json()
    write_file(output, raw)
    typer.echo(f"{output}: {made.rows:,} rows, {len(made.columns)} columns, {len(raw):,} bytes")


def _some(batches: Iterable[RecordBatch], data: str) -> Iterator[RecordBatch]:
    """The batches; refuses a table without a row by its name."""
    from kedge.errors import DataError

    rows = 0
    for batch in batches:
        rows += batch.num_rows
        yield batch
    if not rows:
        raise DataError(f"{data}: empty: not one row")


def _asked(path: Path, present: list[str], data: str) -> tuple[dict[str, str], dict[str, Kind]]:
    """A policy's features, and its target if the table has it, by their columns; and how the features are counted."""
    from kedge import policy
    from kedge.errors import DataError
    from kedge.tables.columns import describe_missing, named

    model = policy.load(path).model
    found = named(model, present)
    missing = [column for name, column in model.columns.items() if name != model.target and name not in found.values()]
    if missing:
        raise DataError(describe_missing(missing, present, data))
    kinds: dict[str, Kind] = {
        name: "category" if feature.type == "category" else "number" for name, feature in model.features.items()
    }
    return found, kinds
