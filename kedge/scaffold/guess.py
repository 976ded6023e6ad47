"""From what columns hold to what they are for: each guess with its reason. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

from kedge.errors import UsageError
from kedge.policy.model import MAX_CHARACTERS, may_name
from kedge.scaffold.look import Column, Look

# fmt: off
TARGETS = (
    "target", "label", "class", "y", "outcome", "fraud", "is_fraud", "fraudulent", "churn", "churned", "default",
    "defaulted", "returned", "converted", "clicked", "cancelled", "survived", "success", "failed", "response",
)
TIMES = (
    "event_time", "timestamp", "time", "datetime", "date", "ts", "created_at", "occurred_at", "requested_at",
    "event_timestamp",
)
POSITIVE = (
    "1", "1.0", "true", "yes", "y", "t", "positive", "pos", "up", "fraud", "churn", "default", "bad", "returned",
)
# fmt: on
MAX_CATEGORIES = 500
MAX_NAMED = 5
REWRITTEN = {
    "a date": "a date; write it as 2026-05-01",
    "a number with a decimal comma": "a number; write 0,25 as 0.25",
}
OWN = "begins with _, as columns of tools do; name a feature and give it this `column` to use it all the same"
LISTED_CATEGORIES = 30
ROWS_A_CATEGORY = 20
"""Categories are listed as the only ones allowed if rows are so many times as frequent as different values."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What a column is for, and why."""

    column: Column
    role: Literal["target", "time", "id", "feature", "left out"]
    type: Literal["number", "integer", "boolean", "category"] | None = None
    """Of a feature."""
    why: str
    name: str = ""
    """What the policy calls a target or a feature: as the table does, where that may be a name."""


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """A whole first policy in guesses."""

    target: Guess
    task: Literal["binary", "regression"]
    positive: str | int | bool
    positive_why: str
    negative: str | None
    """The other text; None where the target is no text."""
    time: Guess | None
    id: Guess | None
    features: Sequence[Guess]
    left_out: Sequence[Guess]


def guess(look: Look, target: str | None = None) -> Guesses:
    """What each column is for.

    Args:
        target: The column with the outcome, where the user said it.

    Raises:
        UsageError: no column looks like a target, or the one named cannot be one; no column can be a feature.
    """
    outcome = _named_target(look, target) if target is not None else _target(look)
    rest = [column for column in look.columns if column is not outcome.column]
    time = _time(rest)
    identity = _identity([column for column in rest if time is None or column is not time.column])
    taken = [found.column for found in (time, identity) if found is not None]
    others = [_feature(column) for column in rest if not any(column is other for other in taken)]
    features = [found for found in others if found.role == "feature"]
    if not features:
        raise UsageError(
            f"{look.source.location}: no column is left that could be a feature beside {outcome.column.name!r}"
            + "".join(f"; {found.column.name}: {found.why}" for found in others[:MAX_NAMED])
        )
    task, positive, why = _task(outcome.column)
    outcome, *features = _called([outcome, *features])
    return Guesses(
        target=outcome,
        task=task,
        positive=positive,
        positive_why=why,
        negative=_negative(outcome.column, positive),
        time=time,
        id=identity,
        features=features,
        left_out=[found for found in others if found.role == "left out"],
    )


def _called(guesses: Sequence[Guess]) -> list[Guess]:
    """The guesses with a name each: the column's own, or a plain one made of it that no other has."""
    taken = {found.column.name for found in guesses if may_name(found.column.name)}
    named = []
    for found in guesses:
        name = found.column.name
        if not may_name(name):
            name = plain_name(name, taken)
            taken.add(name)
        named.append(replace(found, name=name))
    return named


def plain_name(column: str, taken: Collection[str] = ()) -> str:
    """A name for what a table calls otherwise.

    >>> plain_name("Umsatz.netto"), plain_name("order total (EUR)"), plain_name("%"), plain_name("a/b", ["a_b"])
    ('Umsatz_netto', 'order_total_EUR', 'column', 'a_b_2')
    """
    plain = re.sub(r"[\W_]+", "_", column).strip("_")[: MAX_CHARACTERS - 5].strip("_") or "column"
    numbers = count(2)
    name = plain
    while name in taken:
        name = f"{plain}_{next(numbers)}"
    return name


def _named_target(look: Look, name: str) -> Guess:
    column = look.column(name)
    names = ", ".join(column.name for column in look.columns)
    if column is None:
        raise UsageError(f"--target {name!r}: no such column in {look.source.location}; it has {names}")
    fault = _unfit(column)
    if fault:
        raise UsageError(f"--target {name!r}: {fault}")
    return Guess(column=column, role="target", why="as told")


