"""What the records say: who is champion, what was retrained when, which windows were corrupt. All pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from components.record import Record

BUNDLE = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The bundle that serves, and the record that made it so."""

    bundle: str
    since: datetime
    reign: str
    """``promoted/<key>`` or ``rolled-back/<key>``: a bundle that comes back after a rollback reigns anew."""


def champion(records: Iterable[Record]) -> Champion | None:
    """Who serves after these records, in their order; None before the first promotion.

    A promotion puts its bundle on the throne. Rolling back the bundle on the throne puts the one before it back;
    rolling back a candidate that never got there changes nothing.
    """
    line: list[str] = []
    found: Champion | None = None
    for item in records:
        bundle = bundle_of(item)
        if item.kind == "promoted" and bundle is not None and (not line or line[-1] != bundle):
            line.append(bundle)
        elif item.kind == "rolled-back" and len(line) > 1 and line[-1] == bundle:
            line.pop()
        else:
            continue
        found = Champion(bundle=line[-1], since=item.time, reign=f"{item.kind}/{item.key}")
    return found


def bundle_of(item: Record) -> str | None:
    """The bundle a record is about: its data say it, or its key holds it."""
    said = item.data.get("bundle")
    if isinstance(said, str) and BUNDLE.fullmatch(said):
        return said
    match = BUNDLE.search(item.key)
    return match.group() if match else None


def vetoed_windows(records: Iterable[Record]) -> list[tuple[datetime, datetime]]:
    """Windows ``[start, end)`` of event time whose rows were found corrupt, joined where they touch, in time order.

    Training leaves these rows out, and so does the measure of labelled error: wrong inputs make wrong predictions, and
    their labels arrive when the feed is long whole again.
    """
    joined: list[tuple[datetime, datetime]] = []
    for start, end in sorted(window_of(item.data) for item in records if _vetoed(item)):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def window_of(data: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Start and end of a check record's window."""
    window = data["window"]
    return datetime.fromisoformat(window["start"]), datetime.fromisoformat(window["end"])


def _vetoed(item: Record) -> bool:
    return item.kind == "check" and item.data.get("action") == "veto"


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A retraining that was decided on by a check, or started by hand."""

    key: str
    time: datetime


def retrainings(records: Sequence[Record], until: datetime) -> list[Retraining]:
    """Every retraining up to and including ``until``, in time order; a decision and the run it started are one."""
    found: dict[str, Retraining] = {}
    for item in records:
        key = _retraining(item)
        if key is not None and item.time <= until and key not in found:
            found[key] = Retraining(key=key, time=item.time)
    return sorted(found.values(), key=lambda one: (one.time, one.key))


def _retraining(item: Record) -> str | None:
    if item.kind == "check" and item.data.get("action") == "retrain":
        return str(item.data["decision_key"])
    if item.kind == "run-started" and item.data.get("pipeline", "retrain") == "retrain":
        return str(item.data.get("decision_key") or item.data.get("run") or item.key)
    return None


def unsubmitted(records: Sequence[Record]) -> Record | None:
    """The newest check that decided to retrain, if no run was started for it: its process died, or nobody answered.

    A later check that saw nothing bad, a corrupt feed or another champion has overtaken it.
    """
    started = {_retraining(item) for item in records if item.kind == "run-started"}
    checks = [item for item in records if item.kind == "check"]
    for item in reversed(checks):
        if item.data["champion"]["reign"] != checks[-1].data["champion"]["reign"]:
            return None
        if item.data["action"] == "retrain":
            return None if item.data["decision_key"] in started else item
        if item.data["action"] != "attention":
            return None
    return None
