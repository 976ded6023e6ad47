"""Every row against the policy, all failures at once. Pure: tables in, findings out."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa_check
import pyarrow as pa
from numpy.typing import NDArray
from pandera.errors import SchemaErrors

from kedge.errors import some
from kedge.policy import Feature, Model
from kedge.tables.columns import FAULT, FILE, ID, ROW, TIME, negatives
from kedge.tables.ids import hashes_of, match

MAX_VALUES = 10
"""Values of the target named in a message."""
MAX_LENGTH = 60
"""Characters shown of such a value."""
MAX_SHOWN = 200
"""Invalid rows shown one by one."""
MAX_SEEN = 5
"""Different invalid values shown of a rule."""


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
    shown: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """The first invalid rows, and the first that breaks each rule, by position."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Rows without a value in each column."""

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
    """:class:`Checker` over one table."""
    repeats = repeated_ids(lambda: [rows], model) if ID in rows.column_names else np.empty(0, np.int64)
    checker = Checker(model, repeats)
    checker.add(rows)
    return checker.findings(target_values or {})


class Checker:
    """Holds every row against the policy: type, range, categories, presence, unique ids; then the columns as a whole.

    Rows without an outcome are not labelled yet; nothing else is asked of them.

    Args:
        model: The policy's part about columns.
        repeats: Positions of rows whose id an earlier row has; see :func:`repeated_ids`.
    """

    def __init__(self, model: Model, repeats: NDArray[np.int64]) -> None:
        self._model, self._repeats = model, repeats
        self._rows = 0
        self._unlabelled: list[NDArray[np.int64]] = []
        self._failed: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
        self._seen: dict[tuple[str, str], dict[str, None]] = {}
        self._shown: dict[int, dict[str, Any]] = {}
        self._invalid_shown = 0
        self._missing: Counter[str] = Counter()
        self._classes: Counter[float] = Counter()
        gc.freeze()  # what a collection need not look at

    def add(self, rows: pa.Table) -> None:
        """Take the next rows of a snapshot with provenance."""
        model, start = self._model, self._rows
        frame = rows.drop_columns([name for name in (FILE, ROW) if name in rows.column_names]).to_pandas()
        unlabelled = _without_outcome(frame, model)
        good = np.ones(len(frame), bool)
        good[unlabelled] = False
        repeats = self._repeats[(self._repeats >= start) & (self._repeats < start + len(frame))] - start
        for failure in _row_failures(frame, good, model, repeats[good[repeats]]):
            good[failure.rows] = False
            self._take(failure, start, rows)
        self._show_first(rows, np.setdiff1d(np.flatnonzero(~good), unlabelled))
        self._unlabelled.append(unlabelled + start)
        self._missing.update({name: rows[name].null_count for name in (*model.features, model.target)})
        if model.class_names:
            self._classes.update(frame[model.target].to_numpy()[good].tolist())
        self._rows += len(frame)
        del frame
        gc.collect()  # pandera's frames refer to each other: more memory than all else would wait to be freed

    def findings(self, spelled: Mapping[str, int]) -> Findings:
        """What is wrong with all rows; ``spelled`` counts the values of a binary target as the source spells them."""
        failures = [
            Failure(column=column, rule=rule, rows=np.concatenate(parts), seen=list(self._seen[column, rule]))
            for (column, rule), parts in self._failed.items()
        ]
        unlabelled = np.concatenate([np.empty(0, np.int64), *self._unlabelled])
        return Findings(
            rows=self._rows,
            failures=sorted(failures, key=lambda failure: (-len(failure.rows), failure.column, failure.rule)),
            unlabelled=unlabelled,
            faults=self._column_faults() or _class_faults(self._classes, self._model, spelled),
            notes=[*_label_notes(len(unlabelled), self._rows), *_class_notes(self._model, spelled)],
            shown=self._shown,
            missing=self._missing,
        )

    def _take(self, failure: Failure, start: int, rows: pa.Table) -> None:
        key = failure.column, failure.rule
        if key not in self._failed:
            self._show(rows, int(failure.rows[0]))
        self._failed.setdefault(key, []).append(failure.rows + start)
        seen = self._seen.setdefault(key, {})
        for value in failure.seen:
            if len(seen) < MAX_SEEN:
                seen[value] = None

    def _show_first(self, rows: pa.Table, invalid: NDArray[np.int64]) -> None:
        for index in invalid[: MAX_SHOWN - self._invalid_shown]:
            self._show(rows, int(index))
            self._invalid_shown += 1

    def _show(self, rows: pa.Table, index: int) -> None:
        self._shown[self._rows + index] = rows.slice(index, 1).to_pylist()[0]

    def _column_faults(self) -> list[str]:
        empty = [name for name, missing in self._missing.items() if missing == self._rows]
        return [f"column {name!r}: not one of {self._rows:,} rows has a value" for name in empty]


