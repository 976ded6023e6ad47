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
from components.collect.declared import Declared, Row, key_of
from components.collect.entries import Item, Schemas, decode, table
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

    rows: dict[str, dict[str, list[Row]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """By model and schema."""
    labels: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
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
        predictions = {name: self._fresh(name, segment, change) for name in segment.rows}
        labels = self._fresh_labels(segment, change)
        appended = sum(self._write("predictions", name, rows, number) for name, rows in predictions.items())
        appended += sum(self._write("labels", name, rows, number) for name, rows in labels.items())
        try:
            self._index.apply(change)
        except sqlite3.Error as exc:
            raise StoreError(f"the collector's index cannot be written: {exc}") from exc
        self._metrics.duplicates.inc(segment.duplicates)
        return appended

    def _read(self, number: int) -> Segment:
        segment = Segment()
        strangers: list[Item] = []
        for kind, payload in self._journal.read(number, self._metrics.damaged):
            item = decode(kind, payload)
            if item.model not in self._declared:
                strangers.append(item)
            elif item.kind == "p":
                segment.rows[item.model][item.key].extend(orjson.loads(item.body))
            elif item.kind == "l":
                key = bytes.fromhex(item.key)
                segment.duplicates += key in segment.labels[item.model]
                segment.labels[item.model].setdefault(key, item.body)
            else:
                segment.halves.append(item)
        self._set_aside(strangers, number)
        return segment

    def _set_aside(self, items: Sequence[Item], number: int) -> None:
        """Keep what was acknowledged under a policy that was taken away or changed a column's type since."""
        by_model: dict[str, list[bytes]] = defaultdict(list)
        for item in items:
            by_model[item.model].append(item.body)
        for model, bodies in by_model.items():
            write_file(self._aside / f"rows-{model}-{number:012d}.jsonl", b"\n".join(bodies) + b"\n")
            self._metrics.aside(
                model, len(bodies), f"rows acknowledged under another policy of {model} lie in {self._aside}"
            )

    def _pair(self, segment: Segment, change: Change) -> None:
        """Join requests with their answers, those of this segment and those that waited."""
        models = {bytes.fromhex(half.key): half.model for half in segment.halves}
        for key in self._index.known(models):
            del models[key]
        here = self._index.halves(models)
        waited = set(here)
        for half in segment.halves:
            key = bytes.fromhex(half.key)
            segment.duplicates += key not in models or (key, half.kind) in here
            here.setdefault((key, half.kind), half.body)
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

    def _join(self, model: Declared, request: dict[str, Any], response: dict[str, Any], segment: Segment) -> None:
        rows = kserve.joined(model, request, response)
        if not rows:
            self._metrics.unequal.inc()
        kept = [row for row in rows if self._sample >= 1 or sampled(row[0], self._sample)]
        segment.rows[model.name][request["schema"]].extend(kept)

    def _fresh(self, name: str, segment: Segment, change: Change) -> pa.Table:
        """Predictions that are not in the log: of several of one id the first."""
        rows = self._table(name, segment.rows[name], change.segment)
        keys = [key_of(name, identity) for identity in rows["_id"].to_pylist()]
        first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        for key in self._index.known(first):
            del first[key]
        change.appended.extend(first)
        change.predicted.extend(first)
        segment.duplicates += len(keys) - len(first)
        return rows if len(first) == len(keys) else rows.take(pa.array(sorted(first.values()), pa.int64()))

    def _table(self, name: str, rows: Mapping[str, Sequence[Row]], number: int) -> pa.Table:
        """Rows of one model; what an earlier policy logged and today's does not is left out."""
        wanted = self._declared[name].schema
        tables = [wanted.empty_table()]
        for key, group in rows.items():
            read = table(group, self._schemas.find(key))
            read = read.select([column for column in read.column_names if column in wanted.names])
            if all(field.type == wanted.field(field.name).type for field in read.schema):
                tables.append(read)
            else:
                self._set_aside([Item("p", name, key, orjson.dumps(row)) for row in group], number)
        return pa.concat_tables(tables, promote_options="default")

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

    def _write(self, kind: str, name: str, rows: pa.Table, number: int) -> int:
        if not rows.num_rows:
            return 0
        append = log.append_predictions if kind == "predictions" else log.append_labels
        policy = self._declared[name].policy
        try:
            append(self._store, policy, rows, writer=self._index.writer, sequence=number)
        except DataError as exc:
            file = io.BytesIO()
            pq.write_table(rows, file)
            write_file(self._aside / f"{kind}-{name}-{number:012d}.parquet", file.getvalue())
            self._metrics.aside(name, rows.num_rows, str(exc))
            return 0
        self._metrics.appended.labels(name, kind).inc(rows.num_rows)
        return int(rows.num_rows)
