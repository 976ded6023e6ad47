"""``kedge policy``: check a policy file, print the format's JSON Schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    """Check a policy file; every fault is named with its line.

    Example: kedge policy check payments.yaml
    """
    from components import policy

    parsed = policy.load(file)
    if as_json:
        typer.echo(parsed.model_dump_json(indent=2))
    else:
        typer.echo(f"{file}: good ({parsed.name}: {len(parsed.model.features)} features, {parsed.model.task})")


def schema() -> None:
    """Print the JSON Schema of a policy, for editors and reviews.

    Example: kedge policy schema > policy.schema.json
    """
    import json

    from components import policy

    typer.echo(json.dumps(policy.schema(), indent=2))
