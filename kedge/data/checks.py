"""Every row against the policy, all failures at once. Pure: a table in, findings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pandera.pandas as pa_check
import pyarrow as pa
from numpy.typing import NDArray
from pandera.errors import SchemaErrors

from kedge.policy import Feature, Model
from kedge.tables.columns import FAULT, FILE, ID, ROW, TIME, negatives

MAX_VALUES = 10
"""Values of the target named in a message."""
MAX_NAMED = 20
"""Allowed categories named in a message."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One rule that some rows break."""

    column: str
    rule: str
    """What is allowed, to be read after "must be"."""
    rows: NDArray[np.int64]
    """Positions of the invalid rows, ascending."""
    seen: Sequence[str]
    """The first invalid values, as shown to people, at most five different ones."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is wrong with a table."""

    rows: int
    failures: Sequence[Failure]
    """Largest first."""
    unlabelled: NDArray[np.int64]
    """Positions of rows without an outcome, ascending: not invalid, but nothing is learned from them."""
    faults: Sequence[str]
    """Faults no leaving out of rows can mend: a column without any value, one class only."""
    notes: Sequence[str] = ()
    """What is no fault and may be a mistake: several labels that count as negative."""

    @property
    def invalid(self) -> NDArray[np.int64]:
        """Positions of rows that break any rule, ascending."""
        found = [failure.rows for failure in self.failures]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    @property
    def labelled(self) -> int:
        """Rows with an outcome."""
        return self.rows - len(self.unlabelled)

    @property
    def share(self) -> float:
        """Invalid rows as a share of those with an outcome."""
        return len(self.invalid) / self.labelled if self.labelled else 0.0


def check(rows: pa.Table, model: Model, target_values: Mapping[str, int] | None = None) -> Findings:
    """Hold every row against the policy: type, range, categories, presence, unique ids; then the columns as a whole.

    Rows without an outcome are not labelled yet; nothing else is asked of them.

    Args:
        rows: A snapshot with provenance.
        model: The policy's part about columns.
        target_values: Values of a binary target as the source spells them, for what is said about its classes.
    """
    spelled = target_values or {}
    frame = rows.drop_columns([name for name in (FILE, ROW) if name in rows.column_names]).to_pandas()
    unlabelled = np.flatnonzero(frame[model.target].isna().to_numpy())
    unlabelled = unlabelled[~_unreadable(frame, model, model.target, unlabelled)]
    good = np.ones(len(frame), bool)
    good[unlabelled] = False
    failures = _row_failures(frame, good, model)
    for failure in failures:
        good[failure.rows] = False
    faults = _column_faults(rows, model) or _class_faults(frame[model.target].to_numpy()[good], model, spelled)
    notes = [*_label_notes(len(unlabelled), len(frame)), *_class_notes(model, spelled)]
    return Findings(rows=len(frame), failures=failures, unlabelled=unlabelled, faults=faults, notes=notes)


def schema(model: Model, columns: Sequence[str]) -> pa_check.DataFrameSchema:
    """The policy as a pandera schema over a snapshot's columns."""
    fields = {name: _feature(feature) for name, feature in model.features.items()}
    if model.task == "binary":
        fields[model.target] = pa_check.Column(float, nullable=False)
    else:
        fields[model.target] = pa_check.Column(float, _finite(), nullable=False)
    if ID in columns:
        fields[ID] = pa_check.Column(object, unique=True, nullable=False, report_duplicates="exclude_first")
    if FAULT in columns:
        fields[FAULT] = pa_check.Column(object, pa_check.Check(_no_rows, error="readable"), nullable=True)
    return pa_check.DataFrameSchema(fields)


def _feature(feature: Feature) -> pa_check.Column:
    if feature.type == "category":
        checks = []
        if feature.values is not None:
            checks.append(pa_check.Check.isin(feature.values, error=f"one of {_some(feature.values)}"))
        return pa_check.Column(object, checks, nullable=feature.nullable)
    checks = [_finite()]
    if feature.min is not None:
        checks.append(pa_check.Check.ge(feature.min, error=f"at least {feature.min:g}"))
    if feature.max is not None:
        checks.append(pa_check.Check.le(feature.max, error=f"at most {feature.max:g}"))
    return pa_check.Column(float, checks, nullable=feature.nullable)


