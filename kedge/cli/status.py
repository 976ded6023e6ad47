"""``kedge status``: how a model is, on one screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, json_text, refuse_both

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.records import (
        Attempt,
        Champion,
        Checked,
        ModelState,
        Performance,
        Record,
        RunFinished,
        RunStarted,
        Stalled,
    )
    from kedge.rollout.model import Rollout
    from kedge.rollout.progress import Progress
    from kedge.settings import Settings

MAX_REASON = 80
"""Letters of a reason in the table of all models; `--model` has the rest."""
WATCH_SECONDS = 2.0
"""Between two looks at a release that is followed."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a model is. Computed from its records and, where the platform is local, from its route."""

    model: str
    now: datetime
    champion: Champion | None
    version: str | None
    check: Record[Checked] | None
    run: Record[RunFinished] | Record[RunStarted] | None
    """The newest run: ``run-finished`` if it ended, else ``run-started``."""
    rollout: Rollout | None
    progress: Progress | None
    """Of the release that runs: what its last look saw, and what it still needs."""
    ended: str
    """How the release ended that was decided last, in words; empty: none was."""
    next: tuple[str, ...]


def status(
    policy: PolicyFile = None,
    model: ModelName = None,
    store: StoreRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until the release that runs has ended; a line a change.")
    ] = False,
) -> None:
    """Show how a model is, on one screen; without a name, all models.

    The champion, the last check and its verdict, the last run and why it failed, a rollout, what comes next. Without
    --policy or --model every model of the store has a line. With --watch the release is followed: its step, the
    evidence so far against what is needed, the time left and what comes then; ends with it.

    Example: kedge status --model payments
    """
    import time

    from kedge import clock
    from kedge.errors import UsageError
    from kedge.settings import Settings

    settings, now = Settings.of(store), clock.now()
    if watch:
        if as_json or (policy is None and model is None):
            raise UsageError("--watch follows one model's release: give --policy FILE or --model NAME, without --json")
        for line in watched(lambda: _one(policy, model, settings, clock.now()), time.sleep):
            typer.echo(line)
        return
    if policy is None and model is None:
        statuses = list(_all(settings, now))
        texts = _table(statuses) if statuses else [f"store {settings.store}: no models yet; `kedge init TABLE` begins"]
        value: object = [asdict(each) for each in statuses]
    else:
        found = _one(policy, model, settings, now)
        texts, value = screen(found), asdict(found)
    typer.echo(json_text(value) if as_json else "\n".join(texts))


def watched(look_again: Callable[[], Status], sleep: Callable[[float], object]) -> Iterator[str]:
    """The screen, then a line for each change of the release that runs, until it has ended."""
    seen = look_again()
    yield from screen(seen)
    told = _rollout_words(seen)
    while seen.progress is not None or seen.rollout is not None:
        sleep(WATCH_SECONDS)
        seen = look_again()
        line = _rollout_words(seen)
        if seen.progress is None and seen.rollout is None:
            line = seen.ended or "no release runs any more"
        if line != told:
            yield f"{seen.now:%H:%M:%S} {line}"
            told = line


def _ended(state: ModelState) -> str:
    """How the release ended that was decided last, in words; empty: none was."""
    ends = [each.rolled_back or each.promoted for each in state.releases]
    last = max((each for each in ends if each is not None), key=lambda each: each.time, default=None)
    if last is None:
        return ""
    result = last.kind.replace("-", " ") if getattr(last.data, "condemned", True) else "not judged"
    return f"bundle {last.data.bundle[:12]} {result}: {last.data.reason}"


def _one(policy: Path | None, model: str | None, settings: Settings, now: datetime) -> Status:
    from kedge import policy as policies
    from kedge.api.history import unknown_model
    from kedge.monitoring.history import load_history, misdated
    from kedge.records import ModelState
    from kedge.rollout import progress
    from kedge.store import open_store

    refuse_both(policy, model)
    asked = policies.load(policy) if policy else None
    name = asked.name if asked else str(model)
    store = open_store(settings.store)
    history, rollout = load_history(store, name, now), _rollout(Path(settings.platform), name)
    if asked is None and not history and rollout is None:
        raise unknown_model(store, name)
    seen, local = progress.read(store, name), settings.kfp_host is None
    found = look(name, ModelState.of(history), asked, rollout, now, seen, local=local)
    return replace(found, next=(*found.next, *misdated(history, now)))


