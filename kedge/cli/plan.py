"""``kedge plan``: how long a release will take at a service's traffic, and what harm it can find."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy, json_text
from kedge.cli.release import Rate


def plan(
    rps: Rate,
    policy: PolicyFile = None,
    model: ModelName = None,
    base_error: Annotated[float, typer.Option(min=0, max=1, help="Share of the champion's requests that fail.")] = 0.01,
    rollouts: Annotated[int, typer.Option(min=10, max=10_000, help="Releases to simulate a question.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    store: StoreRoot = None,
) -> None:
    """Say how long a release takes at this traffic, and what it finds.

    By simulated releases: of a candidate that is no worse, the time of each step; and the least harm of a few sizes
    that is rolled back in nineteen of twenty.

    Example: kedge plan --policy fraud.yaml --rps 0.5
    """
    from kedge.rollout.plan import plan as planned
    from kedge.settings import Settings

    result = planned(
        chosen_policy(policy, model, Settings.of(store)), rps=rps, base_error=base_error, rollouts=rollouts
    )
    typer.echo(json_text(result.to_dict()) if as_json else "\n".join(result.lines()))
