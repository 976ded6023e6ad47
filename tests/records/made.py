"""Records as tests write them down: a kind, a key, a time, and the fields that matter."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from kedge.records import Record, check_key, parse

HOUR = timedelta(hours=1)
CHAMPION = {"bundle": "a" * 40, "since": "2026-03-01T00:00:00+00:00", "tenure_id": "promoted/a"}


def record(
    kind: str,
    key: str,
    time: datetime,
    *,
    model: str = "fraud",
    actor: str = "",
    written: datetime | None = None,
    **data: Any,
) -> Record[Any]:
    """A record as it would be read; a check is of the hour before, under one champion, unless the data say so."""
    if kind == "check":
        data = {"action": "none", "window": {"start": time - HOUR, "end": time}, "champion": CHAMPION, **data}
    body = {"model": model, "kind": kind, "key": key, "time": time, "data": data, "actor": actor, "written": written}
    return parse(body)


def check(end: datetime, action: str = "none", *, model: str = "fraud", **data: Any) -> Record[Any]:
    """A check of the hour that ends then."""
    return record("check", check_key(end), end, model=model, action=action, **data)
