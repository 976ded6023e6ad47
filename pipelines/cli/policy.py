"""``kedge policy``: check a policy file, print the format's JSON Schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from components.policy import Policy


def register(app: typer.Typer) -> None:
    """Add ``kedge policy check`` and ``kedge policy schema``."""
    commands = typer.Typer(help="Check a policy file; print the format's JSON Schema.", no_args_is_help=True)
    commands.command("check")(check)
    commands.command("schema")(schema)
    app.add_typer(commands, name="policy")


def check(
    file: Annotated[Path, typer.Argument(help="The policy file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the policy with every default filled in.")] = False,
) -> None:
    """Check a policy file; every fault is named with its line, also a column that the table lacks, if it lies here.

    Example: kedge policy check payments.yaml
    """
    from components import policy

    parsed = policy.load(file)
    _refuse_absent_columns(file, parsed)
    if as_json:
        typer.echo(parsed.model_dump_json(indent=2))
    else:
        typer.echo(f"{file}: good ({parsed.name}: {len(parsed.model.features)} features, {parsed.model.task})")


def _refuse_absent_columns(file: Path, parsed: Policy) -> None:
    """Refuse columns that a table on this machine does not have; one elsewhere is asked when a run reads it."""
    source = parsed.data.source
    if source.format in ("log", "sql") or "://" in source.location or not Path(source.location).exists():
        return
    import difflib

    from components import policy
    from components.errors import DataError, PolicyError
    from components.tables.columns import fields_of
    from components.tables.sources import open_reader

    try:
        present = open_reader(source).names
    except DataError:
        return  # a fault of the table, which the run that reads it names
    faults = []
    for field, column in fields_of(parsed.model, parsed.data).items():
        if column not in present:
            close = difflib.get_close_matches(column, present, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(present[:20])}"
            line = policy.line_of(file, field)
            faults.append(f"{file}:{line}: {'.'.join(field)}: {source.location} has no column {column!r}{hint}")
    if faults:
        raise PolicyError("\n".join(faults))


def schema() -> None:
    """Print the JSON Schema of a policy, for editors and reviews.

    Example: kedge policy schema > policy.schema.json
    """
    import json

    from components import policy

    typer.echo(json.dumps(policy.schema(), indent=2))
