"""What people are told of a model between two runs, each cause once: while it lasts, and again when it comes back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from kedge.clock import span
from kedge.policy import Policy
from kedge.policy.cron import max_pause
from kedge.policy.notify import Notice as Kind
from kedge.records import Checked, ModelState, Record
from kedge.store import Store

OF_CHECK: tuple[Kind, ...] = ("warning", "quarantine", "approval")
"""What a check knows of."""
OF_GUARD: tuple[Kind, ...] = ("approval", "rollback", "limits", "overdue")
"""What the guard knows of."""
LATE = timedelta(minutes=20)
"""How late a check may be beyond the longest pause of its schedule before it is overdue."""
NEWS = timedelta(days=1)
"""Age from which a rollback is no news any more."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One cause to tell people of."""

    kind: Kind
    key: str
    """Of the cause: as long as it is the same, nobody is told again."""
    line: str


def of_check(policy: Policy, check: Record[Checked], state: ModelState) -> Iterator[Notice]:
    """What the newest check has people told, and what waits for an approval."""
    data, model = check.data, policy.name
    if data.action in ("warn", "quarantine"):
        kind: Kind = "warning" if data.action == "warn" else "quarantine"
        why = "; ".join(data.reasons)
        yield Notice(kind=kind, key=data.verdict, line=f"{model}: {kind}: {data.verdict}: {why}; see {data.report}")
    yield from _approvals(policy, state)


def of_records(policy: Policy, state: ModelState, now: datetime, *, scheduled: bool) -> Iterator[Notice]:
    """What the guard reads of the records: what waits for an approval, a champion that was rolled back, a check that
    does not come although checks are ``scheduled``."""
    yield from _approvals(policy, state)
    yield from _rollbacks(policy, state, now)
    if scheduled:
        yield from _overdue(policy, state, now)


def _rollbacks(policy: Policy, state: ModelState, now: datetime) -> Iterator[Notice]:
    for each in state.releases:
        back = each.rolled_back
        if each.promoted is not None and back is not None and now - back.time < NEWS:
            line = f"{policy.name}: champion {each.bundle[:12]} was rolled back: {back.data.reason}"
            yield Notice(kind="rollback", key=each.key, line=line)


def _overdue(policy: Policy, state: ModelState, now: datetime) -> Iterator[Notice]:
    since = state.champion.since if state.champion is not None else None
    if state.check is not None:
        since = state.check.written or state.check.time
    pause = max_pause(policy.monitor.schedule)
    if since is not None and pause is not None and now - since - timedelta(seconds=pause) > LATE:
        last = f"the last was {span(now - since)} ago" if state.check else "there was none yet"
        line = f"{policy.name}: a check is overdue, {last}: kubectl get jobs; kubectl describe the check's CronJob"
        yield Notice(kind="overdue", key=since.isoformat(), line=line)


def _approvals(policy: Policy, state: ModelState) -> Iterator[Notice]:
    model = policy.name
    held = state.retraining_to_approve
    if held is not None:
        key = held.data.decision_key
        line = f"{model}: a retraining waits for: kedge approve --model {model} {key}: {'; '.join(held.data.reasons)}"
        cause = f"retraining of {held.data.champion.tenure_id}"  # each check decides anew, for the same cause
        yield Notice(kind="approval", key=cause, line=line)
    bundle = state.release_to_approve
    if bundle is not None and policy.release.approval == "manual":
        line = f"{model}: a release waits for: kedge approve --model {model} {bundle[:12]}"
        yield Notice(kind="approval", key=bundle, line=line)


def tell(
    policy: Policy,
    store: Store,
    notices: Iterable[Notice],
    kinds: Collection[Kind],
    post: Callable[[Policy, str], str],
) -> list[str]:
    """Post what was not told yet, and forget what is over; say what was done.

    Args:
        policy: Says who is told of what.
        store: Remembers what was told.
        notices: All causes there are now, of ``kinds``.
        kinds: What the caller knows of; what was told of others stays.
        post: Tells one line, and says what it did; ``told ...`` where it could.

    Raises:
        StoreError: the store does not answer; nobody was told.
    """
    wanted = [notice for notice in notices if notice.kind in policy.notify.notices]
    if policy.notify.url_variable is None:
        return []
    told = _told(store, policy.name)
    kept: dict[str, list[str]] = {kind: list(keys) for kind, keys in told.items() if kind not in kinds}
    for kind in kinds:
        there = {each.key for each in wanted if each.kind == kind}
        kept[kind] = [key for key in told.get(kind, ()) if key in there]
    said = []
    for notice in wanted:
        if notice.key in kept.get(notice.kind, ()):
            continue
        answer = post(policy, notice.line)
        said.append(f"{notice.kind}: {answer}")
        if answer.startswith("told"):
            kept.setdefault(notice.kind, []).append(notice.key)
    kept = {kind: values for kind, values in kept.items() if values}
    if kept != told:
        store.put(_place(policy.name), orjson.dumps(kept))
    return said


def _told(store: Store, model: str) -> Mapping[str, list[str]]:
    try:
        told = orjson.loads(store.get(_place(model)))
    except (KeyError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _place(model: str) -> str:
    return f"told/{model}.json"
