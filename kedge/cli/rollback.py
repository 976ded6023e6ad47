"""``kedge rollback``: a rollback by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, refuse_both


def register(app: typer.Typer) -> None:
    """Add ``kedge rollback``."""
    app.command("rollback")(rollback)


def rollback(
    policy: PolicyFile = None,
    model: ModelName = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the record.")] = "rolled back by an operator",
    store: StoreRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Roll back the running release, or put the last champion back.

    At once: one change of the weights where the other bundle still runs, else it is deployed first. The bundle rolled
    back is not released again unless it is approved.

    Example: kedge rollback --model payments --reason "complaints from the branch offices"
    """
    from dataclasses import asdict

    import orjson

    from kedge import policy as policies
    from kedge.rollout import step
    from kedge.settings import Settings

    settings = Settings.of(store)
    platform = settings.platform
    refuse_both(policy, model)
    asked = policies.load(policy) if policy else step.policy_served(str(model), settings.store, platform)
    outcome = step.rollback(asked, settings.store, settings.registry, platform, reason=reason)
    if as_json:
        typer.echo(orjson.dumps(asdict(outcome)).decode())
    else:
        typer.echo(
            f"{asked.name}: {outcome.result}: {outcome.reason}; traffic now: {step.served(asked.name, platform)}"
        )
