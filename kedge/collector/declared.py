"""A declared model, and the checks that are the same for everything sent about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, NamedTuple

from kedge.body import shown
from kedge.choice import choose
from kedge.collector.payloads import MAX_ID, MAX_NAME
from kedge.collector.rejection import RequestRejected, invalid
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.tables import appending
from kedge.tables.outcomes import outcome_of
from kedge.tables.privacy import Features, Logged

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
Score = float | list[float]
Row = tuple[Any, ...]
"""A row in the order of its table's columns. Times are microseconds since 1970."""


class Column(NamedTuple):
    """A column of a table, and under which privacy its values were written; empty for kedge's own columns."""

    name: str
    kind: appending.Kind
    privacy: str


Columns = tuple[Column, ...]
Values = Sequence[Sequence[Any]]
"""Rows by column."""


class Declared:
    """What the collector needs of a policy, prepared once."""

    def __init__(self, policy: Policy, hash_key: bytes | None) -> None:
        """Raises UsageError if a feature is hashed and there is no key."""
        self.policy = policy
        self.name = policy.name
        self.binary = policy.model.task == "binary"
        self.classes = len(policy.model.classes)
        self.features = Features(policy, hash_key)
        self.columns: dict[appending.Table, Columns] = {table: _columns(policy, table) for table in appending.TABLES}
        features = policy.model.features
        self.called = {
            column: name for name, column in policy.model.columns.items() if name in features and column not in features
        }
        """Features by what tables call them, where that is no feature's name."""
        self._threshold = policy.model.threshold

    def row(self, identity: str, data: Mapping[str, Any], time: int, received: int) -> Row:
        """A prediction from an own event's ``data``; features changed as the policy's privacy asks.

        Raises:
            RequestRejected: a field is missing or of the wrong type.
        """
        features = data.get("features")
        if type(features) is not dict:
            raise invalid(f"model {self.name}: features must be an object, got {shown(features)}")
        score = self.score(data.get("score"))
        decision = data.get("prediction")
        latency = data.get("latency_ms")
        return (
            identity,
            time,
            received,
            text(data.get("version"), "version"),
            text(data.get("slot"), "slot"),
            score,
            self.decision(score) if decision is None else finite(decision, "prediction"),
            None if latency is None else finite(latency, "latency_ms"),
            *self.logged(features),
        )

    def logged(self, values: Mapping[str, Any]) -> tuple[Logged, ...]:
        """The features of a row as they may be logged; RequestRejected names one that is of another type."""
        try:
            return self.features.read(values)
        except DataError as exc:
            raise invalid(str(exc)) from None

    def outcome(self, label: Any) -> float:
        """A label as the log holds it; RequestRejected says why it is none."""
        try:
            return outcome_of(self.policy, label)
        except DataError as exc:
            raise invalid(str(exc)) from None

    def score(self, value: Any) -> Score:
        """The model's answer: a probability (binary), one of each class, or a finite number (regression)."""
        if self.classes:
            return self._chances(value)
        if type(value) not in (float, int) or not isfinite(value):
            raise invalid(f"model {self.name}: score must be a finite number, got {shown(value)}")
        if self.binary and not 0 <= value <= 1:
            raise invalid(f"model {self.name}: score must be a probability, 0 to 1, got {shown(value)}")
        return float(value)

    def _chances(self, value: Any) -> list[float]:
        """Probabilities of all classes, in the policy's order."""
        whole = type(value) is list and len(value) == self.classes
        if not whole or not all(type(each) in (float, int) and 0 <= each <= 1 for each in value):
            raise invalid(
                f"model {self.name}: score must be a list of {self.classes} probabilities, one a class in the order of "
                f"model.classes, got {shown(value)}"
            )
        return [float(each) for each in value]

    def decision(self, score: Score) -> float:
        """The decision: 0 or 1 at the policy's threshold, the place of a class, or a regression's value itself."""
        if isinstance(score, list):
            return float(choose(score, self.policy.model.costs.matrix))
        return float(score >= self._threshold) if self.binary else score


def model_of(declared: Mapping[str, Declared], name: Any) -> Declared:
    """The declared model of this name; RequestRejected where there is none."""
    found = declared.get(name) if type(name) is str else None
    if found is None:
        raise RequestRejected("unknown-model", f"model {shown(name)} is not declared; {', '.join(declared)} are")
    return found


def _columns(policy: Policy, table: appending.Table) -> Columns:
    """A table's columns as a policy has them today."""
    features = policy.model.features
    return tuple(
        Column(name, kind, features[name].privacy if name in features else "")
        for name, kind in appending.columns_of(policy, table).items()
    )


def identity_of(value: Any) -> str:
    """An id as it may be logged: 1 to 256 printable characters."""
    if type(value) is str and 0 < len(value) <= MAX_ID and value.isprintable():
        return value
    raise invalid(f"id must be 1 to {MAX_ID} printable characters, got {shown(value)}")


def time_of(value: Any, name: str = "time") -> int:
    """An RFC 3339 time in microseconds since 1970.

    >>> time_of("1990-01-01T01:00:00.5+01:00") == 631152000_500000
    True
    """
    try:
        time = datetime.fromisoformat(value)
        if EARLIEST <= time < LATEST:
            return microseconds(time)
    except (TypeError, ValueError, OverflowError):
        pass
    raise invalid(f"{name} must be an RFC 3339 time with offset, from 1990 to 2199, got {shown(value)}") from None


def microseconds(time: datetime) -> int:
    """A time with an offset in microseconds since 1970."""
    return (time - EPOCH) // MICROSECOND


def text(value: Any, name: str) -> str:
    """A short name from outside; missing is empty."""
    if value is None:
        return ""
    if type(value) is str and len(value) <= MAX_NAME and value.isprintable():
        return value
    raise invalid(f"{name} must be at most {MAX_NAME} printable characters, got {shown(value)}")


def finite(value: Any, name: str) -> float:
    """A finite number; true and false count as 1 and 0."""
    if type(value) in (float, int, bool) and isfinite(value):
        return float(value)
    raise invalid(f"{name} must be a finite number, got {shown(value)}")
