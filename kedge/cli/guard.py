"""``kedge guard``: the circuit breaker, one look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.rollout.guard import Guarded
    from kedge.settings import Settings
    from kedge.store import Store


def guard(
    policy: PolicyFile = None,
    model: ModelName = None,
    store: StoreRoot = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long to count requests.")] = 40.0,
    no_submit: Annotated[bool, typer.Option("--no-submit", help="Start no release that is due.")] = False,
    no_checks: Annotated[bool, typer.Option("--no-checks", help="No check comes by itself: none is overdue.")] = False,
) -> None:
    """Roll back a champion that exceeds absolute limits.

    Made to run each minute. The limits are those of `release.guard`: failed requests and latency, counted by the
    platform. Back to the champion before, as long as the policy keeps it deployed; its slot is emptied when that is
    over. Where that one exceeds a limit too, the champion gets the traffic back and nobody is condemned. A release that
    is due, because its retraining has just passed, is begun at once. Exit code 1: a limit is exceeded, and no
    rollback helps.

    Example: kedge guard --policy payments.yaml
    """
    from kedge.errors import ReleaseError
    from kedge.rollout import step
    from kedge.settings import Settings
    from kedge.store import open_store

    settings = Settings.of(store)
    asked = chosen_policy(policy, model, settings)
    if not no_submit and settings.kfp_host is not None:
        _begin(settings, open_store(settings.store), asked)
    seen = step.guard(asked, settings, seconds=seconds)
    typer.echo(f"{asked.name}: {seen}")
    scheduled = settings.kfp_host is not None and not no_checks
    for line in tell(asked, open_store(settings.store), seen, scheduled=scheduled):
        typer.echo(f"notify: {line}")
    if seen.verdict in ("exceeds limits", "not judged"):
        raise ReleaseError(f"{asked.name}: {seen}")


def tell(policy: Policy, store: Store, seen: Guarded, *, scheduled: bool) -> list[str]:
    """Tell people what a look saw, and what the records say, each cause once; say what was done."""
    from kedge import clock, notify
    from kedge.errors import StoreError
    from kedge.monitoring.history import load_history
    from kedge.records import ModelState

    if policy.notify.url_variable is None:
        return []
    now, limits = clock.now(), []
    if seen.verdict in ("exceeds limits", "not judged"):
        line = f"{policy.name}: guard: {seen}"
        limits.append(notify.Notice(kind="limits", key=seen.verdict, line=line))
    try:
        state = ModelState.of(load_history(store, policy.name, now))
        notices = [*limits, *notify.of_records(policy, state, now, scheduled=scheduled)]
        return notify.tell(policy, store, notices, notify.OF_GUARD, notify.post)
    except StoreError as exc:
        return [f"nobody was told: {exc}"]


def _begin(settings: Settings, store: Store, policy: Policy) -> None:
    """See what became of runs that nobody waits for, begin the release of what a retraining made, and try one again
    that the cluster failed."""
    from kedge import clock
    from kedge.cli.monitor import release_again
    from kedge.errors import RunError
    from kedge.monitoring.history import due_release, load_history
    from kedge.records import ModelState
    from kedge.submission import submit

    try:
        submit.look_after(settings, policy, say=typer.echo)
    except RunError as exc:
        typer.echo(f"{policy.name}: what became of its runs is not known: {exc}", err=True)
    now = clock.now()
    state = ModelState.of(load_history(store, policy.name, now))
    bundle, failed = state.awaits_release(by_hand=policy.release.approval == "manual"), due_release(state, policy, now)
    try:
        if bundle is not None:
            begun = submit.submit_release(
                settings, policy, bundle, reason="passed its gates", wait=False, say=typer.echo
            )
        elif failed is not None:
            begun = release_again(settings, policy, failed, say=typer.echo)
        else:
            return
    except RunError as exc:  # guarding who serves goes first; the next look tries it again
        typer.echo(f"{policy.name}: a release that is due could not be begun: {exc}", err=True)
    else:
        typer.echo(f"{policy.name}: release {begun.run}: {begun.state}")
