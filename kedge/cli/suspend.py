"""``kedge suspend``: hold the release that runs where it is."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_name


def suspend(
    policy: PolicyFile = None,
    model: ModelName = None,
    reason: Annotated[str, typer.Option(help="Why; shown to whoever watches the release.")] = "",
    store: StoreRoot = None,
) -> None:
    """Hold the release that runs at its share, in your name.

    Its candidate is judged on, and rolled back if it is worse. `kedge resume` lets it go on; `release.suspend: true` in
    the policy holds all releases of a model.

    Example: kedge suspend --model payments --reason "month-end closing"
    """
    from kedge.records.record import actor
    from kedge.rollout.drivers import open_driver
    from kedge.rollout.suspend import suspend
    from kedge.settings import Settings

    name = chosen_name(policy, model)
    rollout = suspend(open_driver(Settings.of(store).platform, name), actor=actor(), reason=reason)
    typer.echo(f"{name}: release of {rollout.bundle[:12]} suspended at {rollout.state}, {rollout.suspended}")
