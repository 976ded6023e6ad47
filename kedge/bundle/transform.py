"""A team's own feature code: raw features in, the columns that the model sees out, alike in training and in a slot.

The code sees a pandas frame of the raw features: numbers, integers and booleans as 64-bit floats with NaN, categories
as texts with None, also those that no training row has. What it makes of a row must hang on that row alone, or a slot,
which sees one, would answer otherwise than training did: :func:`learn` proves it and refuses what does not.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge import code
from kedge.bundle.signature import LARGEST, Input, Matrix, Signature, narrow, observed_categories, text_of
from kedge.code import FAULTS, Package
from kedge.errors import DataError, TransformError
from kedge.measure import outcomes, strided

if TYPE_CHECKING:
    from kedge.policy import Policy  # a server need not build the policy's schema

POLICY_FIELD = "features.transform"
CHUNK_ROWS = 50_000
"""Rows of a table that are transformed at once."""
PROVEN_ROWS, PROVEN_ALONE = 2000, 100
"""Rows, at equal distances, that are transformed again among other rows, and one by one; as many odd ones alone too."""
NAME = re.compile(r"[^_\W\[\]<][^\[\]<\x00-\x1f]{0,127}")
OTHER_ROWS = "it looks at other rows; compute it from the row itself, because a slot sees no others"
Column = NDArray[Any]
"""Of a derived column, shape (n,): 64-bit floats with NaN, or texts with None."""


@dataclass(frozen=True)
class Transform:
    """Feature code, ready to run."""

    path: str
    """``features.transform``."""
    run: Callable[[Any], Any]
    """A frame to a frame."""
    fitted: Any = None
    """The scikit-learn transformer that it is, where it learned from rows."""

    def __call__(self, frame: Any, first_row: int = 0) -> Any:
        """The derived frame of a frame of raw features, whose first row has this number.

        Raises:
            TransformError: the code raises, or does not give one row for each.
        """
        try:
            derived = self.run(frame.copy(deep=False))
        except FAULTS as exc:  # its text may hold values of rows
            failing = self._first_failing(frame)
            raise self.error(_raised(exc, frame, None if failing is None else first_row + failing)) from None
        self._refuse_other_rows(derived, len(frame))
        return derived

    def _refuse_other_rows(self, derived: Any, rows: int) -> None:
        import pandas as pd

        if not isinstance(derived, pd.DataFrame):
            raise self.error(f"gives a {type(derived).__name__}; it must give a pandas frame")
        if len(derived) != rows:
            raise self.error(f"gives {len(derived):,} rows for {rows:,}; it must give one for each, in their order")

    def error(self, said: str) -> TransformError:
        """An error that names the code."""
        return TransformError(f"features.transform {self.path}: {said}")

    def _first_failing(self, frame: Any) -> int | None:
        """Place of the first row that the code does not take even alone; None where it fails only among others."""
        start, end = 0, len(frame)
        while end - start > 1:
            middle = (start + end) // 2
            start, end = (start, middle) if self._fails(frame.iloc[start:middle]) else (middle, end)
        return start if end > start and self._fails(frame.iloc[start:end]) else None

    def _fails(self, frame: Any) -> bool:
        try:
            self.run(frame.copy(deep=False))
        except FAULTS:
            return True
        return False


def made(path: str, package: Package | None) -> Transform:
    """The code that a policy names, not fitted.

    Raises:
        CodeNotAllowed: the installation runs no code of policies.
        UsageError, TransformError: the path leads to nothing, or to no function and no transformer.
    """
    made = _named(path, package)
    if hasattr(made, "transform"):
        from sklearn.base import clone

        made = clone(made) if hasattr(made, "get_params") else made
        return of_fitted(path, made)
    if callable(made):
        return Transform(path, made)
    raise TransformError(
        f"{POLICY_FIELD} {path}: is a {type(made).__name__}; it must be a function of a pandas frame, or a "
        "scikit-learn transformer"
    )


def _named(path: str, package: Package | None) -> Any:
    """What a path leads to; of a class an instance."""
    module, _, name = path.partition(":")
    if package is None or module.split(".")[0] == "sklearn":
        named = code.attribute(module, name, f"{POLICY_FIELD}: {path}")
    else:
        named = package.attribute(path, POLICY_FIELD)
    return named() if inspect.isclass(named) else named


def of_fitted(path: str, transformer: Any) -> Transform:
    """A scikit-learn transformer, asked for frames."""
    if hasattr(transformer, "set_output"):
        transformer.set_output(transform="pandas")
    return Transform(path, transformer.transform, transformer)


@dataclass(frozen=True)
class TransformedSignature(Signature):
    """Raw features as requests, tables and the log have them; encoded, they are the derived columns' matrix."""

    derived: Signature
    transform: Transform = field(compare=False)

    @property
    def model(self) -> Signature:
        return self.derived

    def encode(self, table: pa.RecordBatch | pa.Table) -> Matrix:
        matrix = np.empty((table.num_rows, len(self.derived.inputs)), dtype=np.float32)
        for start in range(0, table.num_rows, CHUNK_ROWS):
            rows = table.slice(start, CHUNK_ROWS)
            super().encode(rows)  # refuses what the policy does
            matrix[start : start + rows.num_rows] = self.matrix(frame_of_table(self.inputs, rows), start)
        return matrix

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        super().encode_rows(rows)
        return self.matrix(frame_of_rows(self.inputs, rows))

    def encode_row(self, row: Mapping[str, Any]) -> bytes:
        super().encode_row(row)
        return self.matrix(frame_of_rows(self.inputs, [row])).tobytes()

    def matrix(self, frame: Any, first_row: int = 0) -> Matrix:
        """The matrix of a frame of raw features, whose first row has this number.

        Raises:
            TransformError: the code raises, or gives other columns than in training.
            DataError: a number is infinite.
        """
        derived = self.transform(frame, first_row)
        names = list(self.derived.names)
        if derived.columns.tolist() != names:
            raise self.transform.error(_other_columns(derived.columns.tolist(), names, first_row, len(frame)))
        matrix = np.empty((len(derived), len(names)), dtype=np.float32)
        numbers: list[tuple[int, Column]] = []
        for place, (each, values) in enumerate(
            zip(self.derived.inputs, _columns(derived, self.transform, first_row), strict=True)
        ):
            if each.type == "number" and values.dtype != object:
                numbers.append((place, values))
            else:
                matrix[:, place] = _encoded(each, values, self.transform, first_row)
        if numbers:  # all at once: a column costs as much as hundreds of its rows
            block = np.array([values for _, values in numbers])
            if (np.abs(block) > LARGEST).any():
                for place, values in numbers:
                    _encoded(self.derived.inputs[place], values, self.transform, first_row)
            matrix[:, [place for place, _ in numbers]] = block.T
        return matrix


