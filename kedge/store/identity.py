"""Which store this is: ``store.json``, put once, so that an empty place is never taken for a new beginning.

A volume that is not mounted is an empty folder, and a bucket whose name was mistyped is an empty bucket. Whoever wrote
to a store before asks for its id first.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import orjson

from kedge.clock import now
from kedge.errors import StoreError
from kedge.store.base import Store
from kedge.store.files import write_file

KEY = "store.json"
CONTENT = ("records", "bundles", "logs", "snapshots")
"""Folders of which a store of an earlier version, which has no id, has one."""


def identity_of(store: Store) -> str | None:
    """The store's id; None if it has none.

    Raises:
        StoreError: the store cannot be read, or its ``store.json`` is not one.
    """
    try:
        raw = store.get(KEY)
    except KeyError:
        return None
    try:
        return str(orjson.loads(raw)["id"])
    except (orjson.JSONDecodeError, TypeError, KeyError) as exc:
        raise StoreError(f"{store.url}/{KEY}: is no store's identity: {exc}; restore it from a backup") from exc


def begin(store: Store) -> str:
    """The store's id, which it gets if it has none. Who may not write it can still learn it."""
    found = identity_of(store)
    if found is not None:
        return found
    content = orjson.dumps({"id": uuid4().hex, "began": now().isoformat()})
    store.put_if_absent(KEY, content)
    return identity_of(store) or _lost(store)


def require(store: Store) -> str:
    """The id of a store that something was put into; one of an earlier version gets its id here.

    Raises:
        StoreError: as :func:`refuse_empty`.
    """
    refuse_empty(store)
    return begin(store)


def refuse_empty(store: Store) -> None:
    """Return if something was put into the store; nothing is written.

    Raises:
        StoreError: it is empty: nothing was ever put there, or what was is gone.
    """
    if is_empty(store):
        raise StoreError(
            f"store {store.url} is empty: it has no {KEY} and no records. If it was used before, its volume is not "
            "mounted or its address is wrong; if it is new, start the collector or train a first model"
        )


def is_empty(store: Store) -> bool:
    """Whether nothing was ever put into the store, or what was is gone."""
    return identity_of(store) is None and not any(store.folders(name) for name in CONTENT)


class KnownStore:
    """A store, and a file beside it that remembers which one it is."""

    def __init__(self, store: Store, memory: Path) -> None:
        self._store = store
        self._memory = memory
        self._known = ""

    def verify(self) -> None:
        """Return if the store is the one that is remembered; the first time, remember it.

        Raises:
            StoreError: it is empty, another one, or cannot be read.
            OSError: the file cannot be written.
        """
        self._known = self._known or self._remembered()
        if not self._known:
            known = begin(self._store)
            write_file(self._memory, known.encode())
            self._known = known
            return
        known, found = self._known, identity_of(self._store)
        if found == known:
            return
        what = (
            f"is another one ({found})" if found else f"has no {KEY}: it is empty, or something else is mounted there"
        )
        raise StoreError(
            f"store {self._store.url} {what}; store {known} was written to before. Nothing is written until it is "
            f"back; if it was replaced on purpose, delete {self._memory} and start again"
        )

    def _remembered(self) -> str:
        """Empty if there is no such file, or it was emptied."""
        try:
            return self._memory.read_text(errors="replace")
        except FileNotFoundError:
            return ""


def _lost(store: Store) -> str:
    raise StoreError(f"store {store.url}: {KEY} was put there and is not there; does it keep what is written?")
