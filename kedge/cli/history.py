"""``kedge history``: who released what, on which data and code, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_name, json_text


def history(
    policy: PolicyFile = None,
    model: ModelName = None,
    store: StoreRoot = None,
    limit: Annotated[int, typer.Option(min=1, help="Newest lines shown.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Also checks that asked for nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print whole records, one JSON array.")] = False,
) -> None:
    """Show who released what, on which data and code, and why.

    Newest last; of the checks, the last thousand.

    Every line is an immutable record in the store. `rows` is the fingerprint of the snapshot a bundle was trained on,
    `code` the git commit of the training code, both from the bundle's own manifest.

    Example: kedge history --model payments --limit 20
    """
    from kedge.api.history import CHECKS, COLUMNS, read_history
    from kedge.settings import Settings

    read = read_history(Settings.of(store).store, chosen_name(policy, model), checks=max(limit, CHECKS))
    shown = read.newest(limit, every=every)
    typer.echo(json_text(shown.records) if as_json else "\n".join(table(COLUMNS, shown.lines())))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table as wide as the terminal; where there is none, no line is cut or wrapped."""
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    widths = [max(map(len, column)) + 3 for column in zip(columns, *rows, strict=True)]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else sum(widths), highlight=False)
    with console.capture() as shown:
        console.print(drawn)
    return [line.rstrip() for line in shown.get().splitlines()]