def frame_of_table(inputs: Sequence[Input], table: pa.RecordBatch | pa.Table) -> Any:
    """The pandas frame of a table's raw features."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for each in inputs:
        values = table.column(each.name)
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if each.type == "category":
            columns[each.name] = _texts(text_of(each.name, values).to_pylist())
        else:
            columns[each.name] = np.array(
                values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64
            )
    return pd.DataFrame(columns)


def frame_of_rows(inputs: Sequence[Input], rows: Sequence[Mapping[str, Any]]) -> Any:
    """The same frame of JSON rows that :meth:`Signature.encode_rows` takes."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for each in inputs:
        values = [row[each.name] for row in rows]
        columns[each.name] = _texts(values) if each.type == "category" else np.array(values, dtype=np.float64)
    return pd.DataFrame(columns)


def encoded(policy: Policy, table: pa.Table, package: Package | None, fit_rows: int) -> tuple[Signature, Matrix]:
    """The signature that training rows give a policy's model, and their matrix; arguments are those of :func:`learn`.

    Raises:
        DataError: features that cannot be read; else as :func:`learn`.
    """
    if policy.features.transform is not None:
        return learn(policy, table, package, fit_rows)
    signature = Signature.of(policy.model, observed_categories(policy.model, table))
    return signature, signature.encode(table)


def learn(
    policy: Policy, table: pa.Table, package: Package | None, fit_rows: int
) -> tuple[TransformedSignature, Matrix]:
    """The signature of a policy with own feature code, learned and proven on training rows, and their matrix.

    Proven is, on rows at equal distances and on the odd ones of each feature, that the same values come out again,
    among other rows, in another order and one by one, under the same names and of the same types.

    Args:
        table: All training rows, in time order.
        package: That the policy names by `code`.
        fit_rows: A transformer learns from so many of the oldest rows, which are none that judge.

    Raises:
        CodeNotAllowed, UsageError: as :func:`made`.
        TransformError: names the row of the table, counted from 0, and the column; never a value.
    """
    assert policy.features.transform is not None
    inputs = Signature.of(policy.model, observed_categories(policy.model, table)).inputs
    transform = made(policy.features.transform, package)
    if transform.fitted is not None and hasattr(transform.fitted, "fit"):
        label = outcomes(table, policy.model.target)[:fit_rows]
        try:
            transform.fitted.fit(frame_of_table(inputs, table.slice(0, fit_rows)), label)
        except FAULTS as exc:
            raise transform.error(f"cannot be fitted: {code.fault(exc)}") from None
    derived, columns = _derived(transform, inputs, table)
    unknown = [name for name in policy.train.monotone if name not in derived.names]
    if unknown:
        raise transform.error(
            f"gives no column {unknown[0]!r}, which train.monotone names; it gives {', '.join(derived.names)[:400]}"
        )
    signature = TransformedSignature(inputs, derived, transform)
    matrix = np.empty((table.num_rows, len(derived.inputs)), dtype=np.float32)
    for place, each in enumerate(derived.inputs):
        matrix[:, place] = _encoded(each, columns[each.name], transform)
    _prove(signature, table, matrix)
    return signature, matrix