def _target(look: Look) -> Guess:
    fit = {column.name.lower(): column for column in look.columns if not _unfit(column)}
    for name in TARGETS:
        if name in fit:
            return Guess(column=fit[name], role="target", why="by its name")
    two = [column for column in fit.values() if column.distinct == 2]
    last = look.columns[-1]
    if last in two:
        return Guess(column=last, role="target", why="the last column, with two values")
    if len(two) == 1:
        return Guess(column=two[0], role="target", why="the only column with two values")
    names = ", ".join(column.name for column in look.columns)
    raise UsageError(
        f"{look.source.location}: no column looks like the outcome to predict; name it: --target COLUMN, one of {names}"
    )


def _unfit(column: Column) -> str:
    """Why a column cannot be a target; empty if it can."""
    if column.kind in ("nothing", "other", "time"):
        return f"it holds {'no value' if column.kind == 'nothing' else column.stored_as}"
    if column.distinct == 1:
        return f"it holds one value only, {next(iter(column.values))!r}: nothing to learn"
    if column.resembles:
        return f"it looks like {REWRITTEN[column.resembles]}"
    if column.kind == "text" and column.distinct != 2:
        return (
            f"it holds {column.distinct:,} different texts; kedge predicts one of two classes or a number: "
            "make a column that says the one class of interest"
        )
    return ""


def _task(column: Column) -> tuple[Literal["binary", "regression"], str | int | bool, str]:
    if column.distinct != 2:
        return "regression", 1, ""
    values = list(column.values)
    known = [value for value in values if value.lower() in POSITIVE]
    positive = known[0] if len(known) == 1 else values[-1]
    why = "by its name" if len(known) == 1 else "the rarer one"
    if column.kind == "boolean":
        return "binary", positive.lower() == "true", why
    if column.kind == "integer":
        return "binary", int(float(positive)), why
    return "binary", positive, why


def _negative(column: Column, positive: str | int | bool) -> str | None:
    """A number or a boolean has few other spellings; a text has as many as there are typing errors."""
    if column.kind != "text":
        return None
    return next(value for value in column.values if value != positive)


def _time(columns: Sequence[Column]) -> Guess | None:
    times = [column for column in columns if column.kind == "time" and not column.name.startswith("_")]
    if not times:
        return None
    named = [column for name in TIMES for column in times if column.name.lower() == name]
    full = [column for column in times if not column.missing]
    best = (named or full or times)[0]
    others = [column.name for column in times if column is not best]
    stored = "text" if "string" in best.stored_as else best.stored_as
    why = f"holds times, as {stored}" + (f"; others: {', '.join(others)}" if others else "")
    return Guess(column=best, role="time", why=why)


def _identity(columns: Sequence[Column]) -> Guess | None:
    def unique(column: Column) -> bool:
        return (
            column.distinct == column.rows
            and column.kind in ("text", "integer")
            and not column.resembles
            and not column.name.startswith("_")
        )

    named = [column for column in columns if _sounds_like_id(column.name) and unique(column)]
    if named:
        return Guess(column=named[0], role="id", why="by its name, and each value is there once")
    texts = [column for column in columns if column.kind == "text" and column.rows >= 100 and unique(column)]
    return Guess(column=texts[0], role="id", why="text, and each value is there once") if texts else None


def _sounds_like_id(name: str) -> bool:
    return bool(re.search(r"(^|_)(id|uuid|guid|key|nr|no)$|Id$|ID$", name))


def _feature(column: Column) -> Guess:
    out = _no_feature(column)
    if out:
        return Guess(column=column, role="left out", why=out)
    if column.kind == "boolean" or (column.kind == "integer" and column.least >= 0 and column.most <= 1):
        return Guess(column=column, role="feature", type="boolean", why="true or false")
    if column.kind in ("number", "integer"):
        return Guess(column=column, role="feature", type=column.kind, why=f"{column.least:g} to {column.most:g}")
    return Guess(column=column, role="feature", type="category", why=f"{column.distinct:,} different texts")


def _no_feature(column: Column) -> str:
    """Why a column cannot be a feature; empty if it can."""
    if column.name.startswith("_") or not column.name:
        return OWN if column.name else "has no name"
    match column.kind:
        case "nothing":
            return "not one value"
        case "other":
            return f"holds {column.stored_as}"
        case "time":
            return "a time; make a number of it, such as hours since, to use it"
    if column.distinct == 1:
        return f"one value only, {next(iter(column.values))!r}"
    if column.kind == "integer" and column.distinct == column.rows and _sounds_like_id(column.name):
        return "a number that only names the row"
    if column.resembles:
        return f"looks like {REWRITTEN[column.resembles]}"
    if column.kind == "text" and (column.distinct > MAX_CATEGORIES or column.distinct > column.rows / 2):
        return f"{column.distinct:,} different texts in {column.rows:,} rows: too many for a category"
    return ""
