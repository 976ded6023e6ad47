"""``kedge drill``: a rollback, tried."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, json_text, refuse_both


def drill(
    policy: PolicyFile = None,
    model: ModelName = None,
    max_seconds: Annotated[float, typer.Option(min=1, max=86_400, help="Longest time the judge has.")] = 600.0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the slot of the champion before, which is kept for a rollback.")
    ] = False,
    store: StoreRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print how it went as JSON.")] = False,
) -> None:
    """Try a rollback: a harmless candidate must come back.

    A copy of the champion, which answers as the champion does, gets the share of the first step; half of its requests
    are counted as failed. No client notices, nothing is recorded. Exit code 1 if it is not rolled back.

    Example: kedge drill --model payments
    """
    from kedge import policy as policies
    from kedge.rollout import step
    from kedge.settings import Settings

    settings = Settings.of(store)
    refuse_both(policy, model)
    asked = policies.load(policy) if policy else step.policy_served(str(model), settings)
    drilled = step.drill(
        asked,
        settings,
        max_seconds=max_seconds,
        replace_kept=replace,
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(json_text(drilled.to_dict()) if as_json else "\n".join(drilled.lines()))
    if not drilled.passed:
        raise typer.Exit(1)
