"""Windows whose rows a check found corrupt: nothing is trained on them, nothing measured.

Their names in the store say all there is to say, so that looking them up reads nothing, however many checks there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from kedge.errors import StoreError
from kedge.records.checked import Window
from kedge.store import Store

MOMENT = "%Y%m%dT%H%M%S.%fZ"
FOLDERS = ("quarantined", "vetoed")
"""Of the store: where the marks lie, and where earlier versions put them."""


def place(model: str, window: Window) -> str:
    """Key of a window's mark in the store."""
    return f"quarantined/{model}/{_text(window.start)}_{_text(window.end)}"


def marked(store: Store, model: str) -> Iterator[tuple[str, Window]]:
    """Name and window of each mark, in no order; none is read.

    Raises:
        StoreError: an object beside them has another name.
    """
    for folder in FOLDERS:
        for key in store.keys(f"{folder}/{model}"):
            yield key.rpartition("/")[2], _window(key)


def joined(windows: Iterable[Window]) -> tuple[Window, ...]:
    """The same times as windows that do not touch, in time order."""
    spans: list[Window] = []
    for window in sorted(windows, key=lambda each: (each.start, each.end)):
        if spans and window.start <= spans[-1].end:
            spans[-1] = Window(start=spans[-1].start, end=max(window.end, spans[-1].end))
        else:
            spans.append(window)
    return tuple(spans)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime(MOMENT)


def _window(key: str) -> Window:
    try:
        start, end = (datetime.fromisoformat(part) for part in key.rpartition("/")[2].split("_"))
    except ValueError as exc:
        raise StoreError(f"{key}: not a mark kedge made; move it away") from exc
    if start.tzinfo is None or end.tzinfo is None:
        raise StoreError(f"{key}: not a mark kedge made; move it away")
    return Window(start=start, end=end)
