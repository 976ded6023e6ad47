"""The five fields of cron, as Kubernetes reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from itertools import pairwise

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 6, DAYS),  # Kubernetes knows no 7: Sunday is 0
)
"""What each field is called, its least and greatest number, and the names that stand for its numbers in their order."""
FIRST_DAY = date(2025, 1, 1)
PART = re.compile(r"(?:[*?]|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\w+))?", re.ASCII)


def fault(schedule: str) -> str | None:
    """What is wrong with a schedule, in words that follow its name; None if nothing is.

    >>> fault("61 * * * *")
    'minute 61 must be between 0 and 59'
    >>> fault("*/15 6-18/2 1,15 * MON-FRI")
    """
    given = schedule.split()
    if len(given) != len(FIELDS):
        return 'must be the five fields of cron, such as "0 * * * *"'
    for text, (name, least, most, names) in zip(given, FIELDS, strict=True):
        for part in text.split(","):
            found = _fault(part, name, least, most, names)
            if found is not None:
                return found
    return None


@cache
def times_in_30_days(schedule: str) -> int:
    """How often a valid schedule fires in 30 days, over a year's average, rounded up; at least once.

    As cron has it, a day is one on which either the day of the month or that of the week fits, if both are given.

    >>> [times_in_30_days(each) for each in ("0 * * * *", "30 6 * * MON-FRI", "0 0 1 * *", "0 0 29 2 *")]
    [720, 22, 1, 1]
    """
    times, fires = _calendar(schedule)
    year = [FIRST_DAY + timedelta(days=day) for day in range(365)]
    return max(1, math.ceil(len(times) * 30 * sum(map(fires, year)) / len(year)))


@cache
def max_pause(schedule: str) -> float | None:
    """Seconds between the two checks that are farthest apart, of a valid schedule; None if it never fires.

    >>> max_pause("0 * * * *"), max_pause("30 8-17 * * MON-FRI"), max_pause("0 0 31 2 *")
    (3600.0, 226800.0, None)
    """
    times, fires = _calendar(schedule)
    days = [day for day in range(8 * 366) if fires(date(2024, 1, 1) + timedelta(days=day))]  # two leap years
    if not days:
        return None
    within = [later - earlier for earlier, later in pairwise(times)]
    between = [(later - earlier) * 1440 - times[-1] + times[0] for earlier, later in pairwise(days)]
    return 60.0 * max(within + between)


def _calendar(schedule: str) -> tuple[list[int], Callable[[date], bool]]:
    """The minutes of a day at which a valid schedule fires, ascending, and whether it fires on a day."""
    minutes, hours, days, months, weekdays = (
        {value for part in text.split(",") for value in _values(part, least, most, names)}
        for text, (_, least, most, names) in zip(schedule.split(), FIELDS, strict=True)
    )
    of_month, of_week = (schedule.split()[place][0] not in "*?" for place in (2, 4))

    def fires(day: date) -> bool:
        fits = day.day in days, day.isoweekday() % 7 in weekdays
        return day.month in months and (any(fits) if of_month and of_week else all(fits))

    return sorted(60 * hour + minute for hour in hours for minute in minutes), fires


def _values(part: str, least: int, most: int, names: tuple[str, ...]) -> range:
    read = PART.fullmatch(part)
    assert read is not None
    first, last = (_number(text, least, names) if text else None for text in (read["first"], read["last"]))
    if first is None:
        first, last = least, most
    elif last is None:
        last = most if read["step"] else first
    return range(first, last + 1, int(read["step"] or 1))


def _number(text: str, least: int, names: tuple[str, ...]) -> int:
    return int(text) if text.isdecimal() else names.index(text.upper()) + least


def _fault(part: str, name: str, least: int, most: int, names: tuple[str, ...]) -> str | None:
    read = PART.fullmatch(part)
    if read is None:
        return (
            f"{name} {part!r} must be *, a number, a range such as 1-5, or a list of these, each with a step such as /2"
        )
    step = read["step"]
    if step is not None and not (step.isdecimal() and int(step) > 0):
        return f"{name} {part!r}: the step {step} must be a whole number above 0"
    ends = []
    for text in filter(None, (read["first"], read["last"])):
        number = _number(text, least, names) if text.isdecimal() or text.upper() in names else None
        if number is None or not least <= number <= most:
            known = f", or {names[0]} to {names[-1]}" if names else ""
            return f"{name} {text} must be between {least} and {most}{known}"
        ends.append(number)
    if ends and ends[0] > ends[-1]:
        return f"{name} {part!r} must run upwards"
    return None
