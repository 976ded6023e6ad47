"""From the journal into the prediction log: segment by segment, each exactly once, in the background."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from deltalake import DeltaTable

from kedge.collector import kserve
from kedge.collector.declared import Columns, Declared, Row, Values, key_of
from kedge.collector.entries import PREDICTIONS, Item, Schemas, decode, predictions
from kedge.collector.fresh import Fresh
from kedge.collector.index import Change, Index
from kedge.collector.intake import sampled
from kedge.collector.journal import Journal
from kedge.collector.metrics import Metrics
from kedge.errors import DataError, StoreError
from kedge.store import Store, write_file
from kedge.tables import appending

DAY_SECONDS = 86_400


@dataclass
class Segment:
    """What one segment holds, as it was sent."""

    rows: dict[str, list[list[Any]]] = field(default_factory=dict)
    """Predictions by model, in the columns its policy has today."""
    labels: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """By model and key."""
    unmatched: list[Item] = field(default_factory=list)
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
        fresh: Fresh,
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
        self._fresh = fresh
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
        for item in self._items(number):
            if item.model not in self._declared:
                segment.aside.append(item)
            elif item.kind == PREDICTIONS:
                self._take_rows(segment, item)
            elif item.kind == "l":
                key = bytes.fromhex(item.key)
                segment.duplicates += key in segment.labels[item.model]
                segment.labels[item.model].setdefault(key, item.body)
            else:
                segment.unmatched.append(item)
        return segment

    def _items(self, number: int) -> Iterable[Item]:
        fresh = self._fresh.take(number)
        if fresh is not None:
            return fresh
        return (decode(kind, payload) for kind, payload in self._journal.read(number, self._metrics.damaged))

    def _take_rows(self, segment: Segment, item: Item) -> None:
        current = _current(item.values, self._schemas.find(item.key), self._declared[item.model].columns)
        if current is None:
            segment.aside.append(item)
            return
        gathered = segment.rows.setdefault(item.model, [[] for _ in current])
        for column, values in zip(gathered, current, strict=True):
            column += values

    def _set_aside(self, items: Sequence[Item], number: int) -> None:
        """Keep what was acknowledged and does not fit: its policy was taken away, or a column changed its type."""
        if not items:
            return
        write_file(self._aside / f"{number:012d}.log", b"".join(item.frame() for item in items))
        for model, count in Tally(item.model for item in items).items():
            self._metrics.aside(model, count)

    def _pair(self, segment: Segment, change: Change) -> None:
        """Join requests with their answers, those of this segment and those that waited."""
        models = {bytes.fromhex(half.key): half.model for half in segment.unmatched}
        for key in self._index.known(models):
            del models[key]
        here = self._index.unmatched(models)
        waited = set(here)
        joined: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for half in segment.unmatched:
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
                change.unmatched.append((key, kind, model, orjson.loads(body)["_received"], body))
        for (model, schema), rows in joined.items():
            if rows:
                self._take_rows(segment, Item(PREDICTIONS, model, schema, values=list(zip(*rows, strict=True))))

    def _joined(self, model: Declared, request: dict[str, Any], response: dict[str, Any]) -> list[Row]:
        rows = kserve.joined(model, request, response)
        if not rows:
            self._metrics.unequal.inc()
        return [row for row in rows if self._sample >= 1 or sampled(row[0], self._sample)]

    def _append_predictions(self, name: str, number: int, segment: Segment, change: Change) -> int:
        """Append those that are not in the log: of several of one id the first."""
        model = self._declared[name]
        values: Values = segment.rows[name]
        keys = [key_of(name, identity) for identity in values[0]]
        first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        for key in self._index.known(first):
            del first[key]
        segment.duplicates += len(keys) - len(first)
        if len(first) < len(keys):
            chosen = sorted(first.values())
            values = [[column[place] for place in chosen] for column in values]
        columns = {column.name: column.kind for column in model.columns}
        if not self._written("predictions", name, columns, values, number):
            segment.aside.append(predictions(model, values))
            return 0
        change.appended.extend(first)
        change.predicted.extend(first)
        return len(first)

    def _append_labels(self, name: str, number: int, segment: Segment, change: Change) -> int:
        """Append labels that are not in the log; note which of them have no prediction yet."""
        bodies = segment.labels[name]
        known = self._index.known(bodies)
        segment.duplicates += len(known)
        fresh = {key: body for key, body in bodies.items() if key not in known}
        labels = [orjson.loads(body) for body in fresh.values()]
        values = [[label[column] for label in labels] for column in appending.LABEL_COLUMNS]
        if not self._written("labels", name, appending.LABEL_COLUMNS, values, number):
            segment.aside += [Item("l", name, key.hex(), body) for key, body in fresh.items()]
            return 0
        change.appended.extend(fresh)
        waiting = {key_of(name, label["_id"]) for label in labels} - set(change.predicted)
        waiting -= self._index.known(waiting)
        change.waiting.extend((key, name) for key in waiting)
        return len(labels)

    def _written(
        self, table: appending.Table, name: str, columns: Mapping[str, appending.Kind], values: Values, number: int
    ) -> bool:
        """Whether the rows are in the log; False if it does not take their columns."""
        count = len(values[0])
        if not count:
            return True
        try:
            appending.append(
                self._store,
                self._declared[name].policy,
                table,
                appending.table_of(columns, values),
                writer=self._index.writer,
                sequence=number,
                opened=self._opened,
            )
        except DataError as exc:
            self._metrics.faults[f"refused: {name}"] = str(exc)
            return False
        self._metrics.faults.pop(f"refused: {name}", None)
        self._metrics.appended.labels(name, table).inc(count)
        return True


def restore(aside: Path, journal: Journal) -> None:
    """Hand back what was set aside under other policies, to be appended or set aside again."""
    for path in sorted(aside.glob("*.log")):
        journal.adopt(path)


def _current(values: Values, written: Columns, wanted: Columns) -> Values | None:
    """Rows in today's columns; None if a column changed its type.

    A column of another policy is left out. So are values that were written before the column's privacy changed.
    """
    if written == wanted:
        return values
    found = {column.name: (column, place) for place, column in enumerate(written)}
    current: list[Sequence[Any]] = []
    for column in wanted:
        then, place = found.get(column.name, (None, -1))
        if then is not None and then.privacy == column.privacy:
            if then.kind != column.kind:
                return None
            current.append(values[place])
        else:
            current.append([None] * len(values[0]))
    return current
