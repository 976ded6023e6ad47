"""What time it is, and spans of it in words.

Replays and the demo live in another time than the wall's; every part asks here.

With ``$KEDGE_CLOCK`` naming a file, the time is what the file says (one ISO 8601 time with offset), so that several
processes share one accelerated clock; the file is replaced whole by whoever drives it. Without it, it is the wall's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kedge.errors import UsageError
from kedge.figures import in_words

VARIABLE = "KEDGE_CLOCK"


def now() -> datetime:
    """The current time, aware, UTC.

    Raises:
        UsageError: ``$KEDGE_CLOCK`` names a file that holds no time.
    """
    file = os.environ.get(VARIABLE)
    return datetime.now(UTC) if not file else _read(Path(file))


def driven() -> bool:
    """Whether somebody else says what time it is: then it passes otherwise than the machine's."""
    return bool(os.environ.get(VARIABLE))


def parse(name: str, text: str) -> datetime:
    """A time that a user gave, aware, UTC; one without an offset is UTC.

    Raises:
        UsageError: it is none; the message begins with ``name``.

    >>> [parse("--end", text).isoformat() for text in ("2026-03-02T08:00:00+02:00", "2026-03-02")]
    ['2026-03-02T06:00:00+00:00', '2026-03-02T00:00:00+00:00']
    """
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise UsageError(f"{name} {text!r}: not a time such as 2026-03-02T00:00:00+00:00") from exc


def believed(now: datetime, written: Iterable[datetime]) -> datetime:
    """The time from which the age of things is counted before they are deleted: a clock that is ahead ages nothing.

    At most when the newest was written, and a day after what was written until an hour ago: what was written since may
    have the same clock.

    >>> noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> ahead = noon + timedelta(days=400)
    >>> believed(ahead, [noon, ahead]).isoformat()
    '2026-03-03T12:00:00+00:00'
    """
    times = [*written]
    settled = max((time for time in times if time < now - timedelta(hours=1)), default=now)
    return min(now, settled + timedelta(days=1), max(times, default=now))


def span(time: timedelta) -> str:
    """A length of time in words: ``3 days``, ``2.5 h``, ``40 s``.

    >>> span(timedelta(days=3)), span(timedelta(hours=2, minutes=30)), span(timedelta(days=1071))
    ('3 days', '2.5 h', '1,071 days')
    """
    seconds = time.total_seconds()
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size * (2 if unit == "days" else 1):
            return f"{in_words(seconds / size)} {unit}"
    return f"{seconds:.3g} s"


def _read(file: Path) -> datetime:
    try:
        time = datetime.fromisoformat(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as exc:
        raise UsageError(f"$KEDGE_CLOCK: {file} holds no time such as 2026-03-02T00:00:00+00:00: {exc}") from exc
    if time.tzinfo is None:
        raise UsageError(f"$KEDGE_CLOCK: the time {time} in {file} has no offset; write +00:00 behind it")
    return time.astimezone(UTC)
