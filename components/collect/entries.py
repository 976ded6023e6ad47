"""What lies in a frame of the journal: a group's predictions of one model as JSON rows, anything else one by one.

Rows are lists of values in the order of a schema, which they name by the hash of its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from components.collect.declared import Declared, Row
from components.collect.journal import frame
from components.store import write_file

ROWS = b"p"

Kind = Literal["p", "q", "r", "l"]
"""Prediction, request half, response half, label."""


@dataclass(slots=True)
class Taken:
    """Something sent, to be made durable.

    A prediction has a ``row``, as JSON; anything else a ``body`` with the ``key`` that is the same if it is sent twice;
    neither where sampling leaves it out.
    """

    model: str
    kind: Kind
    row: bytes | None = None
    body: bytes | None = None
    key: bytes = b""
    conflict_key: str | None = None
    patient: bool = True
    """Whether the sender repeats what is refused; KServe's logger does not."""

    @property
    def kept(self) -> bool:
        """False where sampling left it out."""
        return self.row is not None or self.body is not None


@dataclass(frozen=True, slots=True)
class Item:
    """An entry that is not a prediction."""

    kind: str
    model: str
    key: str
    """Hex digits: the same for a thing sent twice. Of predictions, the hash of their schema."""
    body: bytes


class Schemas:
    """Schemas of the journal's rows, by their hash; each in a file of the folder for as long as there is a spool."""

    def __init__(self, folder: Path, declared: Iterable[Declared]) -> None:
        """Write the declared models' schemas down."""
        self._folder = folder
        self._known = {model.schema_key: model.schema for model in declared}
        for key, schema in self._known.items():
            if not self._path(key).exists():
                write_file(self._path(key), schema.serialize().to_pybytes())

    def find(self, key: str) -> pa.Schema:
        """The schema of a hash. Raises OSError if its file is gone."""
        if key not in self._known:
            self._known[key] = pa.ipc.read_schema(pa.py_buffer(self._path(key).read_bytes()))
        return self._known[key]

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.schema"


def encode(taken: Iterable[Taken], declared: Mapping[str, Declared]) -> bytes:
    """Frames of a group."""
    parts: list[bytes] = []
    rows: dict[str, list[bytes]] = {}
    for one in taken:
        if one.row is not None:
            rows.setdefault(one.model, []).append(one.row)
        elif one.body is not None:
            parts.append(frame(one.kind.encode(), f"{one.model} {one.key.hex()} ".encode() + one.body))
    for model, group in rows.items():
        parts.append(frame(ROWS, f"{model} {declared[model].schema_key} ".encode() + b"[" + b",".join(group) + b"]"))
    return b"".join(parts)


def decode(kind: bytes, payload: memoryview) -> Item:
    """The entry in a frame; the body of predictions is a list of rows."""
    model, key, body = bytes(payload).split(b" ", 2)
    return Item(kind.decode(), model.decode(), key.decode(), body)


def table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows as columns; times are microseconds since 1970."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table([_column(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:  # Arrow takes no integer that a float cannot hold to the last digit
        return pa.array([None if value is None else float(value) for value in values], kind)
