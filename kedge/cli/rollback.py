"""``kedge rollback``: a rollback by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add ``kedge rollback``."""
    app.command("rollback")(rollback)


def rollback(
    model: Annotated[str | None, typer.Option(help="The model's name; or give --policy.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy file; or give --model.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the record.")] = "rolled back by an operator",
    store: Annotated[str | None, typer.Option(help="Folder or s3://bucket/prefix; default $KEDGE_STORE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Roll back the candidate of a running release, or put the champion before this one back, at once.

    One change of the weights where the other bundle still runs, else it is deployed first. The bundle rolled back is
    not released again unless it is approved.

    Example: kedge rollback --model payments --reason "complaints from the branch offices"
    """
    from dataclasses import asdict

    import orjson

    from kedge import policy as policies
    from kedge.errors import UsageError
    from kedge.rollout import step
    from kedge.settings import Settings

    settings = Settings.of(store)
    platform = settings.platform
    if (model is None) == (policy is None):
        raise UsageError("give either --model NAME or --policy FILE")
    asked = policies.load(policy) if policy else step.policy_served(str(model), settings.store, platform)
    outcome = step.rollback(asked, settings.store, settings.registry, platform, reason=reason)
    if as_json:
        typer.echo(orjson.dumps(asdict(outcome)).decode())
    else:
        typer.echo(
            f"{asked.name}: {outcome.result}: {outcome.reason}; traffic now: {step.served(asked.name, platform)}"
        )
