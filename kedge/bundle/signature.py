"""What a model takes: its features in order, and the one encoding that training, evaluation and serving share."""

from __future__ import annotations

import difflib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge.errors import DataError

if TYPE_CHECKING:
    from kedge.policy import Model

Matrix = NDArray[np.float32]
"""Shape (rows, features): numbers as they are, true 1 and false 0, a category as its code, missing as NaN."""

MISSING = float("nan")
LARGEST = float(np.finfo(np.float32).max)
MAX_COMPARED = 100
"""Names of a row that are looked at for the one that may be meant."""
MAX_PLANS = 256
Plan = tuple[list[tuple[int, dict[str, float]]], list[tuple[int, Callable[[Any], float]]]]
"""Of a row: the places of categories with their codes, and the places of values to look at more closely."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One feature as the model takes it. A category's code is its place in ``categories``."""

    name: str
    type: Literal["number", "integer", "boolean", "category"]
    nullable: bool = True
    categories: tuple[str, ...] = ()

    @cached_property
    def codes(self) -> dict[str, float]:
        """The code of each category."""
        return {category: float(code) for code, category in enumerate(self.categories)}


@dataclass(frozen=True)
class Signature:
    """The features of a model, in the order of its columns.

    >>> signature = Signature((Input(name="amount", type="number"),
    ...                        Input(name="country", type="category", categories=("AT", "DE"))))
    >>> signature.encode_rows([{"amount": 12, "country": "DE"}, {"amount": None, "country": "XX"}])
    array([[12.,  1.],
           [nan, nan]], dtype=float32)
    """

    inputs: tuple[Input, ...]

    @classmethod
    def of(cls, model: Model, categories: Mapping[str, Sequence[str]] | None = None) -> Signature:
        """The signature of a policy's model.

        Args:
            model: Its features; a category with ``values`` has these categories.
            categories: For the other category features those of the training rows, see :func:`observed_categories`.

        Raises:
            DataError: a category feature without any category.
        """
        found = categories or {}
        inputs = []
        for name, feature in model.features.items():
            known = tuple(feature.values or found.get(name, ())) if feature.type == "category" else ()
            if feature.type == "category" and not known:
                raise DataError(f"feature {name!r}: a category without values, in the policy or in the rows")
            inputs.append(Input(name=name, type=feature.type, nullable=feature.nullable, categories=known))
        return cls(tuple(inputs))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features' names, in order."""
        return tuple(each.name for each in self.inputs)

    @property
    def model(self) -> Signature:
        """The columns of the matrix: the features themselves, where no code of the team makes others of them."""
        return self

    @property
    def feature_types(self) -> list[str]:
        """XGBoost's type of each column: ``c`` for a category, ``q`` for all else."""
        return ["c" if each.type == "category" else "q" for each in self.inputs]

    def encode(self, table: pa.RecordBatch | pa.Table) -> Matrix:
        """The matrix of a table's rows; columns that are no feature are left aside.

        Raises:
            DataError: a feature is absent, of a type that cannot be read as declared, infinite, or null where the
                policy forbids it; the message names the feature.
        """
        matrix = np.empty((table.num_rows, len(self.inputs)), dtype=np.float32)
        present = set(table.schema.names)
        for position, each in enumerate(self.inputs):
            if each.name not in present:
                raise DataError(f"feature {each.name!r}: no such column; the table has {', '.join(sorted(present))}")
            matrix[:, position] = _column(each, table.column(each.name))
        return matrix

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        """The matrix of JSON rows, each with exactly the signature's features.

        Raises:
            DataError: names the first row and feature at fault and says what is allowed.
        """
        matrix = np.empty((len(rows), len(self.inputs)), dtype=np.float32)
        try:
            for position, each in enumerate(self.inputs):
                matrix[:, position] = _cells(each, [row[each.name] for row in rows])
            extra = any(len(row) != len(self.inputs) for row in rows)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            extra = True
        if extra:
            raise DataError(self.fault(rows))
        return matrix

    def encode_row(self, row: Mapping[str, Any]) -> bytes:
        """The bytes of what :meth:`encode_rows` gives for one row: in a microsecond or two instead of fifty.

        Raises:
            DataError: as there.
        """
        try:
            values = [row[name] for name in self.names]
            categories, checks = self._plan(tuple(map(type, values)))
            for place, codes in categories:
                values[place] = codes.get(values[place], MISSING)
            for place, read in checks:
                values[place] = read(values[place])
            if len(row) == len(values) and math.inf not in values and -math.inf not in values:
                return self._floats.pack(*values)  # rounds to 32 bits
        except (KeyError, TypeError, ValueError, OverflowError, struct.error):
            pass
        raise DataError(self.fault([row]))

    def _plan(self, types: tuple[type, ...]) -> Plan:
        """What a row of these types still needs; nearly all rows of a model share a few of them."""
        plan = self._plans.get(types)
        if plan is None:
            plan = _planned(self.inputs, types)
            if len(self._plans) < MAX_PLANS:
                self._plans[types] = plan
        return plan

    @cached_property
    def _plans(self) -> dict[tuple[type, ...], Plan]:
        return {}

    @cached_property
    def _floats(self) -> struct.Struct:
        return struct.Struct(f"={len(self.inputs)}f")

    def _near(self, name: str, row: Mapping[str, Any]) -> str:
        """A name of the row that may be meant, such as the one that the table has for the feature."""
        free = [_cut(str(each)) for each in islice(row, MAX_COMPARED) if each not in self.names]
        close = difflib.get_close_matches(name, free, n=1)
        return f" (the row has {close[0]!r})" if close else ""

    def fault(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Say what is wrong with rows that :meth:`encode_rows` refuses: the first fault, in words."""
        for number, row in enumerate(rows):
            place = f"row {number}: " if len(rows) > 1 else ""
            if not isinstance(row, Mapping):
                return f"{place}must be an object of features by name, got {_shown(row)}"
            for each in self.inputs:
                if each.name not in row:
                    near = self._near(each.name, row)
                    return f"{place}feature {each.name!r}: missing{near}; send null where the value is unknown"
                wrong = _wrong(each, row[each.name])
                if wrong:
                    return f"{place}feature {each.name!r}: {wrong}"
            extra = [str(name) for name in row if name not in self.names]
            if extra:
                return f"{place}feature {_cut(extra[0])!r}: not one of the model's: {_cut(', '.join(self.names), 400)}"
        return "the rows cannot be read"


def observed_categories(model: Model, table: pa.Table) -> dict[str, tuple[str, ...]]:
    """The distinct values, sorted, of each category feature for which the policy lists none."""
    found = {}
    for name, feature in model.features.items():
        if feature.type == "category" and feature.values is None:
            if name not in table.schema.names:
                raise DataError(f"feature {name!r}: no such column; the table has {', '.join(table.schema.names)}")
            values = pc.unique(text_of(name, table.column(name))).drop_null().to_pylist()
            found[name] = tuple(sorted(values))
    return found


def _column(each: Input, values: pa.Array | pa.ChunkedArray) -> NDArray[np.float32]:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if each.type == "category":
        text = text_of(each.name, values)
        if not each.nullable:
            _refuse_null(each, int(text.null_count) + (pc.sum(pc.equal(text, "")).as_py() or 0))
        codes = pc.index_in(text, value_set=pa.array(each.categories, pa.string()))
        return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.float32)
    kind = values.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise DataError(f"feature {each.name!r}: a {each.type} cannot be read from a column of type {kind}")
    # through float64, so that a row and a table give the same bits
    wide = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    _refuse_null(each, int(np.isnan(wide).sum()))
    return narrow(each, wide)


def narrow(each: Input, wide: NDArray[np.float64]) -> NDArray[np.float32]:
    """Numbers as the matrix holds them. Raises DataError where they are beyond its range."""
    if (np.abs(wide) > LARGEST).any():
        raise DataError(f"feature {each.name!r}: infinite, or beyond the range of a 32-bit float (±{LARGEST:.3g})")
    return wide.astype(np.float32)


def _refuse_null(each: Input, nulls: int) -> None:
    if nulls and not each.nullable:
        raise DataError(f"feature {each.name!r}: {nulls} missing values, and the policy says `nullable: false`")


def text_of(name: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A category's values as texts. Raises DataError where the column holds none."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return values.cast(kind).cast(pa.string())
    raise DataError(f"feature {name!r}: a category is text; the column's type is {kind}")


NUMBERS = frozenset({int, float})
ALLOWED = {
    "number": NUMBERS,
    "integer": NUMBERS,
    "boolean": frozenset({bool, int, float}),
    "category": frozenset({str}),
}


def _cells(each: Input, values: list[Any]) -> NDArray[np.float32]:
    """One feature of many rows; ValueError sends the caller to find the fault."""
    types = set(map(type, values))
    if type(None) in types:
        if not each.nullable:
            raise ValueError
        types.discard(type(None))
    if not types <= ALLOWED[each.type]:
        raise ValueError
    if each.type == "category":
        if not (each.nullable or all(values)):
            raise ValueError
        codes = each.codes
        return np.array([codes.get(value, MISSING) for value in values], dtype=np.float32)
    return _numbers(each, values)


def _numbers(each: Input, values: list[Any]) -> NDArray[np.float32]:
    wide = np.array(values, dtype=np.float64)  # None becomes NaN
    if each.type == "integer" and (np.floor(wide) != wide)[~np.isnan(wide)].any():
        raise ValueError
    if each.type == "boolean" and not np.isin(wide[~np.isnan(wide)], (0.0, 1.0)).all():
        raise ValueError
    if not each.nullable and np.isnan(wide).any():
        raise ValueError
    if (np.abs(wide) > LARGEST).any():
        raise ValueError
    return wide.astype(np.float32)


def _planned(inputs: Sequence[Input], types: Sequence[type]) -> Plan:
    categories: list[tuple[int, dict[str, float]]] = []
    checks: list[tuple[int, Callable[[Any], float]]] = []
    for place, (each, kind) in enumerate(zip(inputs, types, strict=True)):
        if kind is not type(None) and kind not in ALLOWED[each.type]:
            raise ValueError
        if kind is str and each.nullable:
            categories.append((place, each.codes))
        elif kind is str:
            checks.append((place, partial(_filled, each)))
        elif each.type != "number" or not each.nullable or kind is type(None):
            checks.append((place, partial(_checked, each)))
    return categories, checks


def _checked(each: Input, value: Any) -> float:
    """A value of an allowed type; ValueError sends the caller to find the fault."""
    if _wrong(each, value):
        raise ValueError
    return MISSING if value is None else value


def _filled(each: Input, value: str) -> float:
    """The code of a category that must be given; an empty text is a missing value."""
    if not value:
        raise ValueError
    return each.codes.get(value, MISSING)


def _wrong(each: Input, value: object) -> str | None:
    """What is wrong with one value, or None."""
    if value is None or value != value:
        return None if each.nullable else "must not be null"
    if value == "" and each.type == "category":
        return None if each.nullable else "must not be empty, which is a missing value"
    seen = f"got {_shown(value)}"
    if type(value) not in ALLOWED[each.type]:
        wanted = {"category": "text", "boolean": "true or false", "integer": "a whole number"}
        return f"must be {wanted.get(each.type, 'a number')}{' or null' if each.nullable else ''}, {seen}"
    if isinstance(value, (int, float)):
        if each.type == "boolean" and value not in (0, 1):
            return f"must be true or false, {seen}"
        if abs(value) > LARGEST:
            return f"must be within ±{LARGEST:.3g}, {seen}"
        if each.type == "integer" and value != int(value):
            return f"must be a whole number, {seen}"
    return None


def _shown(value: object) -> str:
    names = {str: "text", dict: "an object", list: "a list", bool: "a boolean", int: "a number", float: "a number"}
    kind = names.get(type(value), type(value).__name__)
    return kind if isinstance(value, (dict, list)) else f"{kind} {_cut(repr(value))}"


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
