"""A store in memory that counts what is read from it."""

from __future__ import annotations

from collections.abc import Iterator


class Counting:
    """The verbs records need; ``reads`` is the number of objects read so far."""

    url = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.reads = 0

    def get(self, key: str) -> bytes:
        self.reads += 1
        return self.objects[key]

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.objects.setdefault(key, data) is data

    def keys(self, prefix: str) -> Iterator[str]:
        yield from sorted(key for key in self.objects if key.startswith(f"{prefix}/"))
