"""Memory of what was lately sent under which id."""

from __future__ import annotations


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
            if len(self._young) >= self._size:
                self._old, self._young = self._young, {}
        return known is not None and known != digest

    def forget(self, key: str) -> None:
        """What was sent under this key was not acknowledged after all."""
        self._young.pop(key, None)
        self._old.pop(key, None)
