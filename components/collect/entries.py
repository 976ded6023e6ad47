"""What lies in a frame of the journal: a group's predictions of one model as an Arrow batch, anything else one by one.

A batch names its schema by a hash: the schema itself lies in a file of the spool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from components.collect.declared import Declared, Row
from components.collect.journal import frame
from components.errors import StoreError
from components.store import write_file

Kind = Literal["b", "q", "r", "l"]
"""Batch of predictions, request half, response half, label. A frame whose content changes gets another letter."""
PREDICTIONS: Kind = "b"
KINDS = frozenset(get_args(Kind))


@dataclass(slots=True)
class Taken:
    """Something sent, to be made durable.

    Predictions have ``rows``; anything else a ``body`` with the ``key`` that is the same if it is sent twice; neither
    where sampling leaves them out.
    """

    model: str
    kind: Kind
    rows: Sequence[Row] = ()
    body: bytes | None = None
    key: bytes = b""
    conflict_keys: Sequence[str] = ()
    patient: bool = True
    """Whether the sender repeats what is refused; KServe's logger does not."""
    count: int = 1
    """Predictions, halves or labels."""

    @property
    def kept(self) -> bool:
        """False where sampling left it out."""
        return bool(self.rows) or self.body is not None


@dataclass(frozen=True, slots=True)
class Item:
    """What a frame holds."""

    kind: str
    model: str
    key: str
    """Hex digits: the same for a thing sent twice. Of predictions, the hash of their schema."""
    body: bytes
    """JSON; of predictions an Arrow IPC message."""

    def frame(self) -> bytes:
        """The entry as it lies in the journal."""
        return frame(self.kind.encode(), f"{self.model} {self.key} ".encode() + self.body)


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
    rows: dict[str, list[Row]] = {}
    for one in taken:
        if one.rows:
            rows.setdefault(one.model, []).extend(one.rows)
        elif one.body is not None:
            parts.append(Item(one.kind, one.model, one.key.hex(), one.body).frame())
    for name, group in rows.items():
        model = declared[name]
        parts.append(predictions(model, batch(group, model.schema)).frame())
    return b"".join(parts)


def predictions(model: Declared, rows: pa.RecordBatch) -> Item:
    """The entry of predictions that are in the model's schema."""
    return Item(PREDICTIONS, model.name, model.schema_key, rows.serialize().to_pybytes())


def decode(kind: bytes, payload: memoryview) -> Item:
    """The entry in a frame.

    Raises:
        StoreError: another version of the collector wrote it.
    """
    if kind.decode() not in KINDS:
        raise StoreError(
            f"the spool's journal has entries of kind {kind.decode()!r}, this collector reads {sorted(KINDS)}; "
            "they stay there: start the version of the collector that wrote them, to append them"
        )
    model, key, body = bytes(payload).split(b" ", 2)
    return Item(kind.decode(), model.decode(), key.decode(), body)


def batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Rows, at least one, as columns; times are microseconds since 1970."""
    columns = [_column(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.record_batch(columns, schema=schema)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:  # Arrow takes no boolean, and no integer that a float cannot hold to the last digit
        return pa.array([None if value is None else float(value) for value in values], kind)
