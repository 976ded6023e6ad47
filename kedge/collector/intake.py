"""From what was sent to what is kept: what a sender can be told about is checked here, before it is acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from itertools import compress
from typing import Any

import orjson

from kedge.collector import kserve, labels
from kedge.collector.declared import Declared, Row, key_of, time_of
from kedge.collector.entries import PREDICTIONS, Kind, Taken
from kedge.collector.events import REQUEST, Event
from kedge.collector.own import OwnEvents
from kedge.collector.payloads import PREDICTION
from kedge.collector.recent import Recent
from kedge.collector.rejection import RequestRejected, shown
from kedge.collector.settings import Settings

MICROSECONDS = 1_000_000
RECENT = 25_000


class Intake:
    """Checks what is sent. Without effects but for its memory of recent ids."""

    def __init__(self, declared: Mapping[str, Declared], settings: Settings) -> None:
        self._declared = declared
        self._own = OwnEvents(declared)
        self._recent = Recent(RECENT)
        self._ahead = int(settings.max_ahead_seconds * MICROSECONDS)
        self._age = int(settings.max_age_seconds * MICROSECONDS)
        self._sample = settings.sample
        self._annotation = settings.version_annotation

    def event(self, event: Event, now: int) -> Taken:
        """One CloudEvent, received ``now`` (microseconds since 1970).

        Raises:
            RequestRejected: what is wrong with it.
        """
        return self._prediction(event, now) if event.type == PREDICTION else self._half(event, now)

    def one(self, body: bytes, now: int) -> Taken | None:
        """An own event, if it is good; None if :meth:`event` has to say what it is, or what is wrong with it."""
        found = self._own.row(body, now)
        if found is None or self._mistimed(found[1][1], now):
            return None
        return self._taken(*found)

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
        keys = [f"{model.name} {identity}" for identity in columns[0]]
        if self._recent.any_conflicts(keys, map(hash, zip(*columns[3:], strict=True))):
            return None
        taken = [Taken(model.name, PREDICTIONS, columns=columns, conflict_keys=keys, count=len(keys))] if keys else []
        if len(keys) < count:
            taken.append(Taken(model.name, PREDICTIONS, count=count - len(keys)))
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
            return Taken(name, "l")
        key = key_of(name, identity, f"label {columns['_label']!r} {observed}")
        columns |= {"_observed": now if observed is None else observed, "_received": now}
        return Taken(name, "l", body=orjson.dumps(columns), key=key)

    def model(self, name: Any) -> Declared:
        """The declared model of this name."""
        found = self._declared.get(name) if type(name) is str else None
        if found is None:
            raise RequestRejected(
                "unknown-model", f"model {shown(name)} is not declared; {', '.join(self._declared)} are"
            )
        return found

    def forget(self, taken: Taken) -> None:
        """It was not acknowledged after all: its id is free for another payload."""
        for key in taken.conflict_keys:
            self._recent.forget(key)

    def _prediction(self, event: Event, now: int) -> Taken:
        data = event.data
        if type(data) is not dict:
            raise RequestRejected("malformed", f"data of {PREDICTION} must be an object, got {shown(data)}")
        model = self.model(data.get("model"))
        return self._taken(model, model.row(event.id, data, self._time(event.time, now), now))

    def _taken(self, model: Declared, row: Row) -> Taken:
        identity = row[0]
        if not self._sampled(identity):
            return Taken(model.name, PREDICTIONS)
        conflict_key = f"{model.name} {identity}"
        self._refuse_conflict(conflict_key, _digest(row), identity)
        return Taken(model.name, PREDICTIONS, rows=(row,), conflict_keys=(conflict_key,))

    def _half(self, event: Event, now: int) -> Taken:
        name, slot = kserve.service(event.attributes, self._declared)
        model = self.model(name)
        content: dict[str, Any] = {
            "id": event.id,
            "slot": slot,
            "version": kserve.version(event.attributes, self._annotation),
        }
        kind: Kind = "q" if event.type == REQUEST else "r"
        if kind == "q":
            content["schema"] = model.columns_key
            content["rows"] = kserve.request_rows(model, event.data)
        else:
            content["scores"] = kserve.response_scores(model, event.data)
        rows = len(content["rows" if kind == "q" else "scores"])
        times = {"_time": self._time(event.time, now), "_received": now}
        if not any(self._sampled(kserve.row_identity(event.id, row, rows)) for row in range(rows)):
            return Taken(name, kind, patient=False)
        conflict_key = f"{name} {event.id} {kind}"
        self._refuse_conflict(conflict_key, hash(orjson.dumps(content)), event.id)
        body = orjson.dumps(content | times)
        key = key_of(name, event.id, "pair")
        return Taken(name, kind, body=body, key=key, conflict_keys=(conflict_key,), patient=False)

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

    def _refuse_conflict(self, key: str, digest: int, identity: str) -> None:
        if self._recent.conflicts(key, digest):
            raise RequestRejected(
                "conflict", f"another payload was acknowledged under id {shown(identity)}; the first stays"
            )

    def _sampled(self, identity: str) -> bool:
        return self._sample >= 1 or sampled(identity, self._sample)


def _digest(row: Row) -> int:
    """Of all but the id and the times: two events with the same are the same event sent twice."""
    return hash(row[3:])


def sampled(identity: str, share: float) -> bool:
    """Whether an id belongs to the sample: the same for a prediction, its halves and its labels, on every replica.

    >>> sampled("a7", 1.0), sampled("a7", 0.0)
    (True, False)
    """
    number = int.from_bytes(blake2b(identity.encode(), digest_size=8).digest(), "big")
    return number < share * 2**64
