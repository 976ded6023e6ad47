"""The store's verbs and its layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Item:
    """One object, as a listing shows it."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """When it was written last, by the store's clock, UTC."""


class Store(Protocol):
    """Objects under one root. Keys are relative, with ``/`` between parts.

    Layout: ``logs/<model>/{predictions,labels}`` (Delta tables), ``records/<model>/<kind>/<key>.json``,
    ``quarantined/<model>/<start>_<end>``, ``snapshots/<model>/<fingerprint>/``, ``bundles/<model>/<id>/``,
    ``reports/<model>/``, ``told/<model>.json``, ``deleted/<model>/<id>.json`` (manifests of bundles that are gone).
    """

    @property
    def url(self) -> str:
        """The root as one gives it on the command line: an absolute path, or an address in object storage."""

    def uri(self, key: str) -> str:
        """Absolute address of a key, for readers that take one (Delta, KServe's storage initializer)."""

    def options(self) -> dict[str, str]:
        """Storage options for such readers; empty for a local folder."""

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises StoreError, or KeyError if there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Write or replace, whole or not at all, durable on return."""

    def put_file(self, key: str, file: Path) -> None:
        """As :meth:`put`, of a file that need not fit into memory."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; True if this call wrote it. Of two writers at once, one gets True."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below ``prefix/``, sorted."""

    def items(self, prefix: str) -> list[Item]:
        """All objects below ``prefix/``, sorted by key: none is read. One that goes meanwhile is left out."""

    def folders(self, prefix: str) -> list[str]:
        """Names directly below ``prefix/`` that have keys below them, sorted: one listing, however many keys."""

    def delete(self, key: str) -> None:
        """Remove one object; a key that does not exist is fine. Nothing is left of a folder that held only this."""

    def fetch(self, prefix: str, into: Path) -> Path:
        """A local folder with the files below ``prefix``: the store's own folder if it is local, else a copy in
        ``into``. Raises KeyError if there are none."""


def open_store(url: str | Path) -> Store:
    """Open the store at a local folder, or in object storage: see :data:`kedge.clouds.CLOUDS`.

    Raises:
        UsageError: an address of another kind, or with credentials in it.
        StoreError: the place cannot be reached, or be a folder.
    """
    text = str(url)
    if "://" not in text or text.startswith("file://"):
        from kedge.store.local import LocalStore

        return LocalStore(Path(text.removeprefix("file://")))
    from kedge.store.objects import ObjectStore

    return ObjectStore(text)
