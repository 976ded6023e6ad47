"""Who may hold how many connections, and whose are closed when a server's house is full.

A connection without a request is idle, however it came to be: one that never sent anything, one that is kept alive. The
longest idle one makes room for a new one; of a client with more than its share, its own does. Where all are at work the
new one gets 503, but for probes: a server that works to its limit is alive.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Hashable

SHARE = 2
"""One client may hold one of so many connections."""
SPARE_FILES = 256
"""Files that a server has open beside its connections."""


class House:
    """The connections of one server, each anything hashable.

    Args:
        most: Connections at once.
        close: Called with an idle one that makes room.
    """

    def __init__(self, most: int, close: Callable[[Hashable], None]) -> None:
        self._most = most
        self._each = max(1, most // SHARE)
        self._close = close
        self._clients: dict[Hashable, str] = {}
        self._counts: Counter[str] = Counter()
        self._idle: dict[Hashable, None] = {}
        """The longest idle one first."""

    def enter(self, one: Hashable, client: str) -> None:
        """A new connection; another one may be closed for it."""
        self._clients[one] = client
        self._counts[client] += 1
        longest = None
        if self._counts[client] > self._each:
            longest = next((other for other in self._idle if self._clients[other] == client), None)
        elif len(self._clients) > self._most:
            longest = next(iter(self._idle), None)
        self._idle[one] = None
        if longest is not None:
            self.leave(longest)
            self._close(longest)

    def begin(self, one: Hashable) -> bool:
        """A request has begun; whether it may be served, because there is room for its connection."""
        self._idle.pop(one, None)
        client = self._clients.get(one, "")
        return self._counts[client] <= self._each and len(self._clients) <= self._most

    def rest(self, one: Hashable) -> None:
        """Its request is over."""
        if one in self._clients:
            self._idle[one] = None

    def leave(self, one: Hashable) -> None:
        """It is gone."""
        self._idle.pop(one, None)
        client = self._clients.pop(one, None)
        if client is not None:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]


def allow_files(connections: int) -> None:
    """Let this process have files open for so many connections, as far as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
