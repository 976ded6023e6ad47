"""From what was sent to what is kept: what a sender can be told about is checked here, before it is acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from itertools import compress
from typing import Any

from kedge.body import shown
from kedge.collector import kserve, labels
from kedge.collector.declared import Declared, Row, time_of
from kedge.collector.entries import Taken
from kedge.collector.events import REQUEST, Event
from kedge.collector.own import OwnEvents
from kedge.collector.payloads import PREDICTION
from kedge.collector.rejection import RequestRejected
from kedge.collector.settings import Settings
from kedge.tables.appending import Table

MICROSECONDS = 1_000_000


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

    def batch(self, body: bytes, now: int) -> list[Taken] | None:
        """Many own events at once, if all are good; None if :meth:`event` has to say which are not."""
        found = self._own.columns(body, now)
        if found is None:
            return None
        model, columns = found
        if self._mistimed(min(columns[1]), now) or self._mistimed(max(columns[1]), now):
            return None
        count = len(columns[0])
        if self._sample < 1:
            chosen = [sampled(identity, self._sample) for identity in columns[0]]
            columns = [tuple(compress(column, chosen)) for column in columns]
        kept = len(columns[0])
        taken = [Taken(model.name, "predictions", columns=columns, count=kept)] if kept else []
        if kept < count:
            taken.append(Taken(model.name, "predictions", count=count - kept))
        return taken

    def checked_label(self, model: Declared, label: Any, now: int) -> tuple[dict[str, Any], int | None]:
        """A label's columns and when it was observed. One of the future would outlast every correction."""
        columns, observed = labels.row(model.policy, label)
        if observed is not None and self._ahead and observed - now > self._ahead:
            ahead = (observed - now) / MICROSECONDS
            raise RequestRejected(
                "clock", f"observed_at is {ahead:,.0f} s ahead of the collector's clock; set the sender's"
            )
        return columns, observed

    def label(self, name: str, label: Any, now: int) -> Taken:
        """One label of a model."""
        columns, observed = self.checked_label(self.model(name), label, now)
        identity = columns["_id"]
        if not self._sampled(identity):
            return Taken(name, "labels")
        return Taken(name, "labels", rows=((identity, columns["_label"], now if observed is None else observed, now),))

    def model(self, name: Any) -> Declared:
        """The declared model of this name."""
        found = self._declared.get(name) if type(name) is str else None
        if found is None:
            raise RequestRejected(
                "unknown-model", f"model {shown(name)} is not declared; {', '.join(self._declared)} are"
            )
        return found

    def _prediction(self, event: Event, now: int) -> Taken:
        data = event.data
        if type(data) is not dict:
            raise RequestRejected("malformed", f"data of {PREDICTION} must be an object, got {shown(data)}")
        model = self.model(data.get("model"))
        return self._prediction_of(model, model.row(event.id, data, self._time(event.time, now), now))

    def _prediction_of(self, model: Declared, row: Row) -> Taken:
        return Taken(model.name, "predictions", rows=(row,) if self._sampled(row[0]) else ())

    def _logged(self, event: Event, now: int) -> Taken:
        """What KServe's logger passes on: each row of a request or a response under an id of its own."""
        name, slot = kserve.service(event.attributes, self._declared)
        model = self.model(name)
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
        return Taken(name, table, rows=kept, patient=False)

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