def _some(values: Sequence[str]) -> str:
    more = len(values) - MAX_NAMED
    return ", ".join(values[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _finite() -> pa_check.Check:
    return pa_check.Check(np.isfinite, error="finite")


def _no_rows(values: pd.Series[str]) -> pd.Series[bool]:
    """No value passes: the column holds only what is wrong with a row."""
    return values.isna()


def _row_failures(frame: pd.DataFrame, asked: NDArray[np.bool_], model: Model) -> list[Failure]:
    try:
        schema(model, list(frame.columns)).validate(frame[asked], lazy=True)
    except SchemaErrors as exc:
        cases = exc.failure_cases
    else:
        return []
    found = []
    for (column, rule), group in cases.groupby(["column", "check"], sort=False):
        rows = np.unique(group["index"].to_numpy(np.int64))
        if rule == "not_nullable":
            rows = rows[~_unreadable(frame, model, str(column), rows)]
        if len(rows):
            found.append(_failure(frame, model, str(column), str(rule), rows))
    return sorted(found, key=lambda failure: (-len(failure.rows), failure.column, failure.rule))


def _unreadable(frame: pd.DataFrame, model: Model, column: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows whose value in this column is there and could not be read: their fault says so, and they lack nothing."""
    if FAULT not in frame.columns:
        return np.zeros(len(rows), bool)
    faults = frame[FAULT].iloc[rows].fillna("")
    return faults.str.contains(f"column {model.columns.get(column, column)!r}: ", regex=False).to_numpy(bool)


def _failure(frame: pd.DataFrame, model: Model, column: str, rule: str, rows: NDArray[np.int64]) -> Failure:
    rule = {"not_nullable": "present", "field_uniqueness": "unique"}.get(rule, rule)
    shown = dict.fromkeys(shown_value(model, column, value) for value in frame[column].iloc[rows[:1000]])
    return Failure(column="" if column == FAULT else column, rule=rule, rows=rows, seen=list(shown)[:5])


def shown_value(model: Model, column: str, value: object) -> str:
    """A value as people may see it: of private features only that it is there."""
    if pd.isna(value):  # type: ignore[call-overload]
        return "missing"
    feature = model.features.get(column)
    return str(value) if feature is None or feature.privacy == "keep" else f"a value (privacy: {feature.privacy})"


def _column_faults(rows: pa.Table, model: Model) -> list[str]:
    empty = [name for name in (*model.features, model.target) if rows[name].null_count == rows.num_rows]
    return [f"column {name!r}: not one of {rows.num_rows:,} rows has a value" for name in empty]


def _class_faults(target: NDArray[np.float64], model: Model, spelled: Mapping[str, int]) -> list[str]:
    if model.task != "binary" or not len(target):
        return []
    positive, negative = int((target == 1).sum()), int((target == 0).sum())
    if positive and negative:
        return []
    which = "negative" if negative else "positive"
    seen = _seen(spelled)
    return [
        f"column {model.target!r}: one class only: all {positive + negative:,} good rows are {which}; "
        f"model.positive_label is {model.positive_label!r}, the source holds {seen or 'no other value'}"
    ]


def _label_notes(unlabelled: int, rows: int) -> list[str]:
    said = (
        f"{unlabelled:,} of {rows:,} rows ({unlabelled / max(rows, 1):.2%}) have no outcome yet: not labelled, left out"
    )
    return [said] if unlabelled else []


def _class_notes(model: Model, spelled: Mapping[str, int]) -> list[str]:
    """That more than one label counts as negative, where the policy does not say which one should."""
    if model.task != "binary" or model.negative_label is not None:
        return []
    negative = sorted(negatives(spelled, model.positive_label), key=lambda value: -spelled[value])
    if len(negative) < 2:
        return []
    return [
        f"column {model.target!r}: {len(negative)} different labels count as negative: "
        f"{_seen({value: spelled[value] for value in negative})}; model.positive_label is {model.positive_label!r}: if "
        "only one of them is the other class, name it as model.negative_label, and rows with any other are invalid"
    ]


def _seen(spelled: Mapping[str, int]) -> str:
    more = ", ..." if len(spelled) > MAX_VALUES else ""
    return ", ".join(f"{value!r} ({count:,})" for value, count in list(spelled.items())[:MAX_VALUES]) + more


def place(rows: pa.Table, index: int) -> str:
    """Where a row stood: file and row number, its time, its id."""
    row = rows.slice(index, 1).to_pylist()[0]
    identity = f", id {row[ID]}" if row.get(ID) is not None else ""
    time = f", {row[TIME]:%Y-%m-%d %H:%M:%S}" if row.get(TIME) is not None else ""
    return f"{row[FILE]}, row {row[ROW]}{time}{identity}"
