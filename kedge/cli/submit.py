"""``kedge submit``: retrain and release, once for each key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kedge.policy import Policy
    from kedge.settings import Settings
    from kedge.store import Store
    from kedge.submission.submit import RunOutcome


def submit(
    policy: PolicyFile = None,
    model: ModelName = None,
    store: StoreRoot = None,
    local: Annotated[
        bool, typer.Option("--local", help="Use the local runner even if $KEDGE_KFP_HOST is set.")
    ] = False,
    release: Annotated[
        str | None, typer.Option(help="Release this bundle (its first 8 digits or more) instead of retraining.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Submitting a key again does not run it again. Default: the time.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Train on rows up to this time, ISO 8601. Default: now.")] = None,
    change_point: Annotated[
        str | None, typer.Option(help="Since when the relation is another one, ISO 8601. Default: not known.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the records.")] = "submitted by hand",
    wait: Annotated[bool, typer.Option(help="Wait for the end. The local runner always waits.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON.")] = False,
) -> None:
    """Retrain on fresh rows, and release what passes its gates.

    A policy may ask for an approval first. With the local runner a release goes to the platform of `kedge up`; where
    none runs, what passed is registered only.
    Exit code 0: it ran, also if a gate or the canary refused the candidate (`state` says rejected) or the rows are too
    few to judge it (inconclusive, with how many more are needed); 1: it failed; 2: a mistake in what was given.

    Example: kedge submit --policy fraud.yaml --local
    """
    import dataclasses

    from kedge import clock
    from kedge.cli.approve import registered
    from kedge.settings import Settings
    from kedge.store import open_store
    from kedge.submission.commit import policy_commit
    from kedge.submission.submit import release_passed, submit_release, submit_retrain

    settings = Settings.of(store)
    if local:
        settings = dataclasses.replace(settings, kfp_host=None)
    asked = chosen_policy(policy, model, settings)
    until = clock.parse("--end", end) if end else clock.now()
    changed = clock.parse("--change-point", change_point) if change_point else None
    commit = policy_commit(policy)
    name = key or f"{until:%Y%m%dT%H%M%S}"
    served = asked.release.mode == "served"
    unserved = served and release is None and asked.release.approval == "auto" and _nothing_serves(settings)

    def say(line: str) -> None:
        typer.echo(line, err=as_json)

    if release is not None:
        chosen = registered(open_store(settings.store), asked, release)
        outcomes = [submit_release(settings, asked, chosen, reason=reason, key=key, again=True, wait=wait, say=say)]
    else:
        trained = submit_retrain(
            settings, asked, reason=reason, key=name, end=until, change_point=changed, commit=commit, wait=wait, say=say
        )
        released = wait and not unserved
        outcomes = release_passed(settings, asked, trained, say=say) if released else [trained]
    _tell(outcomes, as_json)
    if not as_json:
        for line in _proof(open_store(settings.store), asked, outcomes[0]):
            typer.echo(line)
    if unserved and outcomes[0].state == "succeeded":
        say("nothing served on this machine when the run began, so it is registered and not released. To release it:")
        given = f"--policy {policy}" if policy is not None else f"--model {model}"
        if _nothing_serves(settings):
            say(f"  kedge up {given}        # in another terminal, left running")
        say(f"  kedge submit {given} --local --release {outcomes[0].bundle}")
    for outcome in outcomes:
        outcome.raise_if_failed()


def _nothing_serves(settings: Settings) -> bool:
    """Whether a release from here could go nowhere: it would go to the local platform, which does not run."""
    from kedge.rollout.local.folder import Folder

    elsewhere = settings.kfp_host is not None or ":" in settings.platform
    return not elsewhere and not Folder(Path(settings.platform)).running()


def _proof(store: Store, policy: Policy, outcome: RunOutcome) -> Iterator[str]:
    """How good the candidate is, beside what it was held against, and where all of it stands."""
    from kedge import records
    from kedge.measure import unit
    from kedge.records import Evaluated

    if not outcome.bundle:
        return
    found = records.find(store, policy.name, Evaluated, records.evaluation_key(outcome.bundle, outcome.run))
    if found is None:
        return
    yield _figures(found.data.metrics, unit(policy.model.objective))
    yield f"its page: {store.url}/{found.data.report}"


def _figures(metrics: Mapping[str, float], unit: str) -> str:
    from kedge.figures import in_words

    about = [unit]
    if "loss_low" in metrics:
        low, high = max(0.0, metrics["loss_low"]), metrics["loss_high"]
        about.append(f"95 % interval {in_words(low, 4)} to {in_words(high, 4)}")
    parts = [f"loss {in_words(metrics['loss'], 4)} ({'; '.join(about)})"]
    held_against = {
        "constant_loss": "best constant", "champion_loss": "champion", "roc_area": "ROC area", "r_squared": "R²",
    }  # fmt: skip
    parts += [f"{words} {in_words(metrics[name], 4)}" for name, words in held_against.items() if name in metrics]
    if "champion_loss" not in metrics:
        parts.append("no champion yet")
    return f"{', '.join(parts)}; on {metrics['rows']:,.0f} rows that it was not trained on"


def _tell(outcomes: list[RunOutcome], as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps([outcome.to_dict() for outcome in outcomes], indent=2))
        return
    for outcome in outcomes:
        about = f", bundle {outcome.bundle}" if outcome.bundle else ""
        failed = outcome.state == "failed"  # the error says why, once
        why = f": {outcome.reason}" if outcome.reason and not failed else ""
        where = f", {outcome.address}" if outcome.address else ""
        typer.echo(f"run {outcome.run} {outcome.state}{about}{where}{why}")
