"""``kedge approve``: a person lets a bundle be released, or a model be trained again."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.records import Checked, ModelState, Record
    from kedge.settings import Settings
    from kedge.store import Store
    from kedge.submission.submit import RunOutcome


def approve(
    what: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|KEY",
            help="A bundle's id, or its first digits (8 or more); or the key of a retraining that waits.",
        ),
    ],
    policy: PolicyFile = None,
    model: ModelName = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the record.")] = "",
    store: StoreRoot = None,
    step: Annotated[
        str, typer.Option(help="Approve only this step of the bundle's release, by its name or percent.")
    ] = "",
    no_submit: Annotated[bool, typer.Option("--no-submit", help="Record the approval, start nothing.")] = False,
) -> None:
    """Approve a bundle or a retraining, in your name, and start it.

    A bundle needs it where the policy says `release.approval: manual`, and to be released after it was rolled back; a
    step of its release where the policy says `approval: manual` at that step; a retraining that a check decided on,
    where the policy says `monitor.budget.approval: manual`.

    Example: kedge approve --policy payments.yaml 3f9a1c20
    """
    from kedge.records.state import DECIDED
    from kedge.settings import Settings
    from kedge.store import open_store

    settings = Settings.of(store)
    asked, opened = chosen_policy(policy, model, settings), open_store(settings.store)
    if step:
        _step(opened, asked, what, step, reason)
        return
    start = _retraining if DECIDED.fullmatch(what) else _release
    outcomes = start(settings, opened, asked, what, reason, not no_submit)
    for outcome in outcomes:
        outcome.raise_if_failed()
        typer.echo(f"run {outcome.run}: {outcome.state}" + (f": {outcome.reason}" if outcome.reason else ""))


def _release(
    settings: Settings, store: Store, policy: Policy, begin: str, reason: str, submitted: bool
) -> list[RunOutcome]:
    from kedge.submission import submit

    bundle = registered(store, policy, begin)
    key = write(store, policy, bundle, reason)
    typer.echo(f"{policy.name}: bundle {bundle} approved")
    if not submitted:
        return []
    return [submit.submit_release(settings, policy, bundle, reason="approved", key=key, say=typer.echo)]


def _step(store: Store, policy: Policy, begin: str, step: str, reason: str) -> None:
    from kedge import clock, records
    from kedge.errors import UsageError
    from kedge.records import Approved, Record
    from kedge.rollout import progress

    bundle, names = registered(store, policy, begin), [each.label for each in policy.release.steps]
    if step not in names:
        raise UsageError(f"{policy.name}: no step {step!r}; the policy has: {', '.join(names)}")
    given = [item for item in records.read(store, policy.name, Approved) if item.data.bundle == bundle]
    times = sum(item.data.step == step for item in given)
    key = f"{bundle}-step-{step}" + (f"-{times + 1}" if times else "")
    data, now = Approved(bundle=bundle, step=step, reason=reason), clock.now()
    seen = progress.read(store, policy.name)
    running = seen is not None and seen.bundle == bundle
    time = max(now, seen.started) if seen is not None and running else now
    records.append(store, Record(model=policy.name, key=key, time=time, data=data))
    typer.echo(f"{policy.name}: step {step} of bundle {bundle} approved")
    if seen is not None and running:
        typer.echo(f"its release: {progress.words(seen, clock.now())}")


def _waiting(store: Store, model: str, key: str, now: datetime) -> Record[Checked]:
    """The check whose retraining waits for an approval under this key."""
    from kedge.errors import UsageError
    from kedge.monitoring.history import load_history
    from kedge.records import ModelState
    from kedge.store.identity import refuse_empty

    refuse_empty(store)
    waits = ModelState.of(load_history(store, model, now)).retraining_to_approve
    if waits is None or waits.data.decision_key != key:
        other = f"; the one that does is {waits.data.decision_key}" if waits is not None else ""
        raise UsageError(f"{model}: no retraining {key} waits for an approval{other}; `kedge status` says what does")
    return waits


def _retraining(
    settings: Settings, store: Store, policy: Policy, key: str, reason: str, submitted: bool
) -> list[RunOutcome]:
    from kedge import clock, records
    from kedge.cli.monitor import follow_up
    from kedge.records import Approved, Record

    now = clock.now()
    waits = _waiting(store, policy.name, key, now)
    data = Approved(decision_key=key, reason=reason)
    records.append(store, Record(model=policy.name, key=key, time=now, data=data))
    typer.echo(f"{policy.name}: retraining {key} approved")
    return follow_up(settings, policy, waits, say=typer.echo) if submitted else []


def registered(store: Store, policy: Policy, begin: str) -> str:
    """The registered bundle whose id begins so.

    Raises:
        UsageError: none does, or several do.
        StoreError: the store is empty.
    """
    from kedge import records
    from kedge.errors import UsageError
    from kedge.records import Registered
    from kedge.store.identity import refuse_empty

    known = [item.data.bundle for item in records.read(store, policy.name, Registered)]
    if not known:
        refuse_empty(store)
    if not re.fullmatch(r"[0-9a-f]{8,40}", begin):
        raise UsageError(f"bundle {begin!r} must be 8 to 40 hex digits; registered: {', '.join(known) or 'none'}")
    found = [key for key in known if key.startswith(begin)]
    if len(found) != 1:
        many = "several registered bundles begin" if found else "no registered bundle begins"
        raise UsageError(f"{policy.name}: {many} with {begin}; registered: {', '.join(known) or 'none'}")
    return found[0]


def write(store: Store, policy: Policy, bundle: str, reason: str) -> str | None:
    """Write the approval, a new one if the bundle was rolled back since the last.

    Returns:
        The key of the release that follows: None for the first one, else the number of the approval that allowed one
        more, so that approving twice releases once.
    """
    from kedge import clock, records
    from kedge.records import Approved, Record

    state = records.read_state(store, policy.name)
    given = len([item for item in state.approvals if item.data.bundle == bundle and not item.data.step])
    back = state.rolled_back(bundle)
    if given and back is None:
        return _again(state, bundle, given)
    key = bundle if not given else f"{bundle}-{given + 1}"
    data = Approved(bundle=bundle, reason=reason, after_attempt=0 if back is None else max(1, back.data.attempt))
    records.append(store, Record(model=policy.name, key=key, time=clock.now(), data=data))
    return _again(state, bundle, given + 1)


def _again(state: ModelState, bundle: str, times: int) -> str | None:
    condemned = (each.rolled_back for each in state.releases if each.bundle == bundle)
    released = any(item is not None and item.data.condemned for item in condemned)
    return f"approved-{times}" if released else None
