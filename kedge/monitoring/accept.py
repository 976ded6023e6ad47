"""A person says that a feed changed for good: what was quarantined for it counts again, and is quarantined no more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from kedge import records
from kedge.errors import UsageError
from kedge.records import Accepted, Breach, Checked, ModelState, Quarantined, Record, Window, check_key, of_kind
from kedge.store import Store

CHECKS = 100
"""Checks looked back at for the newest that could compare its inputs."""


def accept(store: Store, model: str, reason: str, time: datetime) -> Record[Accepted]:
    """Accept why the newest check found the feed corrupt, and every window quarantined for nothing else.

    Args:
        reason: Why, for people.
        time: When it counts from.

    Returns:
        The acceptance; of a check that was accepted before, the earlier one.

    Raises:
        UsageError: the model was never checked, or its newest check found the feed whole.
        StoreError: a record cannot be read or written.
    """
    if not reason.strip():
        raise UsageError("say with --reason why the feed is right as it is: it is kept in the record")
    events = records.read_events(store, model)
    state = ModelState.of([*events, *records.newest(store, model, Checked, CHECKS)])
    newest = state.check
    if newest is None:
        raise UsageError(f"store {store.url}: no check of a model {model!r}, so nothing was quarantined")
    known = records.find(store, model, Accepted, newest.key)
    if known is not None:
        return known
    if not state.last_breaches:
        raise UsageError(
            f"{model}: nothing is quarantined for now, so there is nothing to accept; the check of "
            f"{newest.time:%Y-%m-%d %H:%M} UTC says: {newest.data.verdict}"
        )
    breaches = (*state.accepted_breaches, *state.last_breaches)
    before = {window for item in state.accepted for window in item.data.windows}
    marks = [mark for mark in of_kind(events, Quarantined) if mark.data.window not in before]
    windows = _quarantined_for(store, model, marks, breaches)
    data = Accepted(reason=reason.strip(), breaches=state.last_breaches, windows=windows)
    records.append(store, Record(model=model, key=newest.key, time=time, data=data))
    made = records.find(store, model, Accepted, newest.key)
    assert made is not None
    return made


def _quarantined_for(
    store: Store, model: str, marks: Iterable[Record[Quarantined]], breaches: Iterable[Breach]
) -> tuple[Window, ...]:
    """The quarantined windows of checks that found nothing but these, or less of them."""
    checks = records.find_each(store, model, Checked, {check_key(mark.time) for mark in marks})
    return tuple(
        check.data.window
        for check in checks
        if check.data.action == "quarantine"
        and check.data.corrupt
        and all(any(known.covers(breach) for known in breaches) for breach in check.data.corrupt)
    )
