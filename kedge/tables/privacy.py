"""Features as the log may hold them. What this module does not let through reaches no disk."""

from __future__ import annotations

import hmac
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kedge.body import shown
from kedge.errors import DataError, UsageError
from kedge.policy import Feature, Policy

Logged = float | str | bool | int | None
Reader = Callable[[Any], Logged]

FAULTS = (TypeError, ValueError, OverflowError)
"""What readers raise at a value of the wrong type."""
MAX_SHAPES = 1000
SURE: dict[str, frozenset[type]] = {
    "number": frozenset({float, int, bool, type(None)}),
    "integer": frozenset({float, int, bool, type(None)}),
    "boolean": frozenset({bool, type(None)}),
    "category": frozenset({str, type(None)}),
}
"""Types all of whose values a feature may have; of a boolean feature, numbers need a look at each value."""


class Features:
    """Reads the features of predictions as the policy of their model declares them."""

    def __init__(self, policy: Policy, hash_key: bytes | None) -> None:
        """Prepare a reader for each feature.

        Raises:
            UsageError: the policy hashes a feature and there is no key.
        """
        features = policy.model.features
        if not hash_key:
            _refuse_hashed(policy)
        self.model = policy.name
        self.names = tuple(features)
        self._readers = [_reader(feature, hash_key or b"") for feature in features.values()]
        self._changed = [index for index, feature in enumerate(features.values()) if feature.privacy != "keep"]
        kept_texts = [feature.type == "category" and feature.privacy == "keep" for feature in features.values()]
        self._kept_texts = [index for index, kept in enumerate(kept_texts) if kept]
        self._sure = [SURE[feature.type] for feature in features.values()]
        self._shapes: set[tuple[type, ...]] = set()

    def read(self, values: Mapping[str, Any]) -> tuple[Logged, ...]:
        """The declared features' values as they may be logged; one that is missing is None.

        Raises:
            DataError: a value is not of its feature's type.
        """
        raw = tuple(map(values.get, self.names))
        shape = tuple(map(type, raw))
        if shape not in self._shapes:  # most rows have the types of a row seen before: one look-up for all features
            self._check(raw, shape)
        return self.private_row(raw)

    def private(self, columns: Iterable[Sequence[Any]]) -> list[Sequence[Logged]]:
        """The features of many predictions by column, of types that are as declared, as they may be logged."""
        found: list[Sequence[Logged]] = list(columns)
        for index in self._changed:
            found[index] = tuple(map(self._readers[index], found[index]))
        for index in self._kept_texts:
            if "" in found[index]:
                found[index] = tuple([value or None for value in found[index]])
        return found

    def private_row(self, raw: tuple[Any, ...]) -> tuple[Logged, ...]:
        """The same of one prediction."""
        if not self._changed and "" not in raw:
            return raw
        values = list(raw)
        for index in self._changed:
            values[index] = self._readers[index](values[index])
        for index in self._kept_texts:
            values[index] = values[index] or None
        return tuple(values)

    def _check(self, raw: tuple[Any, ...], shape: tuple[type, ...]) -> None:
        for name, reader, value in zip(self.names, self._readers, raw, strict=True):
            try:
                reader(value)
            except FAULTS as exc:
                raise DataError(f"model {self.model}: feature {name!r} must be {exc}") from None
        if all(kind in sure for kind, sure in zip(shape, self._sure, strict=True)):
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes.add(shape)


def number(value: Any) -> float | None:
    """A JSON number as a float.

    >>> number(3)
    3.0
    """
    if type(value) in SURE["number"]:
        return None if value is None else float(value)
    raise TypeError(f"a number, got {shown(value)}")


def boolean(value: Any) -> float | None:
    """true and false as 1.0 and 0.0; a model server may also send the numbers themselves."""
    if type(value) in SURE["number"] and value in (None, 0, 1):
        return None if value is None else float(value)
    raise TypeError(f"true or false, got {shown(value)}")


def category(value: Any) -> str | None:
    """Text; an empty one is a missing value."""
    if value is None or type(value) is str:
        return value or None
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
            return lambda value: None if (read := plain(value)) is None else keyed_hash(key, read)
        case "bucket":
            edges = feature.buckets or ()
            return lambda value: None if value is None else bucket(edges, number(value))


def _dropped(value: Any) -> None:  # noqa: ARG001
    return None


def _masked(value: Any) -> str | None:
    return None if value is None or value == "" else "*"


def _refuse_hashed(policy: Policy) -> None:
    for name, feature in policy.model.features.items():
        if feature.privacy == "hash":
            raise UsageError(
                f"policy {policy.name}: feature {name!r} has `privacy: hash`, which needs a secret key; "
                "set KEDGE_HASH_KEY or --hash-key-file"
            )