def _all(settings: Settings, now: datetime) -> Iterator[Status]:
    from kedge.api.history import models
    from kedge.monitoring.history import load_history
    from kedge.records import ModelState
    from kedge.rollout import progress
    from kedge.store import open_store
    from kedge.store.identity import refuse_empty

    store = open_store(settings.store)
    names = models(store)
    if not names:
        refuse_empty(store)
    for name in names:
        rollout = _rollout(Path(settings.platform), name)
        seen = progress.read(store, name)
        state, local = ModelState.of(load_history(store, name, now)), settings.kfp_host is None
        yield look(name, state, None, rollout, now, seen, local=local)


def _table(statuses: Sequence[Status]) -> list[str]:
    """One line a model."""
    from kedge.cli.history import table

    lines = []
    for each in statuses:
        check = f"{_moment(each.check.time)}: {each.check.data.verdict}" if each.check else "none yet"
        action = each.check.data.action if each.check else "-"
        champion = f"{each.champion.bundle[:12]} since {_moment(each.champion.since)}" if each.champion else "none"
        lines.append((each.model, champion, check, action, _brief(each.run)))
    return table(("model", "champion", "last check", "action", "last run"), lines)


def _brief(run: Record[RunFinished] | Record[RunStarted] | None) -> str:
    """The newest run without most of its reason, which `--model` shows."""
    from kedge.records import RunFinished

    if run is None or not isinstance(run.data, RunFinished) or not run.data.reason:
        return _run(run)
    short = replace(run.data, reason=shorten(run.data.reason, MAX_REASON, placeholder=" ..."))
    return _run(replace(run, data=short))


def look(
    model: str,
    state: ModelState,
    asked: Policy | None,
    rollout: Rollout | None,
    now: datetime,
    seen: Progress | None = None,
    *,
    local: bool = False,
) -> Status:
    """Status from what was recorded; ``local``: runs are the local runner's, as no KFP is named. Pure."""
    serving = state.champion
    if rollout is not None and seen is not None:
        seen = seen if seen.key == f"{rollout.bundle}-{rollout.attempt}" else None
    goes = seen is not None and any(
        each.key == seen.key and each.promoted is None and each.rolled_back is None for each in state.releases
    )
    under_way = rollout if rollout is not None and not rollout.ended else None
    return Status(
        model=model,
        now=now,
        champion=serving,
        version=state.version(serving.bundle) if serving else None,
        check=state.check,
        run=_last_word(state.newest_run),
        rollout=under_way,
        progress=seen if goes else None,
        ended=_ended(state),
        next=tuple(_next(state, asked, under_way, now, "kedge submit --policy FILE" + " --local" * local)),
    )


def _last_word(attempt: Attempt | None) -> Record[RunFinished] | Record[RunStarted] | None:
    """How an attempt ended, or that it began."""
    return None if attempt is None else attempt.finished or attempt.started


def _next(
    state: ModelState, asked: Policy | None, rollout: Rollout | None, now: datetime, submit: str
) -> Iterator[str]:
    serving, failed = state.champion, state.stalled
    waiting, by_hand = state.release_to_approve, asked is not None and asked.release.approval == "manual"
    if failed is not None:
        yield from _again(failed, asked, now, submit)
    elif rollout is not None:
        yield f"the release of {rollout.bundle[:12]} goes on, or is rolled back, by what it is seen doing"
    elif serving is None and waiting is None:
        yield f"nothing was promoted yet: `{submit}` trains and releases a first model"
    elif serving is None and waiting is not None and not by_hand:
        yield f"nothing was promoted yet: `{submit} --release {waiting[:12]}` releases what passed"
    if waiting is not None and by_hand and (failed is None or failed.bundle != waiting):
        yield f"bundle {waiting[:12]} waits for `kedge approve`"
    if (held := state.retraining_to_approve) is not None:
        yield f"the retraining decided on at {_moment(held.time)} waits for `kedge approve {held.data.decision_key}`"
    if failed is None and rollout is None and (decided := state.unfinished(by_hand=by_hand)) is not None:
        yield f"the retraining decided on at {_moment(decided.time)} is not done: the next `kedge monitor` drives it on"
    if asked is not None:
        yield from _retraining_budget(state, asked, now)


