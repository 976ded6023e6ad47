"""The spool of an earlier version, read once at the start: afterwards it is one of this version.

Earlier versions kept an index beside the journal, which also held what waited for its other half, and their frames
named their columns by a file of the spool. What this version cannot read is set aside and told, and stops nothing.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from kedge.collector import kserve
from kedge.collector.declared import Column, Columns, Declared
from kedge.collector.entries import Entry
from kedge.collector.metrics import Metrics
from kedge.store import write_file
from kedge.store.journal import Form, Segment, closed, frames, set_aside
from kedge.tables.appending import LABEL_COLUMNS, REQUEST_COLUMNS, RESPONSE_COLUMNS, Kind, Table

FORM = Form(b"KDG", lambda kind, payload: zlib.crc32(payload))  # noqa: ARG005
OWN_COLUMNS = 8
"""Of a prediction, before its features."""
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, OSError)


def upgrade(spool: Path, declared: Mapping[str, Declared], metrics: Metrics) -> None:
    """Bring the journal, what was set aside and what waited in the index into this version's form.

    It may be ended at any time and begun again. A segment keeps the name under which it was appended, so that one that
    is in the log already is not appended twice.

    Raises:
        OSError: the disk refused.
    """
    index = spool / "index.db"
    writer, applied, waiting = _index(index, metrics) if index.exists() else (f"collect-{uuid4().hex}", -1, [])
    reader = _Reader(spool / "schemas", declared)
    damage: list[int] = []
    entries = [
        entry for kind, model, body in waiting for entry in reader.entries(kind.encode(), model, "", body, damage)
    ]
    _write(spool / "journal" / Segment(f"{writer}-waiting", 0).file, entries)
    _keep(index, damage, spool / "damaged", metrics)
    for folder in (spool / "journal", spool / "aside"):
        for path in sorted(path for path in folder.glob("*.log") if path.stem.isdigit()):
            if folder.name == "aside" or int(path.stem) > applied:
                damage = []
                _write(folder / Segment(writer, int(path.stem)).file, reader.read(path.read_bytes(), damage))
                _keep(path, damage, spool / "damaged", metrics)
            path.unlink(missing_ok=True)
    for path in spool.glob("index.db*"):
        path.unlink(missing_ok=True)
    for path in spool.glob("schemas/*"):
        if (spool / "damaged").exists():  # whoever looks at what is there needs its columns
            set_aside(path, spool / "damaged")
        else:
            path.unlink(missing_ok=True)


def _index(path: Path, metrics: Metrics) -> tuple[str, int, list[tuple[str, str, bytes]]]:
    """Under which name the segments were appended, the number of the last one, and what waited for its other half."""
    try:
        with closing(sqlite3.connect(path)) as db:
            facts = dict(db.execute("SELECT name, value FROM facts"))
            waiting = db.execute("SELECT kind, model, body FROM halves").fetchall()
            return str(facts["writer"]), int(facts.get("applied", "-1")), waiting
    except (sqlite3.Error, *UNREADABLE) as exc:
        metrics.faults["index"] = (
            f"{path}: an earlier version's index cannot be read ({exc}); requests that waited for their answers are "
            f"lost to the log, the file is kept in {path.parent / 'damaged'}"
        )
        set_aside(path, path.parent / "damaged")
        return f"collect-{uuid4().hex}", -1, []


def _keep(path: Path, damage: list[int], folder: Path, metrics: Metrics) -> None:
    if damage:
        metrics.damaged(path.name, damage, folder)
        set_aside(path, folder)


def _write(path: Path, entries: Iterable[Entry]) -> None:
    data = b"".join(entry.frame() for entry in entries)
    if data:
        write_file(path, closed(data))


class _Reader:
    """Reads the frames of earlier versions."""

    def __init__(self, schemas: Path, declared: Mapping[str, Declared]) -> None:
        self._schemas = schemas
        self._declared = declared

    def read(self, data: bytes, damage: list[int]) -> Iterator[Entry]:
        """Entries of a segment; the lengths of what cannot be read are added to ``damage``."""
        for kind, payload in frames(data, damage.append, form=FORM):
            model, _, rest = bytes(payload).partition(b" ")
            key, _, body = rest.partition(b" ")
            yield from self.entries(kind, model.decode(errors="replace"), key.decode(errors="replace"), body, damage)

    def entries(self, kind: bytes, model: str, key: str, body: bytes, damage: list[int]) -> list[Entry]:
        """What a frame held: columns of predictions, a label, a request or a response."""
        try:
            return self._entries(kind, model, key, body)
        except UNREADABLE:  # a kind that this version does not know, or the file of its columns is gone
            damage.append(len(body))
            return []

    def _entries(self, kind: bytes, model: str, key: str, body: bytes) -> list[Entry]:
        content: Any = orjson.loads(body)
        if kind == b"c":
            columns = self._columns(key)
            if len(columns) != len(content) or len({len(values) for values in content}) != 1:
                raise ValueError(key)
            return [Entry(model, "predictions", columns, content)]
        if kind == b"l":
            return [Entry(model, "labels", _own(LABEL_COLUMNS), [[content[name]] for name in LABEL_COLUMNS])]
        if kind == b"q":
            features = self._columns(content["schema"])[OWN_COLUMNS:]
            return _logged(model, "requests", _own(REQUEST_COLUMNS) + features, content, content["rows"])
        if kind == b"r":
            model_declared = self._declared.get(model)
            rows = [(score, model_declared and model_declared.decision(score)) for score in content["scores"]]
            return _logged(model, "responses", _own(RESPONSE_COLUMNS), content, rows)
        raise ValueError(kind)

    def _columns(self, key: str) -> Columns:
        return tuple(Column(*column) for column in orjson.loads((self._schemas / f"{key}.json").read_bytes()))


def _own(columns: Mapping[str, Kind]) -> Columns:
    return tuple(Column(name, kind, "") for name, kind in columns.items())


def _logged(model: str, table: Table, columns: Columns, content: Mapping[str, Any], rows: list[Any]) -> list[Entry]:
    own = (content["_time"], content["_received"], content["version"], content["slot"], len(rows))
    ids = [kserve.row_identity(content["id"], place, len(rows)) for place in range(len(rows))]
    values = list(zip(*((identity, *own, *row) for identity, row in zip(ids, rows, strict=True)), strict=True))
    return [Entry(model, table, columns, values)] if rows else []
