"""``kedge prune``: delete what the policy's retention keeps no longer."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy, json_text


def prune(
    policy: PolicyFile = None,
    model: ModelName = None,
    store: StoreRoot = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, delete nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what goes as JSON.")] = False,
) -> None:
    """Delete bundles, snapshots and pages that are kept no longer.

    The first check of a day does it too. The policy's `retention` says for how long they are kept. What the champion,
    the bundles before it, an open run or release, or an approval needs stays whatever its age; records stay for ever.

    Example: kedge prune --policy payments.yaml --dry-run
    """
    from kedge.retention.prune import carry_out, plan
    from kedge.settings import Settings
    from kedge.store import open_store

    settings = Settings.of(store)
    asked, opened = chosen_policy(policy, model, settings), open_store(settings.store)
    made = plan(asked, opened)
    if made.limit is None:
        typer.echo(f"{asked.name}: the policy says retention.keep_days: null: everything stays", err=as_json)
    if made.waits_for:
        typer.echo(f"{asked.name}: run {made.waits_for} is under way: bundles and snapshots wait", err=as_json)
    verb = "would delete" if dry_run else "deleted"
    if not dry_run:
        carry_out(made, opened, lambda removal: None if as_json else typer.echo(f"{verb} {removal}"))
    elif not as_json:
        for removal in made.removals:
            typer.echo(f"{verb} {removal}")
    if as_json:
        typer.echo(json_text(made.removals))
    elif made.limit is not None:
        typer.echo(f"{asked.name}: {verb} {made}; what was used since {made.limit:%Y-%m-%d} stays")
