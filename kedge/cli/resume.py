"""``kedge resume``: let a suspended release go on."""

from __future__ import annotations

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_name


def resume(policy: PolicyFile = None, model: ModelName = None, store: StoreRoot = None) -> None:
    """Let a release that `kedge suspend` holds go on by its evidence.

    Example: kedge resume --model payments
    """
    from kedge.rollout.drivers import open_driver
    from kedge.rollout.suspend import resume
    from kedge.settings import Settings

    name = chosen_name(policy, model)
    rollout = resume(open_driver(Settings.of(store).platform, name))
    before = f"suspended {rollout.suspended}" if rollout.suspended else "not suspended"
    typer.echo(f"{name}: release of {rollout.bundle[:12]} goes on at {rollout.state}; it was {before}")
