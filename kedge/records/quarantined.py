"""Windows whose rows a check found corrupt: nothing is trained on them, nothing measured.

Their names in the store say all there is to say, so that looking them up reads nothing, however many checks there were.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kedge.errors import StoreError
from kedge.store import Store

MOMENT = "%Y%m%dT%H%M%S.%fZ"
FOLDERS = ("quarantined", "vetoed")
"""Of the store: where the marks lie, and where earlier versions put them."""


def quarantine(store: Store, model: str, start: datetime, end: datetime) -> None:
    """Mark the rows of a window ``[start, end)`` as corrupt. Again is harmless."""
    store.put_if_absent(f"quarantined/{model}/{_text(start)}_{_text(end)}", b"")


def quarantined_windows(store: Store, model: str) -> list[tuple[datetime, datetime]]:
    """Windows ``[start, end)`` of event time whose rows were found corrupt, joined where they touch, in time order.

    Training leaves these rows out, and so does the measure of labelled error: wrong inputs make wrong predictions, and
    their labels arrive when the feed is long whole again.
    """
    joined: list[tuple[datetime, datetime]] = []
    for start, end in sorted(_window(key) for folder in FOLDERS for key in store.keys(f"{folder}/{model}")):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def window_of(data: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Start and end of a check record's window."""
    window = data["window"]
    return datetime.fromisoformat(window["start"]), datetime.fromisoformat(window["end"])


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime(MOMENT)


def _window(key: str) -> tuple[datetime, datetime]:
    try:
        start, end = (datetime.strptime(part, MOMENT).replace(tzinfo=UTC) for part in key.rpartition("/")[2].split("_"))
    except ValueError as exc:
        raise StoreError(f"{key}: not a mark kedge made; move it away") from exc
    return start, end
