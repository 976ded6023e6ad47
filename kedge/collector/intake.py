"""From what was sent to what is kept: what a sender can be told about is checked here, before it is acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import compress, islice
from typing import Any

from kedge.body import json_of, shown
from kedge.collector import kserve, labels
from kedge.collector.declared import Declared, Row, Values, model_of, time_of
from kedge.collector.entries import Taken, frame_of
from kedge.collector.events import REQUEST, Event, structured
from kedge.collector.own import OwnEvents
from kedge.collector.payloads import MAX_BATCH, PREDICTION
from kedge.collector.rejection import REJECTIONS, Rejection, RequestRejected, malformed
from kedge.collector.settings import Settings
from kedge.tables.appending import Table
from kedge.tables.rowwise import Rows

MICROSECONDS = 1_000_000
CHUNK = 5_000
"""Labels that are kept together."""
MAX_NAMED = 20
"""Faults named in one answer."""

Faults = dict[int, Rejection]
"""What is wrong with the events of a batch, by their places."""


class Intake:
    """Checks what is sent. Without effects."""

    def __init__(self, declared: Mapping[str, Declared], settings: Settings) -> None:
        self._declared = declared
        self._own = OwnEvents(declared)
        self._ahead = int(settings.max_ahead_seconds * MICROSECONDS)
        self._age = int(settings.max_age_seconds * MICROSECONDS)
        self._sample = settings.sample
        self._annotation = settings.version_annotation

    def event(self, event: Event, now: int) -> Taken:
        """One CloudEvent, received ``now`` (microseconds since 1970).

        Raises:
            RequestRejected: what is wrong with it.
        """
        return self._prediction(event, now) if event.type == PREDICTION else self._logged(event, now)

    def one(self, body: bytes, now: int) -> Taken | None:
        """An own event, if it is good; None if :meth:`event` has to say what it is, or what is wrong with it."""
        found = self._own.row(body, now)
        if found is None or self._mistimed(found[1][1], now):
            return None
        return self._prediction_of(*found)

    def batch(self, body: bytes, now: int) -> tuple[list[Taken], Faults]:
        """The good events of a batch, and what is wrong with the others.

        Raises:
            RequestRejected, UnreadableBody: it is no batch, or too large.
        """
        if (whole := self._own.columns(body, now)) is not None:
            model, columns = whole
            if not self._mistimed(min(columns[1]), now) and not self._mistimed(max(columns[1]), now):
                return [self._sampled_batch(model, columns)], {}
        values = json_of(body)
        if type(values) is not list:
            raise malformed(f"a CloudEvents batch is a JSON array, got {shown(values)}")
        if len(values) > MAX_BATCH:
            raise RequestRejected("too-large", f"a batch has at most {MAX_BATCH:,} events, got {len(values):,}")
        taken: list[Taken] = []
        faults: Faults = {}
        for place, value in enumerate(values):
            try:
                taken.append(self.event(structured(value), now))
            except REJECTIONS as exc:
                faults[place] = exc
        return taken, faults

    def _sampled_batch(self, model: Declared, columns: Values) -> Taken:
        count = len(columns[0])
        if self._sample < 1:
            chosen = [sampled(identity, self._sample) for identity in columns[0]]
            columns = [tuple(compress(column, chosen)) for column in columns]
        kept = len(columns[0])
        frame = frame_of(model, "predictions", columns) if kept else b""
        return Taken(model.name, "predictions", frame=frame, count=count, left_out=count - kept)

    def labels(self, model: Declared, items: Rows, now: int) -> Iterator[Taken]:
        """Labels of a model, some thousand together.

        Raises:
            RequestRejected: at the end, if some are no labels; the first of them are named.
        """
        faults, count = [], 0
        while chunk := list(islice(items, CHUNK)):
            rows: list[Row] = []
            for place, item in chunk:
                try:
                    rows.append(self._label(model, item, now))
                except RequestRejected as exc:
                    count += 1
                    if count <= MAX_NAMED:
                        faults.append((exc.reason, f"{place}: {exc}"))
            kept = [row for row in rows if self._sampled(row[0])]
            yield Taken(model.name, "labels", rows=kept, count=len(rows), left_out=len(rows) - len(kept))
        if faults:
            more = f"; and {count - MAX_NAMED:,} more" if count > MAX_NAMED else ""
            named = "; ".join(fault for _, fault in faults)
            raise RequestRejected(faults[0][0], f"nothing was taken: {named}{more}")

    def _label(self, model: Declared, label: Any, now: int) -> Row:
        """A label's row. One observed in the future would outlast every correction."""
        identity, outcome, observed = labels.read(model, label)
        if observed is not None and self._ahead and observed - now > self._ahead:
            ahead = (observed - now) / MICROSECONDS
            raise RequestRejected(
                "clock", f"observed_at is {ahead:,.0f} s ahead of the collector's clock; set the sender's"
            )
        return identity, outcome, now if observed is None else observed, now

    def _prediction(self, event: Event, now: int) -> Taken:
        data = event.data
        if type(data) is not dict:
            raise malformed(f"data of {PREDICTION} must be an object, got {shown(data)}")
        model = model_of(self._declared, data.get("model"))
        return self._prediction_of(model, model.row(event.id, data, self._time(event.time, now), now))

    def _prediction_of(self, model: Declared, row: Row) -> Taken:
        kept = self._sampled(row[0])
        return Taken(model.name, "predictions", rows=(row,) if kept else (), left_out=int(not kept))

    def _logged(self, event: Event, now: int) -> Taken:
        """What KServe's logger passes on: each row of a request or a response under an id of its own."""
        name, slot = kserve.service(event.attributes, self._declared)
        model = model_of(self._declared, name)
        version = kserve.version(event.attributes, self._annotation)
        table: Table = "requests" if event.type == REQUEST else "responses"
        rows: list[Row] | None = None
        if event.attributes.get("component") == "explainer":
            pass
        elif event.type == REQUEST:
            rows = kserve.request_rows(model, event.data)
        elif (scores := kserve.response_scores(model, event.data)) is not None:
            rows = [(score, model.decision(score)) for score in scores]
        if rows is None:
            return Taken(name, table, patient=False, other=True)
        time, count = self._time(event.time, now), len(rows)
        ids = [kserve.row_identity(event.id, place, count) for place in range(count)]
        kept = tuple(
            (identity, time, now, version, slot, count, *row)
            for identity, row in zip(ids, rows, strict=True)
            if self._sampled(identity)
        )
        return Taken(name, table, rows=kept, left_out=int(not kept), patient=False)

    def _time(self, given: Any, now: int) -> int:
        if given is None:
            return now
        time = time_of(given)
        fault = self._mistimed(time, now)
        if fault:
            raise RequestRejected("clock", f"time {shown(given)} is {fault}")
        return time

    def _mistimed(self, time: int, now: int) -> str:
        """What is wrong with an event's time, empty if nothing is."""
        if self._ahead and time - now > self._ahead:
            return f"{(time - now) / MICROSECONDS:,.0f} s ahead of the collector's clock; set the sender's"
        if self._age and now - time > self._age:
            return f"{(now - time) / MICROSECONDS:,.0f} s ago, too old for this log"
        return ""

    def _sampled(self, identity: str) -> bool:
        return self._sample >= 1 or sampled(identity, self._sample)


def sampled(identity: str, share: float) -> bool:
    """Whether an id belongs to the sample: the same for a prediction, its request, response and labels, everywhere.

    >>> sampled("a7", 1.0), sampled("a7", 0.0)
    (True, False)
    """
    number = int.from_bytes(blake2b(identity.encode(), digest_size=8).digest(), "big")
    return number < share * 2**64
