"""Load at moments fixed beforehand, whatever the server does: a request that waits for its turn has waited.

Latency counts from the moment a request was due, not from when the generator came to send it, so that one slow answer
is felt by all that were due meanwhile (no coordinated omission). One thread sends ready-made bytes on kept-alive
sockets; its own lateness and processor time are part of the result. Pinned to a processor that the server does not use,
it takes nothing from what it measures.
"""

from __future__ import annotations

import itertools
import math
import select
import socket
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """What became of each request, in the order they were due; seconds."""

    latency: Seconds
    """From when it was due to the whole answer."""
    late: Seconds
    """From when it was due to when it was sent: the generator's share of the latency."""
    duration: float
    busy: float
    """The generator's processor time a second; near 1 it could not keep up."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latency) / self.duration


def even(rate: float, seconds: float) -> Seconds:
    """Moments with the same distance."""
    return np.arange(int(rate * seconds)) / rate


def random(rate: float, seconds: float, seed: int) -> Seconds:
    """Moments of many clients that know nothing of each other: a Poisson process."""
    return np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds)).cumsum()


def at_once(count: int) -> Seconds:
    """All due now: as fast as the connections allow."""
    return np.zeros(count)


class Generator:
    """Kept-alive connections to one server, used in turn.

    Args:
        port: Of the server, on this machine.
        requests: Whole requests, taken in turn.
        connections: So many may be open at once; a request that is due beyond them waits, and has waited.
    """

    def __init__(self, port: int, requests: list[bytes], connections: int = 64) -> None:
        self._requests = itertools.cycle(requests)
        self._poll = select.epoll()
        self._opened = {each.fileno(): each for each in (_connected(port) for _ in range(connections))}
        for number in self._opened:
            self._poll.register(number, select.EPOLLIN)
        self._idle = deque(self._opened)

    def close(self) -> None:
        self._poll.close()
        for each in self._opened.values():
            each.close()

    def run(self, due: Seconds) -> Load:
        """Send a request at each moment.

        Raises:
            RuntimeError: an answer other than 200.
        """
        clock, opened, poll = time.perf_counter, self._opened, self._poll
        parts, asked = dict.fromkeys(opened, b""), dict.fromkeys(opened, 0)
        sent, answered = np.zeros(len(due)), np.zeros(len(due))
        following, missing = 0, len(due)
        worked, began = time.thread_time(), clock()
        moments = [*(due + began).tolist(), math.inf]
        while missing:
            while self._idle and moments[following] <= (now := clock()):
                number = self._idle.popleft()
                opened[number].sendall(next(self._requests))
                asked[number], sent[following] = following, now
                following += 1
            rest = moments[following] - clock() if self._idle else None
            select.select([poll], [], [], None if rest == math.inf else rest and max(0.0, rest))
            for number, _ in poll.poll(0):
                parts[number] += opened[number].recv(1 << 16)
                if _whole(parts[number]):
                    answered[asked[number]] = clock()
                    parts[number] = b""
                    self._idle.append(number)
                    missing -= 1
        duration = clock() - began
        busy = (time.thread_time() - worked) / duration
        expected = np.asarray(moments[:-1])
        return Load(answered - expected, sent - expected, duration, busy)


def _connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=60)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{answer[:300]!r}")
    place = head.find(b"content-length: ")
    return place >= 0 and len(body) == int(head[place + 16 :].partition(b"\r\n")[0])
