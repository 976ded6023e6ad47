"""``kedge drift``: what changed between two tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kedge.cli.options import ModelName, StoreRoot, json_text, optional_policy


def drift(
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="REFERENCE CURRENT", help="What is compared with what: the same as the two options."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="A table, or the profile of one that `kedge profile` wrote.")
    ] = None,
    current: Annotated[
        str | None, typer.Option(help="Parquet or CSV file, folder or pattern of them, or Delta table.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Compare its features by its thresholds.")] = None,
    model: ModelName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with every column to this file.")] = None,
    alpha: Annotated[
        float | None, typer.Option(min=0, max=1, help="False discovery rate over the columns; 0.05.")
    ] = None,
    min_psi: Annotated[float | None, typer.Option(min=0, help="Effect floor: debiased PSI in nats; 0.005.")] = None,
    min_rows: Annotated[int | None, typer.Option(min=1, help="Fewer rows give no verdict; 200.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="More are faster and need up to 50 MB more memory.")] = 1,
    store: StoreRoot = None,
) -> None:
    """Compare a table with a reference: a table, or its profile.

    Exit code 0: compared, drifted or not; 2: a mistake in what was given.

    Example: kedge drift january.parquet today.parquet --html drift.html
    """
    import pyarrow as pa

    from kedge.api.comparison import compare
    from kedge.settings import Settings

    if "jemalloc" in pa.supported_memory_backends():  # with this decay it keeps 15 MB less than Arrow's own choice
        pa.set_memory_pool(pa.jemalloc_memory_pool())
        pa.jemalloc_set_decay_ms(100)
    rules = optional_policy(policy, model, Settings.of(store))
    before, now = _two(tables or [], reference, current)
    compared = compare(before, now, policy=rules, alpha=alpha, min_psi=min_psi, min_rows=min_rows, threads=threads)
    if html is not None:
        from kedge.store.files import write_file

        write_file(html, compared.to_html(title=f"Drift of {now}").encode())
    typer.echo(json_text(compared.to_dict()) if as_json else str(compared))


def _two(tables: list[str], reference: str | None, current: str | None) -> tuple[str, str]:
    """Reference and current table, as arguments or as options."""
    from kedge.errors import UsageError

    given = [*tables, *(each for each in (reference, current) if each is not None)]
    if len(given) != 2 or (tables and len(tables) != 2):
        raise UsageError("give two tables: kedge drift REFERENCE CURRENT, or --reference and --current")
    return given[0], given[1]
