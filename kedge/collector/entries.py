"""What lies in a frame of the journal: a group's predictions of one model by column, anything else one by one.

A frame of predictions names its columns by a hash: what they are lies in a file of the spool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import orjson

from kedge.collector.declared import Column, Columns, Declared, Row, Values
from kedge.collector.journal import frame
from kedge.errors import StoreError
from kedge.store import write_file

Kind = Literal["c", "q", "r", "l"]
"""Columns of predictions, request half, response half, label. A frame whose content changes gets another letter."""
PREDICTIONS: Kind = "c"
KINDS = frozenset(get_args(Kind))


@dataclass(slots=True)
class Taken:
    """Something sent, to be made durable.

    Predictions have ``rows``, or ``columns`` if they came together; anything else a ``body`` with the ``key`` that is
    the same if it is sent twice; none of them where sampling leaves it out.
    """

    model: str
    kind: Kind
    rows: Sequence[Row] = ()
    columns: Values = ()
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
        return bool(self.rows or self.columns) or self.body is not None


@dataclass(frozen=True, slots=True)
class Item:
    """What a frame holds: of predictions the ``values`` by column, of anything else a ``body``."""

    kind: str
    model: str
    key: str
    """Hex digits: the same for a thing sent twice. Of predictions, the hash of their columns."""
    body: bytes = b""
    """JSON."""
    values: Values = ()

    def frame(self) -> bytes:
        """The entry as it lies in the journal."""
        body = orjson.dumps(self.values) if self.kind == PREDICTIONS else self.body
        return frame(self.kind.encode(), f"{self.model} {self.key} ".encode() + body)


class Schemas:
    """Columns of the journal's predictions, by their hash; each in a file of the folder as long as there is a spool."""

    def __init__(self, folder: Path, declared: Iterable[Declared]) -> None:
        """Write the declared models' columns down."""
        self._folder = folder
        self._known = {model.columns_key: model.columns for model in declared}
        for key, columns in self._known.items():
            if not self._path(key).exists():
                write_file(self._path(key), orjson.dumps([list(column) for column in columns]))

    def find(self, key: str) -> Columns:
        """The columns of a hash. Raises OSError if their file is gone."""
        if key not in self._known:
            self._known[key] = tuple(Column(*column) for column in orjson.loads(self._path(key).read_bytes()))
        return self._known[key]

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def items(taken: Iterable[Taken], declared: Mapping[str, Declared]) -> list[Item]:
    """The entries of a group."""
    found: list[Item] = []
    rows: dict[str, list[Row]] = {}
    for one in taken:
        if one.rows:
            rows.setdefault(one.model, []).extend(one.rows)
        elif one.columns:
            found.append(predictions(declared[one.model], one.columns))
        elif one.body is not None:
            found.append(Item(one.kind, one.model, one.key.hex(), one.body))
    for name, group in rows.items():
        found.append(predictions(declared[name], list(zip(*group, strict=True))))
    return found


def predictions(model: Declared, values: Values) -> Item:
    """The entry of predictions that have the model's columns."""
    return Item(PREDICTIONS, model.name, model.columns_key, values=values)


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
    if kind.decode() == PREDICTIONS:
        return Item(PREDICTIONS, model.decode(), key.decode(), values=orjson.loads(body))
    return Item(kind.decode(), model.decode(), key.decode(), body)
