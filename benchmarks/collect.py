"""The collector beside a bare Starlette handler that parses and drops: CPU an event, latency, batches, memory.

    python benchmarks/collect.py [--seconds 8] [--rounds 3] [--python PATH]
    python benchmarks/collect.py --soak 300 [--rate 2000]      # memory only, at a fixed rate
    python benchmarks/collect.py --soak 300 --ids 9700000      # with a log that holds so many ids

Both servers run the same uvicorn settings and get the same 1 KB events from one load generator. CPU is the server
process's own (user and system), appends to the log included. Latency at a fixed rate counts from the moment a request
was due, so a stall is not hidden by the sender waiting. ``--python`` is the interpreter of an environment with the
packages of the collector's image; both servers run in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvloop

CONNECTIONS = 64
BATCH = 100
BATCH_CONNECTIONS = 16
"""Enough for a batch to be on its way while others wait for the disk."""
SEGMENT_IDS = 10_000
TICKS = os.sysconf("SC_CLK_TCK")
NUMBERS, CATEGORIES = 12, 8
FEATURES = {
    **{f"number_{index}": {"type": "number"} for index in range(NUMBERS)},
    **{f"category_{index}": {"type": "category"} for index in range(CATEGORIES)},
}
POLICY = {
    "model": {"name": "bench", "target": "outcome", "features": FEATURES},
    "data": {"source": {"format": "log"}},
}

BARE = """
import orjson, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def drop(request):
    orjson.loads(await request.body())
    return Response(status_code=202)

uvicorn.run(Starlette(routes=[Route("/", drop, methods=["POST"])]), port={port}, loop="uvloop", http="httptools",
            access_log=False, log_level="warning", server_header=False, proxy_headers=False)
"""


@dataclass
class Load:
    """What the sender saw."""

    sent: int = 0
    faults: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.sent / self.seconds

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]


class Requests:
    """Requests with a new id each, built by putting the number into a fixed text."""

    def __init__(self, events_each: int) -> None:
        self._next = 0
        self._each = events_each
        self._event = orjson.dumps(_event("#" * 16))
        kind = "application/cloudevents-batch+json" if events_each > 1 else "application/cloudevents+json"
        size = (len(self._event) + 1) * events_each + 1 if events_each > 1 else len(self._event)
        self._head = (
            f"POST / HTTP/1.1\r\nhost: collector\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n".encode()
        )

    def build(self) -> bytes:
        events = []
        for _ in range(self._each):
            self._next += 1
            events.append(self._event.replace(b"#" * 16, b"%016x" % (self._next + (id(self) << 24) % 2**60)))
        body = b"[" + b",".join(events) + b"]" if self._each > 1 else events[0]
        return self._head + body


class Connection(asyncio.Protocol):
    """Keep-alive HTTP/1.1: one request at a time, the answer's status, and on to the next."""

    def __init__(self, done: Any) -> None:
        self._done = done
        self.transport: Any = None
        self.due = 0.0
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if len(rest) < length:
            return
        self._buffer = b""
        self._done(self, head[9:12] in (b"200", b"202"))


