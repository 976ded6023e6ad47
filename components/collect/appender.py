"""From the journal into the prediction log: segment by segment, each exactly once, in the background."""

from __future__ import annotations

import io
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from components.collect import kserve
from components.collect.index import Change, Index
from components.collect.journal import Entry, Journal
from components.collect.metrics import Metrics
from components.collect.prediction import Declared, key_of
from components.errors import DataError, StoreError
from components.store import Store, write_file
from components.tables import log

DAY_SECONDS = 86_400
MICROSECONDS = 1_000_000


@dataclass
class Batch:
    """What one segment adds to the log."""

    change: Change
    predictions: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """By model and key: the first of several events of one id counts."""
    labels: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    duplicates: int = 0


class Appender:
    """Reads closed segments, leaves out what is there already, joins halves and appends."""

    def __init__(
        self,
        store: Store,
        declared: Mapping[str, Declared],
        journal: Journal,
        index: Index,
        metrics: Metrics,
        aside: Path,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            aside: Folder for rows that the log refuses for good, so that nothing acknowledged is thrown away.
        """
        self._store = store
        self._declared = declared
        self._journal = journal
        self._index = index
        self._metrics = metrics
        self._aside = aside

    def run(self, segments: list[int]) -> int:
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
        batch = self._batch(number)
        rows = 0
        for name, lines in batch.predictions.items():
            model = self._declared[name]
            table = _table(lines.values(), _without_day(log.schema(model.policy)))
            rows += self._write("predictions", model, table, number)
        for name, lines in batch.labels.items():
            model = self._declared[name]
            table = _table(lines.values(), _without_day(log.LABELS))
            rows += self._write("labels", model, table, number)
        try:
            self._index.apply(batch.change)
        except sqlite3.Error as exc:
            raise StoreError(f"the collector's index cannot be written: {exc}") from exc
        self._metrics.duplicates.inc(batch.duplicates)
        return rows

    def _write(self, kind: str, model: Declared, table: pa.Table, number: int) -> int:
        append = log.append_predictions if kind == "predictions" else log.append_labels
        try:
            append(self._store, model.policy, table, writer=self._index.writer, sequence=number)
        except DataError as exc:
            rows = io.BytesIO()
            pq.write_table(table, rows)
            write_file(self._aside / f"{kind}-{model.name}-{number:012d}.parquet", rows.getvalue())
            self._metrics.aside(model.name, table.num_rows, str(exc))
            return 0
        self._metrics.appended.labels(model.name, kind).inc(table.num_rows)
        return int(table.num_rows)

    def _batch(self, number: int) -> Batch:
        batch = Batch(Change(number, int(time.time() // DAY_SECONDS)))
        halves: list[Entry] = []
        strangers: list[Entry] = []
        for entry in self._journal.read(number, self._metrics.damaged):
            if entry.model not in self._declared:
                strangers.append(entry)
            elif entry.kind in "qr":
                halves.append(entry)
            else:
                rows = batch.predictions if entry.kind == "p" else batch.labels
                batch.duplicates += entry.key in rows[entry.model]
                rows[entry.model].setdefault(entry.key, entry.body)
        self._set_aside(strangers, number)
        self._pair(halves, batch)
        self._leave_out_known(batch)
        self._note_waiting(batch)
        return batch

    def _set_aside(self, entries: list[Entry], number: int) -> None:
        """Keep what was acknowledged for models whose policy was taken away between two starts."""
        by_model: dict[str, list[bytes]] = defaultdict(list)
        for entry in entries:
            by_model[entry.model].append(entry.body)
        for model, bodies in by_model.items():
            write_file(self._aside / f"undeclared-{model}-{number:012d}.jsonl", b"\n".join(bodies) + b"\n")
            self._metrics.aside(model, len(bodies), f"model {model} is not declared any more")

    def _pair(self, halves: list[Entry], batch: Batch) -> None:
        """Join requests with their answers, those of this segment and those that waited."""
        paired = self._index.known({entry.key for entry in halves})
        batch.duplicates += sum(entry.key in paired for entry in halves)
        halves = [entry for entry in halves if entry.key not in paired]
        here: dict[tuple[str, str], bytes] = self._index.halves({entry.key for entry in halves})
        waited = set(here)
        for entry in halves:
            batch.duplicates += (entry.key, entry.kind) in here
            here.setdefault((entry.key, entry.kind), entry.body)
        models = {entry.key: entry.model for entry in halves}
        for key, model in models.items():
            request, response = here.get((key, "q")), here.get((key, "r"))
            if request is not None and response is not None:
                self._join(self._declared[model], orjson.loads(request), orjson.loads(response), batch)
                batch.change.paired.append(key)
                batch.change.appended.append(key)
                continue
            kind, body = ("q", request) if request is not None else ("r", response)
            if (key, kind) not in waited and body is not None:
                received = orjson.loads(body)["_received"]
                batch.change.halves.append((key, kind, model, received, body))

    def _join(self, model: Declared, request: dict[str, object], response: dict[str, object], batch: Batch) -> None:
        rows = kserve.joined(model, request, response)
        if not rows:
            self._metrics.unequal.inc()
        for row in rows:
            key = key_of(model.name, str(row["_id"]))
            batch.predictions[model.name].setdefault(key, orjson.dumps(row))

    def _leave_out_known(self, batch: Batch) -> None:
        for rows in (batch.predictions, batch.labels):
            for model in list(rows):
                known = self._index.known(rows[model])
                batch.duplicates += len(known)
                for key in known:
                    del rows[model][key]
                batch.change.appended.extend(rows[model])
                if not rows[model]:
                    del rows[model]

    def _note_waiting(self, batch: Batch) -> None:
        """Which labels have no prediction, which predictions end a label's waiting."""
        change = batch.change
        for rows in batch.predictions.values():
            change.predicted.extend(rows)
        here = set(change.predicted)
        for model, lines in batch.labels.items():
            keys = {key_of(model, orjson.loads(body)["_id"]) for body in lines.values()}
            missing = keys - here - self._index.known(keys - here)
            change.waiting.extend((key, model) for key in missing)


def _table(lines: Iterable[bytes], schema: pa.Schema) -> pa.Table:
    """JSON lines as a table; times are microseconds since 1970."""
    body = b"\n".join(lines)
    longest = max(map(len, body.split(b"\n")))
    plain = pa.schema([(field.name, pa.int64() if field.type == log.TIME else field.type) for field in schema])
    options = pa.json.ParseOptions(explicit_schema=plain, unexpected_field_behavior="ignore")
    block = pa.json.ReadOptions(block_size=max(1 << 20, longest + 1), use_threads=False)
    return (
        pa.json.read_json(io.BytesIO(body), read_options=block, parse_options=options).select(plain.names).cast(schema)
    )


def _without_day(schema: pa.Schema) -> pa.Schema:
    return schema.remove(schema.get_field_index("_day"))
