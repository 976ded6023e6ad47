"""Predictions, whoever sent them, as lines of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from math import isfinite
from typing import Any

import orjson

from components.collect.journal import Kind, line
from components.collect.privacy import FeatureReader, Logged
from components.collect.refusal import Refused, shown
from components.policy import Policy

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class Declared:
    """A declared model: what the collector needs of its policy, prepared once."""

    def __init__(self, policy: Policy, hash_key: bytes | None) -> None:
        self.policy = policy
        self.name = policy.name
        self.binary = policy.model.task == "binary"
        self.features = FeatureReader(policy, hash_key)
        self._threshold = policy.model.threshold

    def score(self, value: Any) -> float:
        """The model's answer: a probability (binary) or a finite number (regression)."""
        if type(value) not in (float, int) or not isfinite(value):
            raise Refused("invalid", f"model {self.name}: score must be a finite number, got {shown(value)}")
        if self.binary and not 0 <= value <= 1:
            raise Refused("invalid", f"model {self.name}: score must be a probability, 0 to 1, got {shown(value)}")
        return float(value)

    def decision(self, score: float) -> float:
        """The decision at the policy's threshold, 0 or 1; of a regression the value itself."""
        return float(score >= self._threshold) if self.binary else score

    def row(self, identity: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of an own event's ``data``.

        Raises:
            Refused: a field is missing or of the wrong type.
        """
        features = data.get("features")
        if type(features) is not dict:
            raise Refused("invalid", f"model {self.name}: features must be an object, got {shown(features)}")
        score = self.score(data.get("score"))
        decision = data.get("prediction")
        latency = data.get("latency_ms")
        row: dict[str, Any] = {
            "_id": identity,
            "_version": text(data.get("version"), "version"),
            "_slot": text(data.get("slot"), "slot"),
            "_score": score,
            "_prediction": self.decision(score) if decision is None else finite(decision, "prediction"),
            "_latency_ms": None if latency is None else finite(latency, "latency_ms"),
        }
        row.update(self.features.read(features))
        return row


def encoded(kind: Kind, model: str, key: str, content: bytes, *, time: int, received: int) -> bytes:
    """A journal line of a JSON object, with its times put in front: they are not part of what was sent."""
    return line(kind, model, key, b'{"_time":%d,"_received":%d,%b' % (time, received, content[1:]))


def content(row: Mapping[str, Logged]) -> bytes:
    """The row as JSON."""
    return orjson.dumps(row)


def key_of(model: str, identity: str, what: str = "") -> str:
    """32 hex digits that stand for one thing sent about one id of one model."""
    return blake2b(f"{model}\0{identity}\0{what}".encode(), digest_size=16).hexdigest()


def identity_of(value: Any) -> str:
    """An id as it may be logged: 1 to 256 printable characters."""
    if type(value) is str and 0 < len(value) <= 256 and value.isprintable():
        return value
    raise Refused("invalid", f"id must be 1 to 256 printable characters, got {shown(value)}")


def time_of(value: Any, name: str = "time") -> int:
    """An RFC 3339 time in microseconds since 1970.

    >>> time_of("1990-01-01T01:00:00.5+01:00") == 631152000_500000
    True
    """
    try:
        time = datetime.fromisoformat(value)
        if EARLIEST <= time < LATEST:
            return (time - EPOCH) // MICROSECOND
    except (TypeError, ValueError, OverflowError):
        pass
    raise Refused(
        "invalid", f"{name} must be an RFC 3339 time with offset, from 1990 to 2199, got {shown(value)}"
    ) from None


def text(value: Any, name: str) -> str:
    """A short name from outside; missing is empty."""
    if value is None:
        return ""
    if type(value) is str and len(value) <= 128 and (value.isprintable() or not value):
        return value
    raise Refused("invalid", f"{name} must be at most 128 printable characters, got {shown(value)}")


def finite(value: Any, name: str) -> float:
    """A finite number; true and false count as 1 and 0."""
    if type(value) in (float, int, bool) and isfinite(value):
        return float(value)
    raise Refused("invalid", f"{name} must be a finite number, got {shown(value)}")
