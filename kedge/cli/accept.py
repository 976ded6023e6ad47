"""``kedge accept``: a person says that a feed changed for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kedge.records import Accepted, ModelState, Record


def accept(
    reason: Annotated[str, typer.Option(help="Why the feed is right as it is; kept in the record.")],
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="The model's name.")] = None,
    policy: PolicyFile = None,
    model: ModelName = None,
    store: StoreRoot = None,
) -> None:
    """Accept a changed feed, in your name: its rows count again.

    What the newest check found corrupt is right from now on: checks quarantine no more for the same column and reason
    at the same level or below, and every window quarantined for nothing else is trained on and measured again.

    Example: kedge accept payments --reason "the app sends a new payment type since March"
    """
    from kedge import clock, records
    from kedge.monitoring.accept import accept as accepted
    from kedge.settings import Settings
    from kedge.store import open_store

    opened, named = open_store(Settings.of(store).store), chosen(policy, name, model)
    made = accepted(opened, named, reason, clock.now())
    typer.echo("\n".join(told(made, records.read_state(opened, named))))


def chosen(policy: Path | None, *names: str | None) -> str:
    """The model's name, given as itself or as its policy file.

    Raises:
        UsageError: none is given, or several that disagree.
        PolicyError: the file cannot be read.
    """
    from kedge import policy as policies
    from kedge.errors import UsageError

    found = {name for name in names if name is not None} | ({policies.load(policy).name} if policy else set())
    if len(found) != 1:
        raise UsageError("give the name of one model, or --policy FILE of it")
    return found.pop()


def told(made: Record[Accepted], state: ModelState) -> Iterator[str]:
    """An acceptance in a few lines."""
    from kedge.records.quarantined import joined

    data = made.data
    yield f"{made.model}: accepted by {made.actor}: {data.reason}"
    yield from (f"  {breach.sentence}" for breach in data.breaches)
    spans = [f"{span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}" for span in joined(data.windows)]
    yield f"rows that count again: {'; '.join(spans)} UTC" if spans else "no window was quarantined for this alone"
    if state.quarantined:
        yield f"still quarantined: {len(state.quarantined)} spans of time, for other reasons"
    ranges = [breach.column for breach in data.breaches if breach.cause == "out of range"]
    if ranges:
        columns = ", ".join(ranges)
        yield f"training leaves rows out of range out until the policy's min and max allow them: {columns}"
