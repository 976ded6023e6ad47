"""``kedge rollback``: a rollback by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, refuse_both, stored_policy

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.settings import Settings


def rollback(
    policy: PolicyFile = None,
    model: ModelName = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the record.")] = "rolled back by an operator",
    to: Annotated[
        str,
        typer.Option(
            metavar="BUNDLE", help="The bundle to go back to (8 or more digits), where one was rolled back just before."
        ),
    ] = "",
    store: StoreRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Roll back the running release, or put the last champion back.

    At once: one change of the weights where the other bundle still runs, else it is deployed first; of a model that
    scores tables, the next `kedge score` is by the bundle before. The bundle rolled back is not released again unless
    it is approved. Within an hour of another rollback nothing more is done unless `--to` names the bundle: two people
    who act on one fault, or one and the guard, go back once.

    Example: kedge rollback --model payments --reason "complaints from the branch offices"
    """
    from dataclasses import asdict

    import orjson

    from kedge import policy as policies
    from kedge import records
    from kedge.rollout import step
    from kedge.settings import Settings
    from kedge.store import open_store

    settings = Settings.of(store)
    refuse_both(policy, model)
    asked = policies.load(policy) if policy else _policy_of(str(model), settings)
    outcome = step.rollback(asked, settings, reason=reason, to=to)
    if as_json:
        typer.echo(orjson.dumps(asdict(outcome)).decode())
        return
    if asked.release.mode == "batch":
        champion = records.read_state(open_store(settings.store), asked.name).champion_bundle or "none"
        now = f"champion now: {champion[:12]}"
    else:
        now = f"traffic now: {step.served(asked.name, settings.platform)}"
    typer.echo(f"{asked.name}: {outcome.result}: {outcome.reason}; {now}")


def _policy_of(model: str, settings: Settings) -> Policy:
    """That of the champion where no server has the model, else that in the bundle that is served."""
    from contextlib import suppress

    from kedge.errors import UsageError
    from kedge.rollout import step

    with suppress(UsageError):  # no bundle in the store: the platform says what it serves
        kept = stored_policy(model, settings)
        if kept.release.mode == "batch":
            return kept
    return step.policy_served(model, settings)