def repeated_ids(blocks: Callable[[], Iterable[pa.Table]], model: Model) -> NDArray[np.int64]:
    """Positions of the labelled rows whose id a labelled row before them has, ascending.

    Ids are told apart by hashes of 64 bits; those whose hashes agree are compared.

    Args:
        blocks: Gives the rows, each time it is called; of them ``_id``, the target and what could not be read.
    """
    hashes = np.concatenate([np.empty(0, np.uint64), *(_id_hashes(rows, model) for rows in blocks())])
    suspects = _repeated(hashes)
    if not len(suspects):
        return np.empty(0, np.int64)
    positions = np.flatnonzero(np.isin(hashes, suspects))
    del hashes
    ids = _ids_at(positions, blocks())
    first, _ = match(ids, ids.slice(0, 0))
    repeats: NDArray[np.int64] = positions[first != np.arange(len(first))]
    return repeats


def _id_hashes(rows: pa.Table, model: Model) -> NDArray[np.uint64]:
    """0 where an id is not asked for."""
    hashes = hashes_of(rows[ID])
    hashes[_unasked(rows, model)] = 0
    return hashes


def _repeated(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    order = np.sort(hashes)
    return np.unique(order[1:][(order[1:] == order[:-1]) & (order[1:] != 0)])


def _ids_at(positions: NDArray[np.int64], blocks: Iterable[pa.Table]) -> pa.ChunkedArray:
    texts, start = [], 0
    for rows in blocks:
        within = positions[(positions >= start) & (positions < start + rows.num_rows)] - start
        texts.append(rows[ID].take(pa.array(within)))
        start += rows.num_rows
    return pa.chunked_array([chunk for text in texts for chunk in text.chunks], pa.string())


def _unasked(rows: pa.Table, model: Model) -> NDArray[np.int64]:
    """Rows without an id, or without an outcome."""
    names = [name for name in (model.target, FAULT) if name in rows.column_names]
    unlabelled = _without_outcome(rows.select(names).to_pandas(), model)
    without_id = np.flatnonzero(rows[ID].is_null().to_numpy())
    return np.concatenate([unlabelled, without_id])


def _without_outcome(frame: pd.DataFrame, model: Model) -> NDArray[np.int64]:
    unlabelled = np.flatnonzero(frame[model.target].isna().to_numpy())
    return unlabelled[~_unreadable(frame, model, model.target, unlabelled)]


def schema(model: Model, columns: Sequence[str]) -> pa_check.DataFrameSchema:
    """The policy as a pandera schema over a snapshot's columns."""
    fields = {name: _feature(feature) for name, feature in model.features.items()}
    checks = [] if model.class_names else [_finite()]
    if model.loss == "poisson":
        checks.append(pa_check.Check.ge(0, error="a count, 0 or more (model.loss is poisson)"))
    fields[model.target] = pa_check.Column(float, checks, nullable=False)
    if ID in columns:
        fields[ID] = pa_check.Column(object, nullable=False)
    if FAULT in columns:
        fields[FAULT] = pa_check.Column(object, pa_check.Check(_no_rows, error="readable"), nullable=True)
    return pa_check.DataFrameSchema(fields)


def _feature(feature: Feature) -> pa_check.Column:
    if feature.type == "category":
        checks = []
        if feature.values is not None:
            checks.append(pa_check.Check.isin(feature.values, error=f"one of {some(feature.values)}"))
        return pa_check.Column(object, checks, nullable=feature.nullable)
    checks = [_finite()]
    if feature.min is not None:
        checks.append(pa_check.Check.ge(feature.min, error=f"at least {feature.min:g}"))
    if feature.max is not None:
        checks.append(pa_check.Check.le(feature.max, error=f"at most {feature.max:g}"))
    return pa_check.Column(float, checks, nullable=feature.nullable)


def _finite() -> pa_check.Check:
    return pa_check.Check(np.isfinite, error="finite")


def _no_rows(values: pd.Series[str]) -> pd.Series[bool]:
    """No value passes: the column holds only what is wrong with a row."""
    return values.isna()


def _row_failures(
    frame: pd.DataFrame, asked: NDArray[np.bool_], model: Model, repeats: NDArray[np.int64]
) -> list[Failure]:
    found = [_failure(frame, model, ID, "unique", repeats)] if len(repeats) else []
    try:
        schema(model, list(frame.columns)).validate(frame[asked], lazy=True)
    except SchemaErrors as exc:
        cases = exc.failure_cases
    else:
        return found
    for (column, rule), group in cases.groupby(["column", "check"], sort=False):
        rows = np.unique(group["index"].to_numpy(np.int64))
        if rule == "not_nullable":
            rows = rows[~_unreadable(frame, model, str(column), rows)]
        if len(rows):
            found.append(_failure(frame, model, str(column), str(rule), rows))
    return found


def _unreadable(frame: pd.DataFrame, model: Model, column: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows whose value in this column is there and could not be read: their fault says so, and they lack nothing."""
    if FAULT not in frame.columns:
        return np.zeros(len(rows), bool)
    faults = frame[FAULT].iloc[rows].fillna("")
    return faults.str.contains(f"column {model.columns.get(column, column)!r}: ", regex=False).to_numpy(bool)


def _failure(frame: pd.DataFrame, model: Model, column: str, rule: str, rows: NDArray[np.int64]) -> Failure:
    rule = {"not_nullable": "present"}.get(rule, rule)
    shown = dict.fromkeys(shown_value(model, column, value) for value in frame[column].iloc[rows[:1000]])
    return Failure(column="" if column == FAULT else column, rule=rule, rows=rows, seen=list(shown)[:MAX_SEEN])


def shown_value(model: Model, column: str, value: object) -> str:
    """A value as people may see it: of private features only that it is there."""
    if pd.isna(value):  # type: ignore[call-overload]
        return "missing"
    feature = model.features.get(column)
    return str(value) if feature is None or feature.privacy == "keep" else f"a value (privacy: {feature.privacy})"


def _absent_classes(classes: Mapping[float, int], model: Model) -> list[str]:
    absent = [repr(each) for place, each in enumerate(model.classes) if not classes.get(float(place))]
    if not absent:
        return []
    return [
        f"column {model.target!r}: not one of {sum(classes.values()):,} good rows is of class "
        f"{', '.join(absent)}: wait for rows of it, or leave it out of model.classes"
    ]


def _class_faults(classes: Mapping[float, int], model: Model, spelled: Mapping[str, int]) -> list[str]:
    if model.classes and classes:
        return _absent_classes(classes, model)
    if model.task != "binary" or not classes:
        return []
    positive, negative = classes[1.0], classes[0.0]
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
    short = [(value if len(value) <= MAX_LENGTH else f"{value[:MAX_LENGTH]}...", n) for value, n in spelled.items()]
    return some((f"{value!r} ({count:,})" for value, count in short), MAX_VALUES)


def place(row: Mapping[str, Any]) -> str:
    """Where a row stood: file and row number, its time, its id."""
    identity = f", id {row[ID]}" if row.get(ID) is not None else ""
    time = f", {row[TIME]:%Y-%m-%d %H:%M:%S}" if row.get(TIME) is not None else ""
    return f"{row[FILE]}, row {row[ROW]}{time}{identity}"
