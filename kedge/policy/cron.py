"""The five fields of cron, as Kubernetes reads them."""

from __future__ import annotations

import re

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
        number = names.index(text.upper()) + least if text.upper() in names else None
        if text.isdecimal():
            number = int(text)
        if number is None or not least <= number <= most:
            known = f", or {names[0]} to {names[-1]}" if names else ""
            return f"{name} {text} must be between {least} and {most}{known}"
        ends.append(number)
    if ends and ends[0] > ends[-1]:
        return f"{name} {part!r} must run upwards"
    return None
