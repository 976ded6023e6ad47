"""What lies in a frame of the journal: predictions by the group as an Arrow batch, anything else as JSON.

A group of predictions is turned into columns at once, which costs a few microseconds a row where row by row it costs
twenty; so the types of the features are checked there too. A batch refers to its columns by the hash of a schema file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pyarrow as pa

from components.collect.declared import OWN, Declared, Row
from components.collect.journal import frame
from components.collect.privacy import FAULTS
from components.collect.refusal import Refused
from components.store import write_file

ROWS = b"p"
HASH_BYTES = 8

Kind = Literal["p", "q", "r", "l"]
"""Prediction, request half, response half, label."""


@dataclass(slots=True)
class Taken:
    """Something sent, to be made durable.

    A prediction has a ``row``, anything else a ``body`` with the ``key`` that is the same if it is sent twice; neither
    where sampling leaves it out. ``fault`` is set where making it durable found that it must be refused.
    """

    model: str
    kind: Kind
    row: Row | None = None
    body: bytes | None = None
    key: str = ""
    conflict_key: str | None = None
    patient: bool = True
    """Whether the sender repeats what is refused; KServe's logger does not."""
    fault: Refused | None = None

    @property
    def kept(self) -> bool | None:
        """True, or False if it was refused after all; None where sampling left it out."""
        if self.row is None and self.body is None:
            return None
        return self.fault is None


@dataclass(frozen=True, slots=True)
class Item:
    """An entry that is not a prediction."""

    kind: str
    model: str
    key: str
    body: bytes


class Schemas:
    """Schemas of the journal's batches, by hash; each in a file of the folder for as long as there is a spool."""

    def __init__(self, folder: Path, declared: Mapping[str, Declared]) -> None:
        """Write the declared models' schemas down."""
        self._folder = folder
        self._known: dict[bytes, pa.Schema] = {}
        self._of_model: dict[str, bytes] = {}
        for name, model in declared.items():
            raw = model.schema.serialize().to_pybytes()
            key = sha256(raw).digest()[:HASH_BYTES]
            if not self._path(key).exists():
                write_file(self._path(key), raw)
            self._known[key] = model.schema
            self._of_model[name] = key

    def of_model(self, name: str) -> bytes:
        """Hash of a declared model's schema."""
        return self._of_model[name]

    def find(self, key: bytes) -> pa.Schema:
        """The schema of a hash. Raises OSError if its file is gone."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = pa.ipc.read_schema(pa.py_buffer(self._path(key).read_bytes()))
        return found

    def _path(self, key: bytes) -> Path:
        return self._folder / f"{key.hex()}.schema"


def encode(taken: Iterable[Taken], declared: Mapping[str, Declared], schemas: Schemas) -> bytes:
    """Frames of a group. Rows whose features do not fit are left out and get their ``fault``."""
    parts: list[bytes] = []
    by_model: dict[str, list[Taken]] = {}
    for one in taken:
        if one.row is not None:
            by_model.setdefault(one.model, []).append(one)
        elif one.body is not None:
            parts.append(frame(one.kind.encode(), f"{one.model} {one.key} ".encode() + one.body))
    for name, group in by_model.items():
        batch = _batch(declared[name], group)
        if batch is not None:
            head = name.encode() + b" " + schemas.of_model(name)
            parts.append(frame(ROWS, head + batch.serialize().to_pybytes()))
    return b"".join(parts)


def rows_of(payload: memoryview, schemas: Schemas) -> tuple[str, pa.RecordBatch]:
    """Model and predictions of a frame of kind ``p``."""
    raw = pa.py_buffer(payload)
    space = bytes(payload[:64]).index(b" ")
    name = bytes(payload[:space]).decode()
    start = space + 1 + HASH_BYTES
    schema = schemas.find(bytes(payload[space + 1 : start]))
    return name, pa.ipc.read_record_batch(raw.slice(start), schema)


def item_of(kind: bytes, payload: memoryview) -> Item:
    """The entry in a frame of any other kind."""
    model, key, body = bytes(payload).split(b" ", 2)
    return Item(kind.decode(), model.decode(), key.decode(), body)


def _batch(model: Declared, group: Sequence[Taken]) -> pa.RecordBatch | None:
    try:
        return model.batch([one.row for one in group if one.row is not None])
    except FAULTS:
        good = [one for one in group if _fits(model, one)]
        return model.batch([one.row for one in good if one.row is not None]) if good else None


def _fits(model: Declared, one: Taken) -> bool:
    try:
        model.batch([one.row] if one.row is not None else [])
    except FAULTS as exc:
        one.fault = model.features.fault((one.row or ())[OWN:], exc)
        return False
    return True
