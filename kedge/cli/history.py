"""``kedge history``: who released what, on which data and code, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add ``kedge history``."""
    app.command("history")(history)


def history(
    model: Annotated[str, typer.Option(help="The model's name.")],
    store: Annotated[str | None, typer.Option(help="Folder or s3://bucket/prefix; default $KEDGE_STORE.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Newest lines shown.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Also checks that asked for nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print whole records, one JSON array.")] = False,
) -> None:
    """Show who released what, on which data and code, and why; newest last. Of the checks, the last thousand.

    Every line is an immutable record in the store. `rows` is the fingerprint of the snapshot a bundle was trained on,
    `code` the git commit of the training code, both from the bundle's own manifest.

    Example: kedge history --model payments --limit 20
    """
    from kedge.api.history import CHECKS, COLUMNS, read_history
    from kedge.settings import Settings

    shown = read_history(Settings.of(store).store, model, checks=max(limit, CHECKS)).newest(limit, every=every)
    if as_json:
        import orjson

        typer.echo(orjson.dumps(shown.records, option=orjson.OPT_INDENT_2).decode())
    else:
        print_table(COLUMNS, shown.lines())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal; where there is none, no line is cut or wrapped."""
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    wide = (
        None if sys.stdout.isatty() else sum(max(map(len, column)) + 3 for column in zip(columns, *rows, strict=True))
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(width=wide, highlight=False)
    with console.capture() as shown:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in shown.get().splitlines()))
