"""``kedge monitor``: one check of the served model, and what follows from it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy, json_text

if TYPE_CHECKING:
    import pyarrow as pa

    from kedge.measure import Floats
    from kedge.monitoring.run import Outcome
    from kedge.policy import Policy
    from kedge.records import Checked, Record, Stalled
    from kedge.settings import Settings
    from kedge.store import Store
    from kedge.submission.submit import RunOutcome


def monitor(
    policy: PolicyFile = None,
    model: ModelName = None,
    store: StoreRoot = None,
    now: Annotated[str | None, typer.Option(help="Check the window that ends then, ISO 8601.")] = None,
    no_submit: Annotated[bool, typer.Option("--no-submit", help="Decide and record, start no run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the check's record as JSON.")] = False,
) -> None:
    """Check the served model once; retrain and release if need be.

    A window is checked once: again tells what stands, and submits what was decided and not yet submitted. A release
    that failed because of the cluster is tried again, also the first one. Exit code 0 whatever is decided, and before
    the first release; not 0 only if the check could not be made or the run not be submitted.

    Example: kedge monitor --policy payments.yaml --no-submit
    """
    from kedge import allocation

    allocation.give_back()
    with without_pandas():
        import pyarrow.dataset  # noqa: F401

    from kedge import clock
    from kedge.errors import NothingServed
    from kedge.monitoring import run
    from kedge.monitoring.history import load_history, misdated
    from kedge.settings import Settings
    from kedge.store import open_store
    from kedge.store.identity import require
    from kedge.submission.commit import policy_commit

    settings = Settings.of(store)
    asked, opened = chosen_policy(policy, model, settings), open_store(settings.store)
    moment, outcome = clock.parse("--now", now) if now else clock.now(), None

    def say(line: str) -> None:
        typer.echo(line, err=as_json)

    require(opened)
    try:
        outcome = run.run(asked, opened, now=moment, probe=partial(_probe, opened))
    except NothingServed as exc:  # the schedule starts with the installation, a first release comes later
        typer.echo(str(exc), err=True)
        for line in misdated(load_history(opened, asked.name, moment), clock.now()):
            typer.echo(f"warning: {line}", err=True)
    if outcome is not None and not as_json:
        typer.echo("\n".join(told(outcome, opened.uri)))
    if outcome is not None:
        for line in _tell(asked, opened, outcome, moment):
            say(f"notify: {line}")
        if outcome.begins_day:
            say(_prune(asked, opened))
    due = outcome.due if outcome is not None else None
    failed = run.release_again(asked, opened, now=clock.now()) if due is None else None
    ended: list[RunOutcome] = []
    try:
        if due is not None and not no_submit:
            ended = follow_up(settings, asked, due, commit=policy_commit(policy), say=say)
        elif failed is not None and not no_submit:
            ended = [release_again(settings, asked, failed, say=say)]
    finally:
        if as_json and outcome is not None:
            typer.echo(_json(outcome, ended))
    for one in ended:
        typer.echo(f"run {one.run}: {one.state}{f': {one.reason}' if one.reason else ''}", err=as_json)


def _tell(policy: Policy, store: Store, outcome: Outcome, now: datetime) -> list[str]:
    """Tell people what a check saw, each cause once; say what was done."""
    if policy.notify.url_variable is None:
        return []
    from kedge import notify
    from kedge.errors import StoreError
    from kedge.monitoring.history import load_history
    from kedge.records import ModelState

    try:
        state = ModelState.of(load_history(store, policy.name, now))
        return notify.tell(policy, store, notify.of_check(policy, outcome.record, state), notify.OF_CHECK, notify.post)
    except StoreError as exc:
        return [f"nobody was told: {exc}"]


def _prune(policy: Policy, store: Store) -> str:
    """Delete what the policy keeps no longer, and say what came of it: no check fails because of it."""
    from kedge.errors import StoreError
    from kedge.retention.prune import carry_out, plan

    try:
        made = plan(policy, store)
        carry_out(made, store)
    except StoreError as exc:
        return f"retention: not everything old was deleted, the first check of tomorrow tries again: {exc}"
    return f"retention: {made} deleted"


def _probe(
    store: Store, policy: Policy, earlier: pa.Table, rows: pa.Table, change_point: datetime | None
) -> Floats | None:
    from kedge.bundle import packages
    from kedge.training.probe import probe  # only where the error is risen: it loads the estimators

    packages.fetch(store, policy)
    return probe(policy, earlier, rows, change_point)


@contextmanager
def without_pandas() -> Iterator[None]:
    """Let pyarrow find no pandas when it first looks for it.

    It looks once, and imports it wherever it is installed: most of the time and half of the memory of a check, which
    has no use for it. Whoever imports pandas later still gets it.
    """

    class Absent:
        def find_spec(self, name: str, path: object, target: object = None) -> None:  # noqa: ARG002
            if name == "pandas":
                raise ModuleNotFoundError(name=name)

    absent = Absent()
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)


def follow_up(
    settings: Settings, policy: Policy, due: Record[Checked], *, commit: str = "", say: Callable[[str], None]
) -> list[RunOutcome]:
    """Submit what a check decided, or drive it on; once, however often this is called.

    The local runner works in this process's time: training and release are over on return. KFP works on its own: a
    check starts the training, a later one finds it done and starts the release.

    Raises:
        RunError: a run could not be submitted.
    """
    from kedge.submission import submit

    trained = submit.submit_retrain(
        settings,
        policy,
        reason="; ".join(due.data.reasons),
        key=due.data.decision_key,
        end=due.time,
        change_point=due.data.change_point,
        champion_until=due.data.trained_until,
        commit=commit,
        wait=False,
        say=say,
    )
    return submit.release_passed(settings, policy, trained, wait=settings.kfp_host is None, say=say)


def release_again(settings: Settings, policy: Policy, failed: Stalled, *, say: Callable[[str], None]) -> RunOutcome:
    """Try a release that failed by no fault of its bundle's again, as one more attempt of the same run.

    Raises:
        RunError: the run could not be submitted.
    """
    from kedge.submission import submit

    say(f"the release of bundle {failed.bundle[:12]} is tried again, for the {_nth(len(failed.tries) + 1)} time")
    key = failed.run.removeprefix(submit.run_name("release", policy.name, failed.bundle[:12])).removeprefix("-")
    reason, wait = f"tried again after: {failed.reason}"[:500], settings.kfp_host is None
    return submit.submit_release(
        settings, policy, failed.bundle, reason=reason, key=key or None, again=True, wait=wait, say=say
    )


def _nth(count: int) -> str:
    """A count in words as far as they are usual.

    >>> _nth(2), _nth(12)
    ('second', '12th')
    """
    return {2: "second", 3: "third"}.get(count, f"{count}th")


def told(outcome: Outcome, address: Callable[[str], str]) -> list[str]:
    """A check in a few lines."""
    item, data = outcome.record, outcome.record.data
    before = "" if outcome.written else " (checked before)"
    start, end = (f"{time:%Y-%m-%dT%H:%M}" for time in (data.window.start, data.window.end))
    return [
        f"{item.model}, {start} to {end} UTC, {data.rows:,} rows: {data.verdict}{before}",
        f"action: {data.action}",
        *(f"  {reason}" for reason in data.reasons),
        *(f"warning: {warning}" for warning in (*data.warnings, *outcome.misdated)),
        f"report: {address(data.report)}",
        *_open_points(outcome),
    ]


def _open_points(outcome: Outcome) -> Iterator[str]:
    """What a person may have to do about a check."""
    item, data = outcome.record, outcome.record.data
    source = data.label_source
    if source is not None and source.invalid:
        yield f"label source: {source.invalid:,} rows left out; the first: {source.faults[0]}"
    if data.approval_wanted:
        yield f"a retraining waits for: kedge approve --model {item.model} {data.decision_key}"
    if outcome.due is not None and outcome.due.key != item.key:
        yield f"the retraining decided on at {outcome.due.key} is not done yet"


def _json(outcome: Outcome, ended: Sequence[RunOutcome]) -> str:
    due = outcome.due.data.decision_key if outcome.due else None
    runs = [one.to_dict() for one in ended]
    body = {**asdict(outcome.record), "written_now": outcome.written, "due": due, "runs": runs}
    return json_text(body)
