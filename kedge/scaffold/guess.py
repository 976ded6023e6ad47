"""From what columns hold to what they are for: each guess with its reason."""

from __future__ import annotations

import difflib
import json
import math
import re
import shlex
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from kedge.errors import UsageError, some
from kedge.policy.model import MAX_CHARACTERS, MAX_CLASSES, may_name
from kedge.scaffold.leak import telling, telling_of_classes
from kedge.scaffold.look import Column, Look, number_text, rows_a_day, sort_key
from kedge.tables.columns import MISSING_NUMBERS, Kind, convert

Task = Literal["binary", "multiclass", "regression"]

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
MIN_CLASS_ROWS = 8
"""Of so many drawn rows not one lies among the oldest 60 % once in 1,500 times."""
MAX_CATEGORIES = 500
MAX_FAULTS = 5
CLASSES = 20
"""A target with no more different whole numbers or texts may mean classes."""
LEAK = 0.99
"""A column that tells the outcome so well alone is suspected to be written after it."""
INDEX = re.compile(
    r"Unnamed: ?\d+|(row)?index|level_\d+|row_?(names?|numbers?|num|nr|no|id)|\.?rownames?", re.IGNORECASE
)
"""What libraries call the index of a table that they write as a column."""
OWN = "begins with _, as columns of tools do; name a feature and give it this `column` to use it all the same"
EXACT_BELOW = {"halffloat": 2**11, "float": 2**24, "double": 2**53}
"""Types of floats -> from where on they do not hold every whole number."""
NONE = "None"
"""A text that Python writes where there is no value, and a class of many tables."""
ROWS_AN_ID = 20
"""Ids with so many rows each are groups, as categories are."""
PERIODS = re.compile(r"year|month|quarter|week|day|date|season|epoch|(^|_)(yr|mon|qtr)(_|$)", re.IGNORECASE)
"""Columns of which the order is one of time."""
WAITING = (
    "pending",
    "unknown",
    "open",
    "tbd",
    "undetermined",
    "undecided",
    "not yet",
    "in progress",
    "waiting",
    "missing",
)
"""Texts that people write into an outcome that is not there yet."""


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
    telling: float | None = None
    """How well a feature alone tells the outcome, where that is suspect; see :func:`kedge.scaffold.leak.telling`."""


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """A whole first policy in guesses."""

    target: Guess
    task: Task
    positive: str | int | bool
    positive_why: str
    negative: str | None
    """The other text; None where the target is no text."""
    classes: tuple[str | int, ...] = ()
    """Of a target of several classes, in order."""
    time: Guess | None
    id: Guess | None
    features: Sequence[Guess]
    left_out: Sequence[Guess]
    grouped: str | None = None
    """The column whose values lie together, where no column holds times: the order of the rows is none of time."""
    rows_a_day: float | None = None
    """Of the time that the rows span; None: not known."""


class Undecided(UsageError):
    """A target that may be a quantity or classes; only who knows the table can say."""

    def __init__(self, column: Column, said: str) -> None:
        super().__init__(said)
        self.column = column


