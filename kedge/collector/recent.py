"""Memory of what was lately sent under which id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Recent:
    """Digests by key, of the last ``size`` to twice ``size`` keys.

    >>> recent = Recent(2)
    >>> recent.conflicts("a", 1), recent.conflicts("a", 1), recent.conflicts("a", 2)
    (False, False, True)
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}

    def conflicts(self, key: str, digest: int) -> bool:
        """Whether something else was sent under this key; remembers the first."""
        known = self._young.get(key)
        if known is None:
            known = self._old.get(key)
            self._young[key] = digest if known is None else known
            self._turn()
        return known is not None and known != digest

    def any_conflicts(self, keys: Sequence[str], digests: Iterable[int]) -> bool:
        """Whether something else was sent under one of many keys; remembers those before it."""
        new = self._young.keys().isdisjoint(keys) and self._old.keys().isdisjoint(keys)
        if not new or len(set(keys)) < len(keys):
            return any(map(self.conflicts, keys, digests))
        self._young.update(zip(keys, digests, strict=True))
        self._turn()
        return False

    def forget(self, key: str) -> None:
        """What was sent under this key was not acknowledged after all."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def _turn(self) -> None:
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