def _derived(transform: Transform, inputs: Sequence[Input], table: pa.Table) -> tuple[Signature, dict[str, Column]]:
    """The columns that come out of a table, and their values."""
    pieces: dict[str, list[Column]] = {}
    for start in range(0, table.num_rows, CHUNK_ROWS):
        frame = transform(frame_of_table(inputs, table.slice(start, CHUNK_ROWS)), start)
        names = frame.columns.tolist()
        _refuse_names(transform, names)
        if pieces and names != list(pieces):
            raise transform.error(_other_columns(names, list(pieces), start, len(frame)))
        for name, values in zip(names, _columns(frame, transform, start), strict=True):
            pieces.setdefault(name, []).append(values)
    columns = {name: _joined(transform, name, each) for name, each in pieces.items()}
    found = []
    for name, values in columns.items():
        texts = sorted({value for value in values.tolist() if value is not None}) if values.dtype == object else []
        found.append(Input(name=name, type="category" if texts else "number", categories=tuple(texts)))
    return Signature(tuple(found)), columns


def _joined(transform: Transform, name: str, pieces: list[Column]) -> Column:
    kinds = {values.dtype == object for values in pieces if not _empty(values)}
    if len(kinds) > 1:
        raise transform.error(f"column {name!r} holds texts in some rows and numbers in others; give one of them")
    texts = kinds == {True}
    return np.concatenate(
        [values if (values.dtype == object) == texts else _none(len(values), texts) for values in pieces]
    )


def _compare(signature: TransformedSignature, seen: Matrix, wanted: Matrix, rows: NDArray[np.int64], said: str) -> None:
    same = (seen == wanted) | (np.isnan(seen) & np.isnan(wanted))
    if not same.all():
        row, column = (int(place[0]) for place in np.nonzero(~same))
        raise signature.transform.error(f"column {signature.derived.names[column]!r} of row {rows[row]} {said}")


def _prove(signature: TransformedSignature, table: pa.Table, matrix: Matrix) -> None:
    """Refuse code whose values hang on more than the row."""
    odd = _odd_rows(signature.inputs, table)
    some = np.union1d(strided(table.num_rows, PROVEN_ROWS), odd)
    frame = frame_of_table(signature.inputs, table.take(some))

    compare = partial(_compare, signature)
    first, again = (signature.matrix(frame.copy()) for _ in range(2))
    compare(again, first, some, "is another value each time: it must be the same for the same row; seed what is random")
    compare(first, matrix[some], some, f"is another value among fewer rows: {OTHER_ROWS}")
    order = np.random.default_rng(0).permutation(len(some))
    shuffled = signature.matrix(frame.iloc[order].reset_index(drop=True))
    compare(shuffled, first[order], some[order], f"is another value where rows come in another order: {OTHER_ROWS}")
    for place in np.union1d(strided(len(some), PROVEN_ALONE), np.searchsorted(some, odd[:PROVEN_ALONE])).tolist():
        here = slice(place, place + 1)
        alone = signature.matrix(frame.iloc[here].reset_index(drop=True), int(some[place]))
        compare(alone, first[here], some[here], f"is another value where the row is alone: {OTHER_ROWS}")


def _odd_rows(inputs: Sequence[Input], table: pa.Table) -> NDArray[np.int64]:
    """Of each feature the first row without a value, and those of its least and largest or its rarest: code that fills
    or clips by other rows changes these, which may be so few that no equal distance meets one."""
    rows: list[int] = []
    for each in inputs:
        column = table.column(each.name)
        rows.append(pc.index(column.is_null(nan_is_null=True), True).as_py())
        if each.type == "category":
            counted = pc.value_counts(column.drop_null())
            if len(counted):
                rarest = counted.field("values")[int(np.argmin(counted.field("counts").to_numpy()))]
                rows.append(pc.index(column, rarest).as_py())
        else:
            numbers = column.cast(pa.float64(), safe=False)
            rows += [pc.index(numbers, limit).as_py() for limit in pc.min_max(numbers).values()]
    return np.array([row for row in rows if row >= 0], dtype=np.int64)


