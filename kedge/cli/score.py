"""``kedge score``: a table scored by the champion."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy, json_text


def score(
    data: Annotated[
        str,
        typer.Option(
            help="The table: a file, folder or pattern, here or in object storage, or sql:VARIABLE with --query."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A .parquet file, a folder or prefix for a Delta table, or sql:VARIABLE/TABLE."
        ),
    ],
    policy: PolicyFile = None,
    model: ModelName = None,
    store: StoreRoot = None,
    query: Annotated[
        str | None, typer.Option(help="For sql:VARIABLE, which holds the connection's address: one SELECT.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column of the ids that outcomes come under. Default: data.id_column.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Time by which the predictions are dated, ISO 8601. Default: now.")
    ] = None,
    no_log: Annotated[
        bool, typer.Option("--no-log", help="Log nothing: for a look at rows that are not to be judged.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a Parquet file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Score a table by the champion, and log the predictions.

    Golden rows first; in constant memory; the output is written whole or not at all. The same ids scored again are
    neither logged nor written twice. With `release.mode: batch` a candidate scores the same rows beside the champion,
    and is promoted or rolled back by what both said. `{date}` in --data and --output is the day of --at, UTC.

    Example: kedge score --policy churn.yaml --data customers.parquet --output scores.parquet
    """
    from kedge import clock
    from kedge.scoring import step
    from kedge.settings import Settings

    settings = Settings.of(store)
    asked = chosen_policy(policy, model, settings)
    done = step.of_policy(
        asked,
        settings.store,
        settings.registry,
        data,
        output,
        query=query,
        id_column=id_column,
        at=clock.parse("--at", at) if at else None,
        log=not no_log,
        replace=replace,
        say=lambda line: typer.echo(line, err=as_json),
    )
    if as_json:
        typer.echo(json_text(done.to_dict()))
        return
    beside = f", candidate {done.candidate[:12]} beside it" if done.candidate else ""
    logged = ", logged among the served ones" if done.logged and asked.release.mode == "served" else ""
    typer.echo(f"{done.model}: {done.rows:,} rows scored by bundle {done.bundle[:12]}{beside}{logged}: {done.output}")