async def closed_loop(port: int, requests: Requests, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Every connection sends again as soon as it was answered."""
    load = Load()
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    left = connections
    over = loop.create_future()

    def done(connection: Connection, good: bool) -> None:
        nonlocal left
        now = loop.time()
        load.sent += good
        load.faults += not good
        load.latencies.append(now - connection.due)
        if now < end:
            connection.send(requests.build(), now)
        else:
            left -= 1
            if not left:
                over.set_result(None)

    began = loop.time()
    opened = [await loop.create_connection(lambda: Connection(done), "127.0.0.1", port) for _ in range(connections)]
    for _, connection in opened:
        connection.send(requests.build(), loop.time())
    await over
    load.seconds = loop.time() - began
    for transport, _ in opened:
        transport.close()
    return load


async def open_loop(port: int, requests: Requests, seconds: float, rate: float) -> Load:
    """Requests are due at a fixed rate, whatever becomes of the ones before."""
    load = Load()
    loop = asyncio.get_running_loop()
    idle: deque[Connection] = deque()
    waiting: deque[float] = deque()

    def done(connection: Connection, good: bool) -> None:
        load.sent += good
        load.faults += not good
        load.latencies.append(loop.time() - connection.due)
        if waiting:
            connection.send(requests.build(), waiting.popleft())
        else:
            idle.append(connection)

    opened = [await loop.create_connection(lambda: Connection(done), "127.0.0.1", port) for _ in range(CONNECTIONS)]
    idle.extend(connection for _, connection in opened)
    began = loop.time()
    count = int(seconds * rate)
    for number in range(count):
        due = began + number / rate
        while loop.time() < due:
            await asyncio.sleep(min(0.001, max(0.0, due - loop.time())))
        if idle:
            idle.popleft().send(requests.build(), due)
        else:
            waiting.append(due)
        if number % 8 == 0:
            await asyncio.sleep(0)
    while len(load.latencies) < count:
        await asyncio.sleep(0.01)
    load.seconds = loop.time() - began
    for transport, _ in opened:
        transport.close()
    return load


@dataclass
class Server:
    """A server process and its port."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def flush(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            line.sendall(b"POST /v1/flush HTTP/1.1\r\nhost: c\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            answer = b""
            while part := line.recv(65536):
                answer += part
        if b"200 OK" not in answer:
            raise SystemExit(f"flush: {answer!r}")


@contextmanager
def bare(python: str) -> Iterator[Server]:
    """The Starlette handler."""
    port = _free_port()
    with _process([python, "-c", BARE.format(port=port)], port) as server:
        yield server


@contextmanager
def collector(python: str, folder: Path, *options: str) -> Iterator[Server]:
    """The collector with a store and a spool in the folder."""
    policy = folder / "policy.yaml"
    policy.write_bytes(orjson.dumps(POLICY))
    port = _free_port()
    command = [python, "-m", "kedge.collector", "--store", str(folder / "store"), "--policy", str(policy)]
    command += ["--port", str(port), "--spool", str(folder / "spool"), *options]
    with _process(command, port) as server:
        yield server


@contextmanager
def _process(command: list[str], port: int) -> Iterator[Server]:
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise SystemExit(f"{command[:3]} did not start")
        yield Server(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _event(identity: str) -> dict[str, Any]:
    features: dict[str, Any] = {f"number_{index}": index * 13.25 + 0.125 for index in range(NUMBERS)}
    features |= {f"category_{index}": f"value-{index}-{'x' * 34}" for index in range(CATEGORIES)}
    data = {
        "model": "bench",
        "version": "0123456789abcdef0123456789abcdef01234567",
        "slot": "blue",
        "features": features,
    }
    data |= {"score": 0.125, "prediction": 0, "latency_ms": 1.25}
    return {
        "specversion": "1.0", "id": identity, "source": "/bench/serve-7d9c5b6f4-x2x7k", "type": "dev.kedge.prediction",
        "time": "2026-03-02T12:00:00.123456Z", "datacontenttype": "application/json", "data": data,
    }  # fmt: skip


def _run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _measured(server: Server, seconds: float, *, flush: bool, batch: int = 1) -> tuple[float, Load]:
    """CPU microseconds an event, appending included, and what the sender saw."""
    before = server.cpu_seconds()
    load = _run(closed_loop(server.port, Requests(batch), seconds, BATCH_CONNECTIONS if batch > 1 else CONNECTIONS))
    if flush:
        server.flush()
    return (server.cpu_seconds() - before) / (load.sent * batch) * 1e6, load


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=float, default=0, help="Seconds of a soak instead of the comparison.")
    parser.add_argument("--rate", type=float, default=2000, help="Events a second of the soak.")
    parser.add_argument("--ids", type=int, default=0, help="Ids in the log when the soak begins.")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kedge-bench-"))
    try:
        if options.soak:
            _fill(folder / "store", options.ids)
            with collector(options.python, folder) as ours:
                _soak(ours, options.soak, options.rate)
        else:
            with bare(options.python) as reference, collector(options.python, folder) as ours:
                _compare(reference, ours, options)
                print(f"collector: resident {ours.resident_mb():.0f} MB, peak {ours.peak_mb():.0f} MB")
    finally:
        shutil.rmtree(folder)


def _compare(reference: Server, ours: Server, options: argparse.Namespace) -> None:
    print(
        f"1 KB events: {len(orjson.dumps(_event('#' * 16)))} bytes; {CONNECTIONS} connections; batches of {BATCH} "
        f"on {BATCH_CONNECTIONS}"
    )
    _measured(reference, 1, flush=False)
    _measured(ours, 1, flush=True)
    costs, rates, batch_costs, batch_rates = [], [], [], []
    for _ in range(options.rounds):
        base, base_load = _measured(reference, options.seconds, flush=False)
        cost, load = _measured(ours, options.seconds, flush=True)
        batch_cost, batched = _measured(ours, options.seconds, flush=True, batch=BATCH)
        costs.append((base, cost))
        rates.append((base_load.rate, load.rate))
        batch_costs.append(batch_cost)
        batch_rates.append(batched.rate * BATCH)
        faults = base_load.faults + load.faults + batched.faults
        print(
            f"  bare {base:.0f} us {base_load.rate:,.0f}/s | single {cost:.0f} us {load.rate:,.0f}/s, ratio "
            f"{cost / base:.2f} | batched {batch_cost:.1f} us {batch_rates[-1]:,.0f}/s, ratio "
            f"{batch_cost / base:.2f} | faults {faults}"
        )
    ratio = statistics.median(cost / base for base, cost in costs)
    single = statistics.median(rate for _, rate in rates)
    many = statistics.median(batch_rates)
    print(f"CPU an event over the bare handler's: {ratio:.2f} (goal: at most 1.25)")
    shares = [batched / base for batched, (base, _) in zip(batch_costs, costs, strict=True)]
    print(
        f"CPU an event of a batch over the bare handler's single one: median {statistics.median(shares):.2f}, mean "
        f"{statistics.mean(shares):.2f} (goal: at most 0.3)"
    )
    print(f"events a second: single {single:,.0f}, batched {many:,.0f}, {many / single:.1f} times (goal: at least 5)")
    half = _run(open_loop(ours.port, Requests(1), options.seconds, single / 2))
    print(
        f"at {half.rate:,.0f}/s (half the highest): p50 {half.percentile(0.5) * 1e3:.1f} ms, "
        f"p99 {half.percentile(0.99) * 1e3:.1f} ms (goal: below 50), faults {half.faults}"
    )


def _fill(store: Path, ids: int) -> None:
    """A log as a collector leaves it that has appended so many events."""
    from kedge import policy as policies
    from kedge.store import open_store
    from kedge.tables import appending

    policy, opened = policies.parse(POLICY), {}
    for segment in range(ids // SEGMENT_IDS):
        names = [f"filled-{segment * SEGMENT_IDS + place:012d}" for place in range(SEGMENT_IDS)]
        times = [1_772_452_800_000_000] * SEGMENT_IDS
        rows = appending.table_of({"_id": "text", "_time": "time"}, [names, times])
        appending.append(open_store(store), policy, "predictions", rows, writer="fill", sequence=segment, opened=opened)


def _soak(ours: Server, seconds: float, rate: float) -> None:
    """Half of the events alone, half in batches; resident memory every 30 s."""
    single, many = Requests(1), Requests(BATCH)
    batches = rate / 2 / BATCH
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(3):
            sent += _run(open_loop(ours.port, single, 5, rate / 2)).sent
            sent += BATCH * _run(open_loop(ours.port, many, 5, batches)).sent
        print(f"  {sent:,} events, resident {ours.resident_mb():.0f} MB, peak {ours.peak_mb():.0f} MB", flush=True)
    ours.flush()
    print(f"after {sent:,} events: {ours.resident_mb():.0f} MB, peak {ours.peak_mb():.0f} MB (goal: at most 300)")


if __name__ == "__main__":
    main()