def guess(look: Look, target: str | None = None, *, task: Task | None = None, positive: str | None = None) -> Guesses:
    """What each column is for.

    Args:
        target: The column with the outcome, where the user said it.
        task: What is predicted, where the user said it.
        positive: The class of interest against all others, as the table spells it, where the user said it.

    Raises:
        Undecided: the target holds several classes, or a quantity of few values.
        UsageError: no column looks like a target, or the one named cannot be one; no column can be a feature.
    """
    outcome = _named_target(look, target) if target is not None else _target(look)
    outcome = replace(outcome, column=_labelled(outcome.column, positive))
    chosen = _task(look, outcome.column, task, positive)
    if chosen.task == "multiclass" and look.whole:
        outcome = _without_rare(outcome)
        chosen = replace(chosen, classes=_classes(outcome.column))
    rest = [column for column in look.columns if column.name != outcome.column.name]
    time = _time(rest)
    identity = _identity([column for column in rest if time is None or column is not time.column])
    taken = [found.column for found in (time, identity) if found is not None]
    others = [_feature(column) for column in rest if not any(column is other for other in taken)]
    features = [found for found in others if found.role == "feature"]
    if not features:
        raise UsageError(
            f"{look.source.location}: no column is left that could be a feature beside "
            + ", ".join(repr(name) for name in (outcome.column.name, *(column.name for column in taken)))
            + "".join(f"; {found.column.name}: {found.why}" for found in others[:MAX_FAULTS])
        )
    features = _suspected(look, outcome.column, chosen, features)
    outcome, *features = _called([outcome, *features])
    return Guesses(
        target=outcome,
        task=chosen.task,
        positive=chosen.positive,
        positive_why=chosen.why,
        negative=_negative(outcome.column, chosen.positive),
        classes=chosen.classes,
        time=time,
        id=identity,
        features=features,
        left_out=[found for found in others if found.role == "left out"],
        grouped=None if time is not None else _grouped(look, [outcome.column, *(found.column for found in features)]),
        rows_a_day=None if time is None else _rows_a_day(look, time.column),
    )


def _grouped(look: Look, columns: Sequence[Column]) -> str | None:
    """A column of values that lie together: one run of rows, or two, for each. Years that do so are no such thing."""
    for column in columns:
        few = column.distinct >= 2 and look.rows >= ROWS_AN_ID * column.distinct
        if not few or PERIODS.search(column.name):
            continue
        codes = convert(look.held[column.name], "category").values.dictionary_encode().indices.fill_null(-1).to_numpy()
        if (np.diff(codes) != 0).sum() < 2 * column.distinct:
            return column.name
    return None


def _rows_a_day(look: Look, time: Column) -> float | None:
    """Rows over the time they span; None where that is less than a day. Of rows not looked at the times are read."""
    if not look.whole:
        return rows_a_day(look.source, time.name, time.format or None)
    ends = pc.min_max(convert(look.held[time.name], "time").values).as_py()
    days = (ends["max"] - ends["min"]).total_seconds() / 86_400
    return look.rows / days if days >= 1 else None


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
    plain = re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", column)).strip("_")
    plain = plain[: MAX_CHARACTERS - 5].strip("_") or "column"
    numbers = count(2)
    name = plain
    while name in taken:
        name = f"{plain}_{next(numbers)}"
    return name