def _retraining_budget(state: ModelState, policy: Policy, now: datetime) -> Iterator[str]:
    """What the budget still allows, and when checks run."""
    past, budget = state.budgeted, policy.monitor.budget
    if past and (ends := past[-1].time + timedelta(seconds=budget.cooldown_seconds)) > now:
        yield f"checks ask for no retraining before {_moment(ends)} (cooldown)"
    if used := state.spent(budget, now):
        yield f"{used} of {budget.max_retrains} retrainings of the period are used"
    scheduled = f"on a cluster checks run by the schedule {policy.monitor.schedule!r} (UTC)"
    yield f"{scheduled}; `kedge monitor` makes one at any time"


def _again(failed: Stalled, asked: Policy | None, now: datetime, submit: str) -> Iterator[str]:
    """What becomes of a release that the platform failed."""
    tries = len(failed.tries)
    yield (
        f"the release of {failed.bundle[:12]} failed {'once' if tries == 1 else f'{tries} times'}, by no fault of the "
        "bundle's; `kedge doctor` says what the platform lacks"
    )
    at = failed.next_try(asked.monitor.budget) if asked is not None else None
    when = "a later `kedge monitor`" if at is None else "the next `kedge monitor`"
    if at is not None and at > now:
        when = f"the first `kedge monitor` after {_moment(at)}"
    yield f"{when} tries it again; at once: `{submit} --release {failed.bundle[:12]}`"


def screen(seen: Status) -> list[str]:
    """The lines a person reads."""
    facts = {
        "model": seen.model,
        "champion": _champion(seen),
        "last check": _check(seen.check),
        "run": _run(seen.run),
        "rollout": _rollout_words(seen),
        "next": seen.next[0] if seen.next else "-",
    }
    lines = [f"{name:<11} {value}" for name, value in facts.items()]
    lines += [f"{'':<11} {line}" for line in seen.next[1:]]
    if seen.check is not None:
        said = [*seen.check.data.reasons, *_metrics(seen.check.data.performance)]
        reasons = [f"{'':<11} {line}" for line in said]
        at = list(facts).index("last check") + 1
        lines[at:at] = reasons
    return lines


def _champion(seen: Status) -> str:
    if seen.champion is None:
        return "none"
    from kedge.monitoring.messages import span

    version = f"version {seen.version}, " if seen.version else ""
    age = span(seen.now - seen.champion.since)
    return f"{version}bundle {seen.champion.bundle[:12]}, since {_moment(seen.champion.since)} ({age})"


def _metrics(seen: Performance) -> list[str]:
    """The policy's metrics by the newest check, on one line."""
    figures = [f"{name} {each.value:.4g} ({each.low:.4g} to {each.high:.4g})" for name, each in seen.metrics.items()]
    return [f"{', '.join(figures)} over {seen.metric_rows or seen.rows:,} rows"] if figures else []


def _check(check: Record[Checked] | None) -> str:
    if check is None:
        return "none yet"
    data = check.data
    return f"{_moment(check.time)}: {data.verdict}; action: {data.action}; {data.rows:,} rows; {data.report}"


def _run(run: Record[RunFinished] | Record[RunStarted] | None) -> str:
    from kedge.records import RunFinished

    if run is None:
        return "none yet"
    data = run.data
    if not isinstance(data, RunFinished):
        return f"{run.key} is going since {_moment(run.time)}"
    step = f" at {data.step}" if data.step and data.state != "succeeded" else ""
    reason = f": {data.reason}" if data.reason else ""
    return f"{run.key} {data.state}{step}{reason} ({_moment(run.time)})"


def _rollout_words(seen: Status) -> str:
    rollout, progress = seen.rollout, seen.progress
    if progress is not None:
        from kedge.rollout.progress import words

        place = "beside the champion" if progress.state == "batch" else f"in slot {progress.slot}"
        return f"bundle {progress.bundle[:12]} {place}: {words(progress, seen.now)}"
    if rollout is None:
        return "none"
    step = f" step {rollout.step + 1}" if rollout.state == "canary" else ""
    since = _moment(rollout.since)
    return f"bundle {rollout.bundle[:12]} in slot {rollout.slot}: {rollout.state}{step} since {since}"


def _rollout(platform: Path, model: str) -> Rollout | None:
    """What stands on the local platform's route, if there is one."""
    if not (platform / "routes").is_dir():
        return None
    from kedge.rollout.local.folder import Folder

    return Folder(platform).route(model).rollout


def _moment(time: datetime) -> str:
    from kedge.monitoring.messages import moment

    return moment(time)
