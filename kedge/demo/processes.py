"""The processes of a demo: the local platform and one ``kedge`` command at a time, none of which outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from kedge.errors import KedgeError, RunError


@dataclass(frozen=True)
class Addresses:
    """Where the running platform is reached."""

    gateway: str
    collector: str


class Command:
    """One ``kedge`` command in the background, its output kept in a file."""

    def __init__(self, words: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.words = list(words)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            out.write(f"$ kedge {' '.join(words)}\n".encode())
            out.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", "kedge.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def running(self) -> bool:
        """Whether the command is still at work."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise RunError, with the end of the command's output, unless it ended well."""
        code = self._process.wait()
        if code != 0:
            raise RunError(f"kedge {' '.join(self.words)}: exit code {code}; it said:\n{self.tail()}")

    def wait(self, seconds: float) -> None:
        """Wait for the end and check it.

        Raises:
            RunError: it failed, or is still running after ``seconds``.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RunError(f"kedge {' '.join(self.words)}: not done after {seconds:g} s; see {self.log}") from None
        self.check()

    def tail(self, lines: int = 15) -> str:
        """The last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End it and what it started: politely, then not."""
        for sign, seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
            if not self.running:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)


@contextlib.contextmanager
def platform(policy: Path, store: Path, environment: Mapping[str, str]) -> Iterator[Addresses]:
    """Run ``kedge up`` and yield its addresses; everything it started is gone afterwards."""
    status = store / "platform" / "status" / "platform.json"
    status.unlink(missing_ok=True)
    words = ["up", "--policy", str(policy), "--store", str(store), "--trust-event-time"]
    up = Command(words, log=store.parent / "log" / "up.log", environment=environment)
    try:
        yield _addresses(up, status)
    finally:
        up.stop()


def _addresses(up: Command, status: Path, seconds: float = 60) -> Addresses:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not up.running:
            up.check()
        if status.exists():
            found = orjson.loads(status.read_bytes())
            if found.get("ready"):
                return Addresses(gateway=found["gateway"], collector=found["collector"])
        time.sleep(0.1)
    raise KedgeError(f"the local platform was not ready after {seconds:g} s; it said:\n{up.tail()}")


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, however that ends (Linux)."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
