"""Requests and answers that reached different collectors find each other through the store.

KServe's logger posts to a Service, so a request may reach one replica and its answer another. Each collector writes the
requests that waited for some seconds to an object of its own; the one that holds the answer takes the request over into
its journal, where it is joined as if it had been sent there, and says so, for the other to forget it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from kedge.collector.declared import Declared
from kedge.collector.entries import Taken
from kedge.collector.index import Index
from kedge.errors import StoreError
from kedge.store import Store

MAX_SHARED = 10_000
"""Requests of a model that one collector offers at a time."""
MICROSECONDS = 1_000_000


class Exchange:
    """One collector's side of it. Used by one thread at a time."""

    def __init__(
        self, store: Store, declared: Mapping[str, Declared], index: Index, *, after_seconds: float, pair_seconds: float
    ) -> None:
        """Prepare.

        Args:
            after_seconds: Halves that waited shorter are left alone: most find their other half here.
            pair_seconds: How long it is told that a request was taken over.
        """
        self._store = store
        self._declared = declared
        self._index = index
        self._after = int(after_seconds * MICROSECONDS)
        self._pair_seconds = pair_seconds
        self._joined: dict[str, dict[str, float]] = {name: {} for name in declared}
        self._written: dict[str, bytes] = {}

    def run(self) -> list[Taken]:
        """Offer requests, take over those whose answer is here; what is to be made durable and joined.

        Raises:
            StoreError: the store refused.
        """
        waiting = self._index.old_unmatched(time.time_ns() // 1000 - self._after)
        taken: list[Taken] = []
        for name in self._declared:
            mine = [(key, kind, body) for key, kind, model, body in waiting if model == name]
            if mine or self._joined[name]:
                taken += self._take_over(name, {key for key, kind, _ in mine if kind == "r"})
                self._offer(name, {key.hex(): body.decode() for key, kind, body in mine if kind == "q"})
        return taken

    def _take_over(self, name: str, answers: set[bytes]) -> list[Taken]:
        """Requests that others hold and whose answers are here; forgets own ones that others took over."""
        taken = []
        gone: list[bytes] = []
        for other in self._others(name):
            gone += [bytes.fromhex(key) for key in other["joined"]]
            for text, body in other["requests"].items():
                key = bytes.fromhex(text)
                if key in answers:
                    taken.append(Taken(name, "q", body=body.encode(), key=key, patient=False))
                    self._joined[name][text] = time.monotonic()
        self._index.drop_requests(gone)
        return taken

    def _offer(self, name: str, requests: dict[str, str]) -> None:
        since = time.monotonic() - self._pair_seconds
        self._joined[name] = {key: when for key, when in self._joined[name].items() if when > since}
        offered = dict(list(requests.items())[:MAX_SHARED])
        content = orjson.dumps({"requests": offered, "joined": list(self._joined[name])})
        if self._written.get(name) != content:
            self._store.put(f"{_folder(name)}/{self._index.writer}.json", content)
            self._written[name] = content

    def _others(self, name: str) -> list[dict[str, Any]]:
        found = []
        for key in self._store.keys(_folder(name)):
            if not key.endswith(f"/{self._index.writer}.json"):
                try:
                    found.append(orjson.loads(self._store.get(key)))
                except (KeyError, orjson.JSONDecodeError) as exc:
                    raise StoreError(f"{self._store.url}/{key}: cannot be read: {exc}") from exc
        return found


def _folder(name: str) -> str:
    return f"logs/{name}/halves"  # the name that collectors of every version share
