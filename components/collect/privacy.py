"""One feature's value as the log may hold it. What this module does not let through reaches no disk."""

from __future__ import annotations

import hmac
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from components.collect.refusal import Refused, shown
from components.errors import UsageError
from components.policy import Feature, Policy

Logged = float | str | None
Reader = Callable[[Any], Logged]


class FeatureReader:
    """Reads the features of a prediction as the policy of its model declares them."""

    def __init__(self, policy: Policy, hash_key: bytes | None) -> None:
        """Prepare one reader a feature.

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
        self.names = frozenset(features)
        self._readers = [(name, _reader(feature, hash_key or b"")) for name, feature in features.items()]

    def read(self, values: Mapping[str, Any]) -> dict[str, Logged]:
        """The values to be logged, by feature; one that is missing is null, one nobody declared is left out.

        Raises:
            Refused: a value is not of its feature's type.
        """
        get = values.get
        try:
            return {name: reader(get(name)) for name, reader in self._readers}
        except (TypeError, ValueError) as exc:
            raise self._fault(values) from exc

    def _fault(self, values: Mapping[str, Any]) -> Refused:
        for name, reader in self._readers:
            try:
                reader(values.get(name))
            except (TypeError, ValueError) as exc:
                return Refused("invalid", f"model {self.model}: feature {name!r} must be {exc}")
        return Refused("invalid", f"model {self.model}: features {shown(values)} cannot be read")


def _reader(feature: Feature, key: bytes) -> Reader:
    plain: Reader = {"category": category, "boolean": boolean}.get(feature.type, number)
    match feature.privacy:
        case "keep":
            return plain
        case "drop":
            return lambda value: None  # noqa: ARG005
        case "mask":
            return lambda value: None if value is None else "*"
        case "hash":
            return lambda value: None if value is None else keyed_hash(key, plain(value))
        case "bucket":
            edges = feature.buckets or ()
            return lambda value: None if value is None else bucket(edges, number(value))


def number(value: Any) -> float | None:
    """A JSON number as a float.

    >>> number(3)
    3.0
    """
    if value is None:
        return None
    if type(value) is float or type(value) is int:
        return float(value)
    raise TypeError(f"a number, got {shown(value)}")


def boolean(value: Any) -> float | None:
    """true and false as 1.0 and 0.0; a model server may also send the numbers themselves."""
    if value is None:
        return None
    if type(value) is bool or value in (0, 1):
        return float(value)
    raise TypeError(f"true or false, got {shown(value)}")


def category(value: Any) -> str | None:
    """Text of at most 1,000 characters."""
    if value is None or (type(value) is str and len(value) <= 1000):
        return value
    raise TypeError(f"text of at most 1,000 characters, got {shown(value)}")


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
