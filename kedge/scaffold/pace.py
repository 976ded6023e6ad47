"""Steps of a release and windows of checks that a model's rows a day can fill. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from kedge.policy.monitor import Monitor
from kedge.policy.release import Release

DAY = 86_400
WINDOWS = (1, 7, 28)
"""Days that a check may look at."""
RELEASES = (
    ((5, 25, 50), 3),
    ((5, 25, 50), 7),
    ((25, 50), 7),
    ((50,), 7),
    ((50,), 28),
)
"""Percents of steps, and the days that each may take, from the most careful on."""
REQUESTS = 100
"""Of a candidate at each step."""
SPARE = 2
"""So many times the rows that are needed are to be expected."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What fits a rate of rows; the fields are those of the policy."""

    schedule: str
    window_seconds: int
    min_rows: int
    min_labels: int
    percents: tuple[int, ...]
    min_requests: int
    max_step_seconds: int


def pace(rows_a_day: float | None) -> Pace:
    """The defaults where they can be met, or nothing is known; else longer windows, then fewer and longer steps.

    >>> pace(None).window_seconds == pace(100_000).window_seconds == 86_400
    True
    >>> slow = pace(25)
    >>> slow.window_seconds // 86_400, slow.min_rows, slow.percents, slow.max_step_seconds // 86_400, slow.min_requests
    (28, 200, (50,), 28, 100)
    """
    rows = float("inf") if rows_a_day is None else rows_a_day
    min_rows, min_labels = Monitor().min_rows, Monitor().performance.min_labels
    window = next((days for days in WINDOWS if rows * days >= SPARE * min_rows), WINDOWS[-1])
    if rows * window < SPARE * min_rows:
        min_rows = max(20, int(rows * window / SPARE))
    requests = REQUESTS
    fitting = (each for each in RELEASES if rows * each[0][0] / 100 * each[1] >= SPARE * requests)
    percents, days = next(fitting, RELEASES[-1])
    if rows * percents[0] / 100 * days < SPARE * requests:
        requests = int(rows * percents[0] / 100 * days / SPARE)
    return Pace(
        schedule=Monitor().schedule if window == 1 else "0 5 * * *",
        window_seconds=window * DAY,
        min_rows=min_rows,
        min_labels=min(min_labels, min_rows),
        percents=percents,
        min_requests=requests,
        max_step_seconds=max(int(Release().max_step_seconds), days * DAY),
    )
