"""The spool of an earlier version, read once at the start: afterwards it is one of this version.

Earlier versions kept an index beside the journal, which also held what waited for its other half, and their frames
named their columns by a file of the spool. What this version cannot read is set aside and told, and stops nothing.
"""

from __future__ import annotations

import sqlite3
import struct
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
from kedge.collector.journal import Segment
from kedge.collector.metrics import Metrics
from kedge.store import write_file
from kedge.tables.appending import LABEL_COLUMNS, REQUEST_COLUMNS, RESPONSE_COLUMNS, Kind, Table

HEAD = struct.Struct("<3s1sII")
MARK = b"KDG"
OWN_COLUMNS = 8
"""Of a prediction, before its features."""
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, UnicodeDecodeError, orjson.JSONDecodeError)


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
    if waiting:
        entries = [entry for kind, model, body in waiting for entry in reader.entries(kind.encode(), model, "", body)]
        _write(spool / "journal" / Segment(f"{writer}-waiting", 0).file, entries)
    for folder in (spool / "journal", spool / "aside"):
        for path in sorted(path for path in folder.glob("*.log") if path.stem.isdigit()):
            if folder.name == "aside" or int(path.stem) > applied:
                damage: list[int] = []
                entries = list(reader.read(path.read_bytes(), damage))
                _write(folder / Segment(writer, int(path.stem)).file, entries)
                if damage:
                    metrics.damaged(path.name, damage, spool / "damaged")
                    (spool / "damaged").mkdir(exist_ok=True)
                    path.rename(spool / "damaged" / path.name)
            path.unlink(missing_ok=True)
    for path in (*spool.glob("index.db*"), *spool.glob("schemas/*")):
        path.unlink(missing_ok=True)


def _index(path: Path, metrics: Metrics) -> tuple[str, int, list[tuple[str, str, bytes]]]:
    """Under which name the segments were appended, the number of the last one, and what waited for its other half."""
    try:
        with closing(sqlite3.connect(path)) as db:
            facts = dict(db.execute("SELECT name, value FROM facts"))
            waiting = db.execute("SELECT kind, model, body FROM halves").fetchall()
            return str(facts["writer"]), int(facts.get("applied", "-1")), waiting
    except (sqlite3.Error, *UNREADABLE) as exc:
        kept = path.parent / "damaged" / path.name
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(path.read_bytes())
        metrics.faults["index"] = (
            f"{path}: an earlier version's index cannot be read ({exc}); requests that waited for their answers are "
            f"lost to the log, the file is kept as {kept}"
        )
        return f"collect-{uuid4().hex}", -1, []


def _write(path: Path, entries: Iterable[Entry]) -> None:
    data = b"".join(entry.frame() for entry in entries)
    if data:
        write_file(path, data)


class _Reader:
    """Reads the frames of earlier versions."""

    def __init__(self, schemas: Path, declared: Mapping[str, Declared]) -> None:
        self._schemas = schemas
        self._declared = declared

    def read(self, data: bytes, damage: list[int]) -> Iterator[Entry]:
        """Entries of a segment; the lengths of what cannot be read are added to ``damage``."""
        place = 0
        while place < len(data):
            mark, kind, length, check = HEAD.unpack(data[place : place + HEAD.size].ljust(HEAD.size, b"\0"))
            payload = data[place + HEAD.size : place + HEAD.size + length]
            if mark == MARK and len(payload) == length and zlib.crc32(payload) == check:
                after = place + HEAD.size + length
                found = self._entries_of(kind, payload)
            else:
                after = data.find(MARK, place + 1)
                after = len(data) if after < 0 else after
                found = None
            if found is None:
                damage.append(after - place)
            yield from found or ()
            place = after

    def _entries_of(self, kind: bytes, payload: bytes) -> list[Entry] | None:
        try:
            model, key, body = payload.split(b" ", 2)
            return self.entries(kind, model.decode(), key.decode(), body)
        except (OSError, *UNREADABLE):  # a kind that this version does not know, or the file of its columns is gone
            return None

    def entries(self, kind: bytes, model: str, key: str, body: bytes) -> list[Entry]:
        """What a frame held: columns of predictions, a label, a request or a response."""
        content: Any = orjson.loads(body)
        if kind == b"c":
            return [Entry(model, "predictions", self._columns(key), content)]
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
