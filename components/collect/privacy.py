"""Features as the log may hold them. What this module does not let through reaches no disk."""

from __future__ import annotations

import hmac
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from components.collect.refusal import Refused, shown
from components.errors import UsageError
from components.policy import Feature, Policy

Logged = float | str | None
Reader = Callable[[Any], Logged]
Column = Callable[[Sequence[Any]], pa.Array]

FAULTS = (TypeError, ValueError, KeyError, OverflowError)
"""What readers and Arrow raise at a value of the wrong type."""
TRUTH = {None: None, False: 0.0, True: 1.0}


class Features:
    """Reads the features of predictions as the policy of their model declares them."""

    def __init__(self, policy: Policy, hash_key: bytes | None) -> None:
        """Prepare a reader for each feature.

        Raises:
            UsageError: the policy hashes a feature and there is no key.
        """
        features = policy.model.features
        hashed = [name for name, feature in features.items() if feature.privacy == "hash"]
        if hashed and not hash_key:
            raise UsageError(
                f"policy {policy.name}: feature {hashed[0]!r} has `privacy: hash`, which needs a secret key; "
                "set KEDGE_HASH_KEY or --hash-key-file"
            )
        self.model = policy.name
        self.names = tuple(features)
        self._readers = {name: _reader(feature, hash_key or b"") for name, feature in features.items()}
        self._columns = [_column(feature, self._readers[name]) for name, feature in features.items()]

    def raw(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The declared features' values as they were sent; one that is missing is None, one not declared left out."""
        return tuple(map(values.get, self.names))

    def columns(self, rows: Sequence[Sequence[Any]]) -> list[pa.Array]:
        """A column to be logged for each feature, from each feature's raw values.

        Raises:
            TypeError, ValueError, KeyError, OverflowError: a value is not of its feature's type.
        """
        return [column(values) for column, values in zip(self._columns, rows, strict=True)]

    def read(self, values: Mapping[str, Any]) -> dict[str, Logged]:
        """One row's values to be logged, by feature.

        Raises:
            Refused: a value is not of its feature's type.
        """
        try:
            return {name: reader(values.get(name)) for name, reader in self._readers.items()}
        except FAULTS as exc:
            raise self.fault(self.raw(values), exc) from exc

    def fault(self, raw: Sequence[Any], cause: Exception) -> Refused:
        """Which feature's value is wrong."""
        for (name, reader), value in zip(self._readers.items(), raw, strict=True):
            try:
                reader(value)
            except FAULTS as exc:
                return Refused("invalid", f"model {self.model}: feature {name!r} must be {exc}")
        return Refused("invalid", f"model {self.model}: the features cannot be read: {cause}")


def number(value: Any) -> float | None:
    """A JSON number as a float.

    >>> number(3)
    3.0
    """
    if value is None or type(value) is float:
        return value
    if type(value) is int or type(value) is bool:
        return float(value)
    raise TypeError(f"a number, got {shown(value)}")


def boolean(value: Any) -> float | None:
    """true and false as 1.0 and 0.0; a model server may also send the numbers themselves."""
    try:
        return TRUTH[value]
    except (KeyError, TypeError):
        raise TypeError(f"true or false, got {shown(value)}") from None


def category(value: Any) -> str | None:
    """Text."""
    if value is None or type(value) is str:
        return value
    raise TypeError(f"text, got {shown(value)}")


def keyed_hash(key: bytes, value: Logged) -> str:
    """HMAC-SHA-256 of the value's text, its first 32 hex digits: equal values stay equal, nobody without the key can
    try values out.

    >>> keyed_hash(b"key", 1.0) == keyed_hash(b"key", 1.0) != keyed_hash(b"other", 1.0)
    True
    """
    return hmac.digest(key, str(value).encode(), "sha256").hex()[:32]


def bucket(edges: tuple[float, ...], value: float | None) -> str | None:
    """The lower edge of the value's bucket, as text; ``<first edge`` below the first.

    >>> bucket((0, 18, 65), 18), bucket((0, 18, 65), 70.5), bucket((0, 18, 65), -1)
    ('18', '65', '<0')
    """
    if value is None:
        return None
    place = bisect_right(edges, value)
    return f"{edges[place - 1]:g}" if place else f"<{edges[0]:g}"


def _reader(feature: Feature, key: bytes) -> Reader:
    plain: Reader = {"category": category, "boolean": boolean}.get(feature.type, number)
    match feature.privacy:
        case "keep":
            return plain
        case "drop":
            return _dropped
        case "mask":
            return _masked
        case "hash":
            return lambda value: None if value is None else keyed_hash(key, plain(value))
        case "bucket":
            edges = feature.buckets or ()
            return lambda value: None if value is None else bucket(edges, number(value))


def _dropped(value: Any) -> None:  # noqa: ARG001
    return None


def _masked(value: Any) -> str | None:
    return None if value is None else "*"


def _column(feature: Feature, reader: Reader) -> Column:
    if feature.privacy != "keep":
        return lambda values: pa.array([reader(value) for value in values], pa.string())
    if feature.type == "boolean":
        return lambda values: pa.array([TRUTH[value] for value in values], pa.float64())
    if feature.type == "category":
        return lambda values: pa.array(values, pa.string())
    return _numbers


def _numbers(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.float64())
    except pa.ArrowInvalid:  # Arrow takes no integer a float cannot hold to the last digit
        return pa.array([number(value) for value in values], pa.float64())
