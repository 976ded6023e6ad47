"""``kedge approve``: a person lets a bundle be released."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.store import Store


def register(app: typer.Typer) -> None:
    """Add ``kedge approve``."""
    app.command("approve")(approve)


def approve(
    bundle: Annotated[str, typer.Argument(help="The bundle's id, or its first digits (8 or more).")],
    policy: PolicyFile = None,
    model: ModelName = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the record.")] = "",
    store: StoreRoot = None,
    no_submit: Annotated[bool, typer.Option("--no-submit", help="Record the approval, start no release.")] = False,
) -> None:
    """Approve a registered bundle, in your name, and release it.

    Needed where the policy says `approval: manual`, and to release a bundle that was rolled back before.

    Example: kedge approve --policy payments.yaml 3f9a1c20
    """
    from kedge.settings import Settings
    from kedge.store import open_store
    from kedge.submission import submit

    settings = Settings.of(store)
    asked, opened = chosen_policy(policy, model, settings), open_store(settings.store)
    chosen = registered(opened, asked, bundle)
    times = write(opened, asked, chosen, reason)
    typer.echo(f"{asked.name}: bundle {chosen} approved")
    if not no_submit:
        key = None if times == 1 else f"approved-{times}"
        outcome = submit.submit_release(settings, asked, chosen, reason="approved", key=key, say=typer.echo)
        outcome.raise_if_failed()
        typer.echo(f"run {outcome.run}: {outcome.state}" + (f": {outcome.reason}" if outcome.reason else ""))


def registered(store: Store, policy: Policy, begin: str) -> str:
    """The registered bundle whose id begins so.

    Raises:
        UsageError: none does, or several do.
    """
    from kedge import records
    from kedge.errors import UsageError
    from kedge.records import Registered

    known = [item.data.bundle for item in records.read(store, policy.name, Registered)]
    if not re.fullmatch(r"[0-9a-f]{8,40}", begin):
        raise UsageError(f"bundle {begin!r} must be 8 to 40 hex digits; registered: {', '.join(known) or 'none'}")
    found = [key for key in known if key.startswith(begin)]
    if len(found) != 1:
        many = "several registered bundles begin" if found else "no registered bundle begins"
        raise UsageError(f"{policy.name}: {many} with {begin}; registered: {', '.join(known) or 'none'}")
    return found[0]


def write(store: Store, policy: Policy, bundle: str, reason: str) -> int:
    """Write the approval, a new one if the bundle was rolled back since the last; its number among the bundle's."""
    from kedge import clock, records
    from kedge.records import Approved, Record

    state = records.read_state(store, policy.name)
    given = len([item for item in state.approvals if item.data.bundle == bundle])
    if given and state.rolled_back(bundle) is None:
        return given
    key = bundle if not given else f"{bundle}-{given + 1}"
    data = Approved(bundle=bundle, reason=reason)
    records.append(store, Record(model=policy.name, key=key, time=clock.now(), data=data))
    return given + 1