def _columns(frame: Any, transform: Transform, first_row: int) -> Iterator[Column]:
    """Each column's values: one pass where all are plain numbers, which a row in a slot mostly has."""
    if all(isinstance(each, np.dtype) and each.kind in "fiub" for each in frame.dtypes):
        yield from frame.to_numpy(dtype=np.float64).T
        return
    for name, series in frame.items():
        yield _values(series, name, transform, first_row)


def _values(series: Any, name: str, transform: Transform, first_row: int) -> Column:
    import pandas as pd

    kind = series.dtype.kind if isinstance(series.dtype, np.dtype) else "O"
    if kind in "fiub":
        return series.to_numpy().astype(np.float64, copy=False)  # type: ignore[no-any-return]
    if kind == "O":
        values: Column = series.astype(object).to_numpy()
        missing = np.asarray(pd.isna(values), dtype=np.bool_)
        types = set(map(type, values[~missing].tolist()))
        if types <= {str}:
            plain = values.copy()
            plain[missing] = None
            return _texts(plain.tolist())
        if all(issubclass(each, (bool, int, float, np.number, np.bool_)) for each in types):
            return np.where(missing, np.nan, values).astype(np.float64)
        row, held = first_row + int(np.flatnonzero(~missing)[0]), ", ".join(sorted(each.__name__ for each in types))
        raise transform.error(f"column {name!r} holds {held}, as in row {row}; give numbers or texts, not both")
    raise transform.error(f"column {name!r} is of type {series.dtype}; give numbers or texts")


def _encoded(each: Input, values: Column, transform: Transform, first_row: int = 0) -> NDArray[np.float32]:
    if each.type == "category":
        if values.dtype != object and not _empty(values):
            raise transform.error(f"column {each.name!r} holds numbers; it held texts in training")
        codes = each.codes
        return np.array([codes.get(value, np.nan) for value in values.tolist()], dtype=np.float32)
    if values.dtype == object:
        if not _empty(values):
            raise transform.error(f"column {each.name!r} holds texts; it held numbers in training")
        values = _none(len(values), texts=False)
    if np.isinf(values).any():
        row = first_row + int(np.flatnonzero(np.isinf(values))[0])
        raise DataError(
            f"features.transform {transform.path}: column {each.name!r} of row {row} is infinite; give NaN where a "
            "value cannot be computed"
        )
    return narrow(each, values)


def _empty(values: Column) -> bool:
    if values.dtype == object:
        return all(value is None for value in values.tolist())
    return bool(np.isnan(values).all())


def _none(rows: int, texts: bool) -> Column:
    return np.full(rows, None, dtype=object) if texts else np.full(rows, np.nan)


def _texts(values: Sequence[str | None]) -> Column:
    found = np.empty(len(values), dtype=object)
    found[:] = [value or None for value in values]
    return found


def _refuse_names(transform: Transform, names: list[Any]) -> None:
    if not names:
        raise transform.error("gives no columns; the model needs at least one")
    for place, name in enumerate(names):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise transform.error(
                f"column {place} is called {str(name)[:60]!r}; a name is text of at most 128 characters that does not "
                "begin with _ and has none of [ ] <"
            )
        if name in names[:place]:
            raise transform.error(f"gives two columns {name!r}; each needs a name of its own")


def _other_columns(seen: list[Any], wanted: list[str], first_row: int, rows: int) -> str:
    """What differs between the columns of these rows and those of others."""
    where = f"row {first_row}" if rows == 1 else f"rows {first_row} to {first_row + rows - 1}"
    missing = [name for name in wanted if name not in seen]
    more = [name for name in seen if name not in wanted]
    if missing or more:
        said = f"{'gives no' if missing else 'also gives'} column {(missing or more)[0]!r} for {where}"
    else:
        said = f"gives its columns in another order for {where}"
    return f"{said}; names and order must be the same for all rows: list columns and categories in the code"


def _raised(exc: BaseException, frame: Any, row: int | None) -> str:
    where = "" if row is None else f" on row {row}"
    if isinstance(exc, ModuleNotFoundError):
        return f"needs {exc.name!r}, which is not there; build it into the images of steps and slots"
    said = f"raises {code.fault(exc)}{where}"
    if isinstance(exc, KeyError):
        return f"{said}; the frame has the columns {', '.join(frame.columns)[:400]}"
    return f"{said}; it must take every row that the policy allows, with missing values and texts never seen"
