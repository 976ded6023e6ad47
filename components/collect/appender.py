"""From the journal into the prediction log: segment by segment, each exactly once, in the background."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
from deltalake import DeltaTable

from components.collect import kserve
from components.collect.declared import Declared, Row, key_of
from components.collect.entries import PREDICTIONS, Item, Schemas, batch, decode, predictions
from components.collect.index import Change, Index
from components.collect.intake import sampled
from components.collect.journal import Journal
from components.collect.metrics import Metrics
from components.errors import DataError, StoreError
from components.store import Store, write_file
from components.tables import log

DAY_SECONDS = 86_400
LABELS = log.LABELS.remove(log.LABELS.get_field_index("_day"))


@dataclass
class Segment:
    """What one segment holds, as it was sent."""

    rows: dict[str, list[pa.RecordBatch]] = field(default_factory=lambda: defaultdict(list))
    """Predictions by model, in the columns its policy has today."""
    labels: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """By model and key."""
    halves: list[Item] = field(default_factory=list)
    aside: list[Item] = field(default_factory=list)
    """What the log does not take under today's policies."""
    duplicates: int = 0


class Appender:
    """Reads closed segments, leaves out what is in the log already, joins halves and appends."""

    def __init__(
        self,
        store: Store,
        declared: Mapping[str, Declared],
        journal: Journal,
        schemas: Schemas,
        index: Index,
        metrics: Metrics,
        *,
        aside: Path,
        sample: float,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            aside: Folder for what the log does not take under today's policies, as segments; see :func:`restore`.
            sample: Share of ids kept.
        """
        self._store = store
        self._declared = declared
        self._journal = journal
        self._schemas = schemas
        self._index = index
        self._metrics = metrics
        self._aside = aside
        self._sample = sample
        self._opened: dict[str, DeltaTable] = {}

    def run(self, segments: Sequence[int]) -> int:
        """Append closed segments in turn; how many rows were appended.

        Raises:
            StoreError: the store refused; what is left stays in the journal.
        """
        rows = 0
        for number in segments:
            if number > self._index.applied:
                rows += self._append(number)
            self._journal.remove(number)
        return rows

    def _append(self, number: int) -> int:
        """One segment. Read again after a crash it gives the same tables, as the index changes only at the end."""
        segment = self._read(number)
        change = Change(number, int(time.time() // DAY_SECONDS))
        self._pair(segment, change)
        appended = sum(self._append_predictions(name, number, segment, change) for name in segment.rows)
        appended += sum(self._append_labels(name, number, segment, change) for name in segment.labels)
        self._set_aside(segment.aside, number)
        try:
            self._index.apply(change)
        except sqlite3.Error as exc:
            raise StoreError(f"the collector's index cannot be written: {exc}") from exc
        self._metrics.duplicates.inc(segment.duplicates)
        return appended

    def _read(self, number: int) -> Segment:
        segment = Segment()
        for kind, payload in self._journal.read(number, self._metrics.damaged):
            item = decode(kind, payload)
            if item.model not in self._declared:
                segment.aside.append(item)
            elif item.kind == PREDICTIONS:
                self._take_rows(segment, item)
            elif item.kind == "l":
                key = bytes.fromhex(item.key)
                segment.duplicates += key in segment.labels[item.model]
                segment.labels[item.model].setdefault(key, item.body)
            else:
                segment.halves.append(item)
        return segment

    def _take_rows(self, segment: Segment, item: Item) -> None:
        rows = pa.ipc.read_record_batch(pa.py_buffer(item.body), self._schemas.find(item.key))
        current = _current(rows, self._declared[item.model].schema)
        if current is None:
            segment.aside.append(item)
        else:
            segment.rows[item.model].append(current)

    def _set_aside(self, items: Sequence[Item], number: int) -> None:
        """Keep what was acknowledged and does not fit: its policy was taken away, or a column changed its type."""
        if not items:
            return
        write_file(self._aside / f"{number:012d}.log", b"".join(item.frame() for item in items))
        for model, count in Tally(item.model for item in items).items():
            self._metrics.aside(model, count)

    def _pair(self, segment: Segment, change: Change) -> None:
        """Join requests with their answers, those of this segment and those that waited."""
        models = {bytes.fromhex(half.key): half.model for half in segment.halves}
        for key in self._index.known(models):
            del models[key]
        here = self._index.halves(models)
        waited = set(here)
        joined: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for half in segment.halves:
            key = bytes.fromhex(half.key)
            segment.duplicates += key not in models or (key, half.kind) in here
            here.setdefault((key, half.kind), half.body)
        for key, model in models.items():
            request, response = here.get((key, "q")), here.get((key, "r"))
            if request is not None and response is not None:
                whole = orjson.loads(request)
                joined[model, whole["schema"]] += self._joined(self._declared[model], whole, orjson.loads(response))
                change.paired.append(key)
                change.appended.append(key)
                continue
            kind, body = ("q", request) if request is not None else ("r", response)
            if (key, kind) not in waited and body is not None:
                change.halves.append((key, kind, model, orjson.loads(body)["_received"], body))
        for (model, schema), rows in joined.items():
            if rows:
                message = batch(rows, self._schemas.find(schema)).serialize().to_pybytes()
                self._take_rows(segment, Item(PREDICTIONS, model, schema, message))

    def _joined(self, model: Declared, request: dict[str, Any], response: dict[str, Any]) -> list[Row]:
        rows = kserve.joined(model, request, response)
        if not rows:
            self._metrics.unequal.inc()
        return [row for row in rows if self._sample >= 1 or sampled(row[0], self._sample)]

    def _append_predictions(self, name: str, number: int, segment: Segment, change: Change) -> int:
        """Append those that are not in the log: of several of one id the first."""
        model = self._declared[name]
        rows = pa.Table.from_batches(segment.rows[name])
        keys = [key_of(name, identity) for identity in rows["_id"].to_pylist()]
        first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        for key in self._index.known(first):
            del first[key]
        segment.duplicates += len(keys) - len(first)
        if len(first) < len(keys):
            rows = rows.take(pa.array(sorted(first.values()), pa.int64()))
        if not self._written("predictions", name, rows, number):
            segment.aside += [predictions(model, part) for part in rows.to_batches()]
            return 0
        change.appended.extend(first)
        change.predicted.extend(first)
        return int(rows.num_rows)

    def _append_labels(self, name: str, number: int, segment: Segment, change: Change) -> int:
        """Append labels that are not in the log; note which of them have no prediction yet."""
        bodies = segment.labels[name]
        known = self._index.known(bodies)
        segment.duplicates += len(known)
        fresh = {key: body for key, body in bodies.items() if key not in known}
        labels = [orjson.loads(body) for body in fresh.values()]
        if not self._written("labels", name, pa.Table.from_pylist(labels, schema=LABELS), number):
            segment.aside += [Item("l", name, key.hex(), body) for key, body in fresh.items()]
            return 0
        change.appended.extend(fresh)
        waiting = {key_of(name, label["_id"]) for label in labels} - set(change.predicted)
        waiting -= self._index.known(waiting)
        change.waiting.extend((key, name) for key in waiting)
        return len(labels)

    def _written(self, kind: Literal["predictions", "labels"], name: str, rows: pa.Table, number: int) -> bool:
        """Whether the rows are in the log; False if it does not take their columns."""
        if not rows.num_rows:
            return True
        append = log.append_predictions if kind == "predictions" else log.append_labels
        try:
            append(
                self._store,
                self._declared[name].policy,
                rows,
                writer=self._index.writer,
                sequence=number,
                opened=self._opened,
            )
        except DataError as exc:
            self._metrics.faults[f"refused: {name}"] = str(exc)
            return False
        self._metrics.faults.pop(f"refused: {name}", None)
        self._metrics.appended.labels(name, kind).inc(rows.num_rows)
        return True


def restore(aside: Path, journal: Journal) -> None:
    """Hand back what was set aside under other policies, to be appended or set aside again."""
    for path in sorted(aside.glob("*.log")):
        journal.adopt(path)


def _current(rows: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch | None:
    """Rows in today's columns; None if a column changed its type.

    A column of another policy is left out. So are values that were written before the column's privacy changed.
    """
    if rows.schema.equals(wanted, check_metadata=True):
        return rows
    columns = []
    for now in wanted:
        index = rows.schema.get_field_index(now.name)
        known = index >= 0 and rows.schema.field(index).metadata == now.metadata
        if known and rows.schema.field(index).type != now.type:
            return None
        columns.append(rows.column(index) if known else pa.nulls(rows.num_rows, now.type))
    return pa.record_batch(columns, schema=wanted)
