"""What a check has to know of a model's past, and which release is to be tried again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from kedge import records
from kedge.policy import Policy
from kedge.records import Checked, Data, ModelState, Record, RunStarted, Stalled, check_key
from kedge.records.state import DECIDED
from kedge.store import Store

CHECKS = 30
"""Checks looked back at: each holds the states of alarm and regret that the next one starts from."""


def load_history(store: Store, model: str, end: datetime) -> list[Record[Data]]:
    """What has to be known of a model's past to decide on a window that ends then, in order: all but old checks.

    Checks come by the hour and stay for ever, so only the newest are read, and the one whose retraining ran last.

    Args:
        end: Event time.

    Raises:
        StoreError: a record cannot be read.
    """
    events = records.read_events(store, model)
    checks = records.newest(store, model, Checked, CHECKS)
    if checks and checks[-1].time >= end:  # a check of the past, made by hand
        checks = [*records.newest(store, model, Checked, CHECKS, before=check_key(end)), *checks]
    known = {item.key: item for item in (*checks, *_decided(store, model, events))}
    return records.in_order([*events, *known.values()])


def misdated(history: Iterable[Record[Data]], now: datetime) -> list[str]:
    """What to say of records that a wrong clock dated ahead of now, so that nobody waits unaware."""
    return [
        f"{records.place_of(item)} is dated {item.time:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}: no check "
        "sees it before; `kedge doctor` says what to do"
        for item in records.dated_ahead(history, now)
    ]


def due_release(state: ModelState, policy: Policy, now: datetime) -> Stalled | None:
    """The stalled release that is to be tried again now."""
    stalled = state.stalled
    if stalled is None or stalled.next_try(policy.monitor.budget) > now:
        return None
    return stalled if policy.release.approval == "auto" or state.approved(stalled.bundle) else None


def _decided(store: Store, model: str, events: Sequence[Record[Data]]) -> list[Record[Checked]]:
    """The check that asked for the newest retraining."""
    keys = [item.data.decision_key for item in events if isinstance(item.data, RunStarted)]
    decided = next(filter(None, map(DECIDED.fullmatch, reversed(keys))), None)
    found = records.find(store, model, Checked, f"{decided[1]}T{decided[2]}Z") if decided else None
    return [found] if found is not None else []
