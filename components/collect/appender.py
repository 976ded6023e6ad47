"""From the journal into the prediction log: segment by segment, each exactly once, in the background."""

from __future__ import annotations

import io
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from components.collect import kserve
from components.collect.declared import Declared, key_of
from components.collect.entries import ROWS, Item, Schemas, item_of, rows_of
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
    labels: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """By model and key."""
    halves: list[Item] = field(default_factory=list)
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
            aside: Folder for rows that the log refuses for good, so that nothing acknowledged is thrown away.
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
        predictions = {name: self._fresh(name, batches, segment, change) for name, batches in segment.rows.items()}
        labels = self._fresh_labels(segment, change)
        rows = sum(self._write("predictions", name, table, number) for name, table in predictions.items())
        rows += sum(self._write("labels", name, table, number) for name, table in labels.items())
        try:
            self._index.apply(change)
        except sqlite3.Error as exc:
            raise StoreError(f"the collector's index cannot be written: {exc}") from exc
        self._metrics.duplicates.inc(segment.duplicates)
        return rows

    def _read(self, number: int) -> Segment:
        segment = Segment()
        strangers: list[Item] = []
        for kind, payload in self._journal.read(number, self._metrics.damaged):
            if kind == ROWS:
                name, batch = rows_of(payload, self._schemas)
                if name in self._declared:
                    segment.rows[name].append(batch)
                else:
                    strangers.append(Item("p", name, "", orjson.dumps(batch.to_pylist())))
                continue
            item = item_of(kind, payload)
            if item.model not in self._declared:
                strangers.append(item)
            elif item.kind == "l":
                segment.duplicates += item.key in segment.labels[item.model]
                segment.labels[item.model].setdefault(item.key, item.body)
            else:
                segment.halves.append(item)
        self._set_aside(strangers, number)
        return segment

    def _set_aside(self, items: Sequence[Item], number: int) -> None:
        """Keep what was acknowledged for models whose policy was taken away between two starts."""
        by_model: dict[str, list[bytes]] = defaultdict(list)
        for item in items:
            by_model[item.model].append(item.body)
        for model, bodies in by_model.items():
            write_file(self._aside / f"undeclared-{model}-{number:012d}.jsonl", b"\n".join(bodies) + b"\n")
            self._metrics.aside(model, len(bodies), f"model {model} is not declared any more")

    def _pair(self, segment: Segment, change: Change) -> None:
        """Join requests with their answers, those of this segment and those that waited."""
        known = self._index.known({half.key for half in segment.halves})
        halves = [half for half in segment.halves if half.key not in known]
        here = self._index.halves({half.key for half in halves})
        waited = set(here)
        for half in halves:
            here.setdefault((half.key, half.kind), half.body)
        models = {half.key: half.model for half in halves}
        for key, model in models.items():
            request, response = here.get((key, "q")), here.get((key, "r"))
            if request is not None and response is not None:
                self._join(self._declared[model], orjson.loads(request), orjson.loads(response), segment)
                change.paired.append(key)
                change.appended.append(key)
                continue
            kind, body = ("q", request) if request is not None else ("r", response)
            if (key, kind) not in waited and body is not None:
                change.halves.append((key, kind, model, orjson.loads(body)["_received"], body))
        segment.duplicates += len(segment.halves) - 2 * len(change.paired) - len(change.halves)

    def _join(self, model: Declared, request: dict[str, Any], response: dict[str, Any], segment: Segment) -> None:
        rows = kserve.joined(model, request, response)
        if not rows:
            self._metrics.unequal.inc()
        kept = [row for row in rows if self._sample >= 1 or sampled(row["_id"], self._sample)]
        if kept:
            segment.rows[model.name].append(pa.RecordBatch.from_pylist(kept, schema=model.schema))

    def _fresh(self, name: str, batches: Sequence[pa.RecordBatch], segment: Segment, change: Change) -> pa.Table:
        """Predictions that are not in the log: of several of one id the first."""
        wanted = self._declared[name].schema.names
        tables = [
            pa.Table.from_batches([batch]).select([column for column in batch.schema.names if column in wanted])
            for batch in batches
            if batch.schema != self._declared[name].schema
        ]
        current = [batch for batch in batches if batch.schema == self._declared[name].schema]
        table = pa.concat_tables(
            [pa.Table.from_batches(current, self._declared[name].schema), *tables], promote_options="default"
        )
        keys = [key_of(name, identity) for identity in table["_id"].to_pylist()]
        first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        for key in self._index.known(first):
            del first[key]
        change.appended.extend(first)
        change.predicted.extend(first)
        segment.duplicates += len(keys) - len(first)
        return table if len(first) == len(keys) else table.take(pa.array(sorted(first.values()), pa.int64()))

    def _fresh_labels(self, segment: Segment, change: Change) -> dict[str, pa.Table]:
        """Labels that are not in the log; notes which of them have no prediction yet."""
        predicted = set(change.predicted)
        found = {}
        for name, bodies in segment.labels.items():
            known = self._index.known(bodies)
            segment.duplicates += len(known)
            labels = [orjson.loads(body) for key, body in bodies.items() if key not in known]
            change.appended.extend(key for key in bodies if key not in known)
            waiting = {key_of(name, label["_id"]) for label in labels} - predicted
            waiting -= self._index.known(waiting)
            change.waiting.extend((key, name) for key in waiting)
            found[name] = pa.Table.from_pylist(labels, schema=LABELS)
        return found

    def _write(self, kind: str, name: str, table: pa.Table, number: int) -> int:
        if not table.num_rows:
            return 0
        append = log.append_predictions if kind == "predictions" else log.append_labels
        policy = self._declared[name].policy
        try:
            append(self._store, policy, table, writer=self._index.writer, sequence=number)
        except DataError as exc:
            rows = io.BytesIO()
            pq.write_table(table, rows)
            write_file(self._aside / f"{kind}-{name}-{number:012d}.parquet", rows.getvalue())
            self._metrics.aside(name, table.num_rows, str(exc))
            return 0
        self._metrics.appended.labels(name, kind).inc(table.num_rows)
        return int(table.num_rows)
