"""Any table as it is counted for profiles: each column is of one kind in all its files, as fast as they decode.

A policy says what a column is. Without one its types are widened over a sample of all files, and text of a CSV file is
what nearly all of its values read as; where rows beyond the sample show another type, the table is read anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa

from kedge.errors import DataError
from kedge.tables.columns import Kind, arrow_type, counted, kind_of
from kedge.tables.reader import TableReader, sample, sampled
from kedge.tables.untyped import READABLE, TextGuess

SAMPLE_ROWS = 20_000
Result = TypeVar("Result")


class TypesChanged(Exception):
    """Rows beyond the sample show a type that the sample did not."""


class Scan:
    """A table to be counted.

    Args:
        reader: The table.
        told: What its columns are, where a policy says it; the others are what they hold.
        formats: How text of these columns writes numbers.
    """

    def __init__(
        self, reader: TableReader, told: Mapping[str, Kind] | None = None, formats: Mapping[str, str] | None = None
    ) -> None:
        self._reader, self._told, self._formats = reader, dict(told or {}), dict(formats or {})
        self._all = False
        self._kinds: dict[str, Kind | None] = {}
        self._schema: pa.Schema | None = None
        self.unreadable: Counter[str] = Counter()
        """Values of each column that could not be read as what it is, in the last pass; they count as missing."""

    def schema(self) -> pa.Schema:
        """Names and types as they are counted, of all columns that a file looked at has."""
        if self._schema is None:
            self._schema = self._settled()
        return self._schema

    def counted(self, count: Callable[[], Result]) -> Result:
        """What a function makes of the batches, called again if rows beyond the sample change the types."""
        try:
            return count()
        except TypesChanged:
            self._all, self._schema = True, None
            return count()

    def batches(
        self, columns: Sequence[str], *, spread: bool = False, threads: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The rows, of these columns where a file has them. See :meth:`TableReader.batches`.

        Raises:
            TypesChanged: in the end or before it; :meth:`counted` reads again.
            DataError: as the reader, or a column that cannot be what the policy says.
        """
        self.schema()
        self.unreadable.clear()
        present: Counter[str] = Counter()
        for batch in self._reader.batches(columns, spread=spread, threads=threads):
            arrays = [self._column(name, array) for name, array in zip(batch.schema.names, batch.columns, strict=True)]
            for name, array in zip(batch.schema.names, batch.columns, strict=True) if not self._reader.typed else ():
                present[name] += len(array) - array.null_count
            yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names) if arrays else batch
        self._refuse_unreadable(present)

    def _refuse_unreadable(self, present: Counter[str]) -> None:
        """A column most values of which cannot be read is of another type than the first rows let expect."""
        for name in present:
            if name not in self._told and self.unreadable[name] > (1 - READABLE) * present[name] and not self._all:
                raise TypesChanged(name)

    def _column(self, name: str, array: pa.Array) -> pa.Array:
        kind = self._kinds[name]
        if kind is None:
            return self._of_one_type(name, array)
        try:
            read, wrong = counted(array, kind, self._formats.get(name))
        except DataError as exc:
            raise DataError(f"{self._reader.place}: column {name!r} {exc}") from exc
        if wrong:
            self.unreadable[name] += wrong
        return read

    def _of_one_type(self, name: str, array: pa.Array) -> pa.Array:
        """A column of which only its type is known, the same in every file."""
        held = self.schema().field(name).type
        if _value_type(array.type) == _value_type(held):
            return array
        if array.null_count == len(array):
            return pa.nulls(len(array), held)
        if not self._all:
            raise TypesChanged(name)
        raise DataError(f"{self._reader.place}: column {name!r} holds {held} in one file and {array.type} in another")

    def _settled(self) -> pa.Schema:
        """Settle what each column is."""
        types: dict[str, list[pa.DataType]] = {}
        for part in self._reader.parts() if self._all else sampled(self._reader):
            for item in part.schema():
                types.setdefault(item.name, []).append(item.type)
        if not types:
            raise DataError(f"{self._reader.place}: has no column")
        texts = {} if self._reader.typed else self._texts([name for name in types if name not in self._told])
        fields = []
        for name, held in types.items():
            kind = self._told.get(name) or (texts[name] if name in texts else widened(held))
            one = next((each for each in held if not pa.types.is_null(each)), pa.null())
            stays = pa.null() if name in texts else one
            fields.append(pa.field(name, stays if kind is None else arrow_type(kind)))
            self._kinds[name] = kind
        return pa.schema(fields)

    def _texts(self, names: Sequence[str]) -> dict[str, Kind | None]:
        """What columns of text are: by a sample, or by all rows; None where there is not one value."""
        guesses = {name: TextGuess() for name in names}
        batches = (piece.rows for piece in sample(self._reader, names, SAMPLE_ROWS)[0])
        for batch in self._reader.batches(names) if self._all else batches:
            for name, array in zip(batch.schema.names, batch.columns, strict=True):
                guesses[name].add(array)
        return {name: guess.kind for name, guess in guesses.items()}


def widened(types: Sequence[pa.DataType]) -> Kind | None:
    """What a column is whose files hold these types; None: as it is stored, alike in all of them.

    >>> widened([pa.int64(), pa.float64(), pa.null()]), widened([pa.int64(), pa.string()]), widened([pa.int8()])
    ('number', 'category', None)
    """
    held = {_value_type(each) for each in types if not pa.types.is_null(each)}
    kinds = {kind_of(each) for each in held}
    if None in kinds or (len(held) < 2 and not any(isinstance(each, pa.BaseExtensionType) for each in held)):
        return None
    return kinds.pop() if len(kinds) == 1 else "category"


def _value_type(held: pa.DataType) -> pa.DataType:
    """The type of the values, whatever encodes them; all text is one."""
    if pa.types.is_dictionary(held):
        return _value_type(held.value_type)
    return pa.string() if pa.types.is_large_string(held) or pa.types.is_string_view(held) else held
