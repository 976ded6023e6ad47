"""What a check has to know of a model's past, and which release is to be tried again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kedge import records
from kedge.policy import Policy
from kedge.records import Checked, Data, ModelState, Record, RunStarted, Stalled, check_key
from kedge.records.state import DECIDED
from kedge.store import Store

CHECKS = 100
"""Checks looked back at, if they tell whether the alarm is on; more are read until they do."""
MAX_CHECKS = 1000
"""Checks looked back at whatever they tell: an alarm that none of them ended or confirmed is taken for over."""


def load_history(store: Store, model: str, needed: int, end: datetime) -> list[Record[Data]]:
    """What has to be known of a model's past to decide on a window that ends then, in order: all but old checks.

    Checks come by the hour and stay for ever, so only the newest are read: at least ``CHECKS``, and as far back as it
    takes to tell whether the alarm is on. With them the check whose retraining ran last, however old.

    Args:
        needed: Good checks in a row that end an alarm.
        end: Event time.

    Raises:
        StoreError: a record cannot be read.
    """
    events = records.read_events(store, model)
    checks = records.newest(store, model, Checked, CHECKS)
    past = checks
    if checks and checks[-1].time >= end:  # a check of the past, made by hand
        past = records.newest(store, model, Checked, CHECKS, before=check_key(end))
    while past and len(past) < MAX_CHECKS and not _settled(past, needed):
        older = records.newest(store, model, Checked, CHECKS, before=past[0].key)
        if not older:
            break
        past = [*older, *past]
    known = {item.key: item for item in (*past, *checks, *_decided(store, model, events))}
    return records.in_order([*events, *known.values()])


def due_release(state: ModelState, policy: Policy, now: datetime) -> Stalled | None:
    """The stalled release that is to be tried again now."""
    stalled = state.stalled
    if stalled is None or stalled.next_try(policy.monitor.budget) > now:
        return None
    return stalled if policy.release.approval == "auto" or state.approved(stalled.bundle) else None


def _settled(checks: Sequence[Record[Checked]], needed: int) -> bool:
    """Whether older checks cannot change what these say of the alarm: they begin under another champion, enough good
    ones in a row ended whatever was, or not one of them was bad."""
    if checks[0].data.champion.tenure_id != checks[-1].data.champion.tenure_id:
        return True
    return all(_ended(checks, signal, needed) for signal in ("error", "shift"))


def _ended(checks: Sequence[Record[Checked]], signal: str, needed: int) -> bool:
    looks = [item.data.signals[signal] for item in checks if item.data.action != "quarantine"]
    known = [look for look in looks if look.breached is not None]
    good, seen = 0, known[0].evidence_id if known else None  # the first may repeat one that is not here
    for look in known[1:]:
        if look.evidence_id != seen:
            seen, good = look.evidence_id, 0 if look.breached else good + 1
            if good >= needed:
                return True
    return not any(look.breached for look in known)


def _decided(store: Store, model: str, events: Sequence[Record[Data]]) -> list[Record[Checked]]:
    """The check that asked for the newest retraining."""
    keys = [item.data.decision_key for item in events if isinstance(item.data, RunStarted)]
    decided = next(filter(None, map(DECIDED.fullmatch, reversed(keys))), None)
    found = records.find(store, model, Checked, f"{decided[1]}T{decided[2]}Z") if decided else None
    return [found] if found is not None else []