def _named_target(look: Look, name: str) -> Guess:
    column = look.column(name)
    if column is None:
        present = [column.name for column in look.columns]
        close = difflib.get_close_matches(name, present, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; it has {some(filter(None, present))}"
        raise UsageError(f"--target {name!r}: no such column in {look.source.location}{hint}")
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
    last = next((column for column in reversed(look.columns) if not column.name.startswith("_")), None)
    if last in two:
        return Guess(column=last, role="target", why="the last column, with two values")
    if len(two) == 1:
        return Guess(column=two[0], role="target", why="the only column with two values")
    raise UsageError(
        f"{look.source.location}: no column looks like the outcome to predict; name it: --target COLUMN, one of "
        f"{some(column.name for column in look.columns if column.name)}"
    )


def _unfit(column: Column) -> str:
    """Why a column cannot be a target; empty if it can."""
    if column.lacking:
        return f"{column.lacking} has no such column"
    if column.kind in ("nothing", "other", "time"):
        held = {"nothing": "no value", "time": f"times, as {column.stored_as}"}.get(column.kind, column.stored_as)
        return f"it holds {written(column)}{held}"
    if column.distinct == 1:
        absent = f"; {column.missing:,} rows have none: write the other value there" if column.missing else ""
        return f"it holds one value only, {next(iter(column.values))!r}: nothing to learn{absent}"
    if column.resembles:
        return f"it {ambiguous(column)}"
    if column.kind == "text" and column.distinct > MAX_CLASSES:
        return (
            f"it holds {column.distinct:,} different texts; kedge predicts one of at most {MAX_CLASSES} classes: keep "
            "the frequent ones and put the rest into one, or make a column that says the one class of interest"
        )
    return ""


def ambiguous(column: Column) -> str:
    """What text looks like that several formats read, each otherwise, and how to say which."""
    what = "dates" if "%" in column.resembles[0] else "numbers"
    options = ", or ".join(shlex.join(["--format", f"{column.name}={each}"]) for each in column.resembles)
    return f"looks like {what} such as {column.example}, in several formats: say which by {options}"


def written(column: Column) -> str:
    """How a source writes a column that needs a format to be read; empty: as any program does."""
    what = "numbers" if column.kind in ("number", "integer") else "times"
    return f"{what} such as {column.example}, read by {json.dumps(column.format)}; " if column.format else ""


@dataclass(frozen=True)
class _Chosen:
    task: Task
    positive: str | int | bool = 1
    why: str = ""
    classes: tuple[str | int, ...] = ()


def _task(look: Look, column: Column, task: Task | None, positive: str | None) -> _Chosen:
    """What is predicted: as the user said, as two values say, or as numbers that are many say."""
    if task == "regression":
        if column.kind not in ("number", "integer"):
            raise UsageError(f"--task regression: {column.name!r} holds {column.kind}, which is no number")
        return _Chosen("regression")
    values = list(column.values)
    if column.format and (positive is not None or column.distinct == 2):
        raise UsageError(
            f"target {column.name!r} holds {written(column)}and a class is text as it is: make a column of 0 and 1"
        )
    if column.format:
        return _Chosen("regression")
    if task == "multiclass":
        if not 3 <= column.distinct <= MAX_CLASSES or column.kind not in ("text", "integer"):
            raise UsageError(
                f"--task multiclass: {column.name!r} holds {column.distinct:,} different values ({column.kind}); "
                f"classes are 3 to {MAX_CLASSES} texts or whole numbers"
            )
        return _Chosen("multiclass", classes=_classes(column))
    if positive is not None:
        positive = number_text(positive) if column.kind in ("number", "integer") else positive
        if positive not in values:
            raise UsageError(f"--positive {positive!r}: {column.name!r} holds {some(values)}")
        return _Chosen("binary", _label(column, positive), "as told")
    if column.distinct == 2:
        known = [value for value in values if value.lower() in POSITIVE]
        chosen = known[0] if len(known) == 1 else values[-1]
        return _Chosen("binary", _label(column, chosen), "by its name" if len(known) == 1 else "the rarer one")
    if (
        column.kind in ("number", "integer")
        and task is None
        and not (column.kind == "integer" and column.distinct <= CLASSES)
    ):
        return _Chosen("regression")
    told_apart = len(_alike(values)) == len(values) and not _waiting(column) and NONE not in values
    if column.kind == "text" and task is None and told_apart:
        return _Chosen("multiclass", classes=_classes(column))
    raise Undecided(column, _undecided(look, column))


def _labelled(column: Column, positive: str | None) -> Column:
    """A target of texts less those that mean "no outcome", which a run reads so where the policy names the classes."""
    absent = {
        text: rows for text, rows in column.values.items() if text in MISSING_NUMBERS and text not in (NONE, positive)
    }
    classes = {text: rows for text, rows in column.values.items() if text not in absent}
    if column.kind != "text" or len(classes) < 2 or (positive is not None and len(classes) > 2):
        return column
    return replace(column, values=classes, distinct=len(classes), missing=column.missing + sum(absent.values()))


def _without_rare(outcome: Guess) -> Guess:
    """A target of classes less those that have no row among the oldest ones by chance; three stay in any case.

    Their rows are invalid to a run, as those of a class that comes later.
    """
    column = outcome.column
    counts = sorted(column.values.items(), key=lambda each: -each[1])
    rare = dict(each for each in counts[3:] if each[1] < MIN_CLASS_ROWS)
    if not rare:
        return outcome
    rows = sum(rare.values())
    kept = {value: count for value, count in column.values.items() if value not in rare}
    named = some(f"{value} ({count})" for value, count in rare.items())
    fewer = replace(
        column, values=kept, distinct=len(kept), missing=column.missing + rows, invalid=column.invalid + rows
    )
    why = f"{outcome.why}; classes of fewer than {MIN_CLASS_ROWS} rows are left out: {named}"
    return replace(outcome, column=fewer, why=why)


def _waiting(column: Column) -> str:
    """Which of three texts says that there is no outcome yet; empty: none does."""
    waiting = [value for value in column.values if value.strip().casefold() in WAITING]
    return waiting[0] if column.distinct == 3 and len(waiting) == 1 else ""


def _alike(values: Sequence[str]) -> set[str]:
    """The values without what typing errors add."""
    return {text.strip().casefold() for text in values}


def _classes(column: Column) -> tuple[str | int, ...]:
    """The values as labels, in the order of their numbers or of the alphabet."""
    ordered = sorted(column.values, key=sort_key)
    return tuple(int(float(each)) if column.kind == "integer" else each for each in ordered)


def _undecided(look: Look, column: Column) -> str:
    """What a target may mean, with the line that says each."""
    values = sorted(column.values, key=sort_key)
    what = "whole numbers" if column.kind == "integer" else "texts" if column.kind == "text" else "values"
    line = f"kedge init {look.source.location} --target {json.dumps(column.name)}"
    lines = []
    if 3 <= column.distinct <= MAX_CLASSES and column.kind in ("integer", "text"):
        lines.append(f"  {line} --task multiclass   # one of these classes")
    lines += [f"  {line} --positive {json.dumps(values[-1]) if values else 'VALUE'}   # that class against all others"]
    if column.kind in ("number", "integer"):
        lines.append(f"  {line} --task regression   # a quantity")
    again = "; some differ by spaces or capitals only: make them one first" if len(_alike(values)) < len(values) else ""
    again += (
        f"; {NONE} is one of them: leave it out of model.classes where it means no outcome" if NONE in values else ""
    )
    again += f"; {_waiting(column)!r} reads like no outcome yet: leave those empty" if _waiting(column) else ""
    return (
        f"target {column.name!r} holds {column.distinct:,} different {what} ({some(values)}){again}: kedge predicts "
        "classes, one class against all others, or a number; say which:\n" + "\n".join(lines)
    )


def _label(column: Column, value: str) -> str | int | bool:
    if column.kind == "boolean":
        return value.lower() in ("true", "1", "1.0")
    return int(float(value)) if column.kind == "integer" else value


def _suspected(look: Look, target: Column, chosen: _Chosen, features: Sequence[Guess]) -> list[Guess]:
    """The features, with how well each alone tells the outcome where that is suspect."""
    kinds: dict[Task, Kind] = {"binary": "positive", "multiclass": "class", "regression": "number"}
    kind = kinds[chosen.task]
    negative = _negative(target, chosen.positive)
    read = convert(look.held[target.name], kind, chosen.positive, negative, classes=chosen.classes)
    outcome = read.values.to_numpy(zero_copy_only=False)
    judged = []
    for found in features:
        numeric = found.type in ("number", "integer")
        held = look.held[found.column.name]
        if kind == "class":
            told = telling_of_classes(held, outcome, len(chosen.classes), numeric=numeric)
        else:
            told = telling(held, outcome, numeric=numeric, classes=kind == "positive")
        judged.append(replace(found, telling=told if told is not None and told >= LEAK else None))
    return judged


def _negative(column: Column, positive: str | int | bool) -> str | None:
    """A number or a boolean has few other spellings; a text has as many as there are typing errors."""
    if column.kind != "text" or column.distinct != 2:
        return None
    return next(value for value in column.values if value != positive)


def _time(columns: Sequence[Column]) -> Guess | None:
    times = [column for column in columns if column.kind == "time" and not column.name.startswith("_")]
    if not times:
        return None
    named = [column for name in TIMES for column in times if column.name.lower() == name]
    full = [column for column in times if not column.missing]
    best = (named or sorted(full or times, key=lambda column: column.daily))[0]
    others = [column.name for column in times if column is not best]
    stored = "text" if "string" in best.stored_as else best.stored_as
    why = written(best) + f"holds times, as {stored}" + (f"; others: {', '.join(others)}" if others else "")
    return Guess(column=best, role="time", why=why)


def _identity(columns: Sequence[Column]) -> Guess | None:
    def unique(column: Column) -> bool:
        return (
            column.distinct == column.rows
            and column.kind in ("text", "integer")
            and not column.resembles
            and not column.timely
            and not column.name.startswith("_")
            and not column.most >= EXACT_BELOW.get(column.stored_as, math.inf)
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
    if column.kind == "integer" and _sounds_like_id(column.name) and column.most > 1:
        return Guess(column=column, role="feature", type="category", why=f"{column.distinct:,} different ids")
    if column.kind == "boolean" or (
        column.kind == "integer" and column.least >= 0 and column.most <= 1 and not column.format
    ):
        return Guess(column=column, role="feature", type="boolean", why="true or false")
    if column.kind in ("number", "integer"):
        why = f"{written(column)}{column.least:g} to {column.most:g}"
        return Guess(column=column, role="feature", type="number" if column.fractional else column.kind, why=why)
    return Guess(column=column, role="feature", type="category", why=f"{column.distinct:,} different texts")


def _not_plain(stored_as: str) -> str:
    """What a column of a type that no feature has holds, and the way from there."""
    if stored_as.startswith("time"):
        return "times of day: write date and time into one column, or make a number of it, such as the hour, to use it"
    return f"holds {stored_as}: make columns of numbers or texts of it to use it"


def _no_feature(column: Column) -> str:
    """Why a column cannot be a feature; empty if it can."""
    if column.name.startswith("_") or not column.name:
        return OWN if column.name else "has no name"
    if column.lacking:
        return f"{column.lacking} has no such column"
    match column.kind:
        case "nothing":
            return "not one value"
        case "other":
            return _not_plain(column.stored_as)
        case "time":
            return "a time; make a number of it, such as hours since, to use it"
    limit = EXACT_BELOW.get(column.stored_as, math.inf)
    if _sounds_like_id(column.name) and column.most >= limit:
        return (
            f"stored as {column.stored_as}, which holds whole numbers exactly below {limit:,} only: different ids have "
            "become one; store ids as integers or text"
        )
    if column.distinct == 1:
        return f"one value only, {next(iter(column.values))!r}"
    if INDEX.fullmatch(column.name) and (column.running or column.name.startswith("Unnamed")):
        return "the number of the row, as libraries write the index of a table"
    if column.running:
        return "numbers the rows: it goes on next month and says nothing of them"
    if column.kind == "integer" and _sounds_like_id(column.name):
        if column.distinct == column.rows:
            return "a number that only names the row"
        if column.distinct > MAX_CATEGORIES or column.distinct * ROWS_AN_ID > column.rows:
            return f"{column.distinct:,} different ids: the size of an id says nothing"
    if column.ascending and _sounds_like_id(column.name):
        return "a number that only names the row"
    if column.resembles:
        return ambiguous(column)
    if column.timely == "dates":
        return (
            f"looks like dates such as {column.example}, which no one format reads: write them as 2026-03-02T08:00:00Z "
            f"does, or say theirs by {shlex.join(['--format', f'{column.name}=FORMAT'])}"
        )
    if column.kind == "text" and _sounds_like_id(column.name) and column.distinct * ROWS_AN_ID > column.rows:
        return f"{column.distinct:,} different ids in {column.rows:,} rows: too many for a category, and none of a row"
    if column.kind == "text" and (column.distinct > MAX_CATEGORIES or column.distinct > column.rows / 2):
        if column.timely:
            return f"times of day such as {column.example}: write date and time into one column, 2026-03-02T08:00:00Z"
        return f"{column.distinct:,} different texts in {column.rows:,} rows: too many for a category"
    return ""
