"""Windows whose rows a check found corrupt: nothing is trained on them, nothing measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from components.record.record import Record


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
