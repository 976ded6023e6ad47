"""``kedge profile``: what a reference table looks like, in a few kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge.cli.options import ModelName, StoreRoot, optional_policy


def profile(
    data: Annotated[str, typer.Argument(help="Parquet or CSV file, folder or pattern of them, or Delta table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the profile is written, as JSON.")],
    policy: Annotated[Path | None, typer.Option(help="Profile this policy's features and target only.")] = None,
    model: ModelName = None,
    dependence: Annotated[
        bool, typer.Option(help="Also count pairs of columns: their dependence is then compared, at twice the time.")
    ] = False,
    store: StoreRoot = None,
) -> None:
    """Profile a reference table, for `kedge drift`.

    Example: kedge profile reference.parquet -o reference.json
    """
    from kedge.api import comparison
    from kedge.drift.text import unreadable
    from kedge.settings import Settings
    from kedge.store.files import write_file

    profiled = comparison.profile(
        data, policy=optional_policy(policy, model, Settings.of(store)), dependence=dependence
    )
    raw = profiled.to_json()
    write_file(output, raw)
    for line in unreadable(profiled):
        typer.echo(line, err=True)
    typer.echo(f"{output}: {profiled.rows:,} rows, {len(profiled.columns)} columns, {len(raw):,} bytes")
