"""Take things away from a running collector, give them back, and count what the log holds.

    python benchmarks/faults.py [--seconds 5]

Senders post predictions, request and response pairs and labels all the time, as in ``crash.py``. Each fault lasts some
seconds; then the time is taken until the collector acknowledges, appends and reports no fault again. At the end the
log's reader must give everything that was acknowledged once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import orjson
from crash import POLICY, SENDERS, Ledger, Replica, Sender, counted

DAY, YEAR = 86_400, 365 * 86_400
MAX_SECONDS = 30.0
GOOD = '{"ready":true,"faults":{}}'
CLOCK = """
import os, time
real, real_ns, file = time.time, time.time_ns, os.environ.get("CLOCK_FILE")
def ahead():
    try:
        with open(file) as held:
            return int(held.read() or 0)
    except OSError:
        return 0
if file:
    time.time, time.time_ns = lambda: real() + ahead(), lambda: real_ns() + ahead() * 10**9
"""
"""Loaded by the collector's interpreter: a clock that is wrong by what a file says."""

Fault = Callable[[Replica, Path], AbstractContextManager[None]]


@contextmanager
def stopped(collector: Replica, folder: Path) -> Iterator[None]:
    """SIGSTOP."""
    collector._process.send_signal(signal.SIGSTOP)
    yield
    collector._process.send_signal(signal.SIGCONT)


def replaced(name: str) -> Fault:
    """The folder is gone, and an empty one lies there, as below a volume that is not mounted.

    An append that was under way may leave files in it, which nobody refers to; the journal may not.
    """

    @contextmanager
    def fault(collector: Replica, folder: Path) -> Iterator[None]:
        place, kept = folder / name, folder / f"{name}-kept"
        place.rename(kept)
        place.mkdir()
        yield
        for path in place.rglob("*.log"):
            raise SystemExit(f"{path} was written where {name} is not")
        shutil.rmtree(place)
        kept.rename(place)

    return fault


def clock(seconds: int) -> Fault:
    """The clock is wrong by so many seconds."""

    @contextmanager
    def fault(collector: Replica, folder: Path) -> Iterator[None]:
        (folder / "clock").write_text(str(seconds))
        yield
        (folder / "clock").write_text("0")

    return fault


@contextmanager
def crowded(collector: Replica, folder: Path) -> Iterator[None]:
    """2,000 connections that never send anything."""
    idle = []
    for _ in range(2000):
        line = socket.socket()
        line.setblocking(False)
        line.connect_ex(("127.0.0.1", collector.port))
        idle.append(line)
    yield
    for line in idle:
        line.close()


FAULTS: dict[str, Fault] = {
    "SIGSTOP": stopped,
    "the store's folder away, an empty one there": replaced("store"),
    "the spool's folder away, an empty one there": replaced("spool-0"),
    **{f"clock {sign}{name}": clock(int(f"{sign}{seconds}"))
       for name, seconds in (("a day", DAY), ("a year", YEAR)) for sign in "+-"},
    "2,000 idle connections": crowded,
}  # fmt: skip


def recovered(collector: Replica) -> float:
    """Seconds until events are acknowledged, appended and no fault is reported."""
    began, seen = time.monotonic(), ""
    with httpx.Client(base_url=f"http://127.0.0.1:{collector.port}", timeout=60) as client:
        while time.monotonic() - began < 2 * MAX_SECONDS:
            try:
                if client.post("/v1/flush").status_code == 200:
                    seen = client.get("/readyz").text
                    if seen == GOOD:
                        return time.monotonic() - began
            except httpx.TransportError as exc:
                seen = repr(exc)
            time.sleep(0.1)
    raise SystemExit(f"not back after {2 * MAX_SECONDS:g} s: {seen}")


def main() -> None:
    """Run and print; the exit code is 1 if anything was lost, or took too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="That each fault lasts.")
    seconds = parser.parse_args().seconds
    folder = Path(tempfile.mkdtemp(prefix="kedge-faults-"))
    (folder / "policy.yaml").write_bytes(orjson.dumps(POLICY))
    (folder / "sitecustomize.py").write_text(CLOCK)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    os.environ["CLOCK_FILE"] = str(folder / "clock")
    ledger, collector, slowest = Ledger(), Replica(folder, 0), 0.0
    senders = [Sender(f"s{index}", [collector.port], ledger, index) for index in range(SENDERS)]
    for sender in senders:
        sender.start()
    try:
        recovered(collector)
        for name, fault in FAULTS.items():
            before = len(ledger.logged)
            with fault(collector, folder):
                time.sleep(seconds)
            back = recovered(collector)
            slowest = max(slowest, back)
            print(f"{name:45} back after {back:4.1f} s, {len(ledger.logged) - before:,} acknowledged", flush=True)
        for sender in senders:
            sender.ends.set()
            sender.join(30)
        collector.flush()
        result = counted(folder, ledger)
    finally:
        collector.stop()
    for name, value in result.items():
        print(f"{name:26} {value:>10,}")
    if slowest > MAX_SECONDS or any(value for name, value in result.items() if name.endswith(("lost", "duplicated"))):
        sys.exit(f"see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
