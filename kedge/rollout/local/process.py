"""A child process that is started again when it ends, and that ends with its parent, however the parent ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0
"""Seconds before a process that ended is started again: doubled each time up to the longest."""
STEADY = 30.0
"""Seconds a process must have lived for the pause to begin anew."""
MAX_LOG_BYTES = 4_000_000
TAIL_BYTES = 2_000

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Process:
    """One command, kept running.

    Args:
        command: Words of the command; asked anew at each start, as a free port may be another by then.
        log: File its output is appended to, held below twice ``MAX_LOG_BYTES``.
    """

    def __init__(self, command: Callable[[], Sequence[str]], log: Path) -> None:
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._again_at = 0.0
        self._pause = FIRST_PAUSE
        self._log_from = 0
        self.ends = 0
        """How often it ended by itself."""
        self.code: int | None = None
        """Exit code of its last end."""

    @property
    def alive(self) -> bool:
        """It runs now."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None and self.alive else None

    def keep(self) -> bool:
        """Start it if it does not run and its pause is over; True if this call started it."""
        if self.alive:
            return False
        if self._process is not None:
            self._ended()
        if time.monotonic() < self._again_at:
            return False
        self._start()
        return True

    def stop(self, seconds: float = 10.0) -> None:
        """End it: politely, then not. Waits until it is gone."""
        self.ask_to_stop()
        self.wait(seconds)

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return."""
        self._signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait until it is gone; after so many seconds it is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._process = None

    def trim_log(self) -> None:
        """Move a long log to ``<name>.1`` and begin it anew; the process keeps writing to the same file."""
        with contextlib.suppress(FileNotFoundError):
            if self._log.stat().st_size > MAX_LOG_BYTES:
                with self._log.open("r+b") as file:
                    file.seek(-MAX_LOG_BYTES // 2, os.SEEK_END)
                    self._log.with_suffix(".log.1").write_bytes(file.read())
                    file.truncate(0)
                self._log_from = 0

    def said(self, lines: int = 5) -> str:
        """The last lines it wrote since it was started last."""
        try:
            with self._log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_from, end - TAIL_BYTES))
                text = file.read(TAIL_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])

    def _start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as out:
            self._log_from = out.tell()
            self._process = subprocess.Popen(
                list(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which ends its children in order
                preexec_fn=_end_with(os.getpid()),
            )
        self._started = time.monotonic()

    def _ended(self) -> None:
        if self._process is not None:
            self.code, self._process = self._process.returncode, None
        self.ends += 1
        now = time.monotonic()
        if now - self._started > STEADY:
            self._pause = FIRST_PAUSE
        self._again_at = now + self._pause
        self._pause = min(2 * self._pause, MAX_PAUSE)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _end_with(parent: int) -> Callable[[], None] | None:
    """For the child, before it becomes its program: have the kernel kill it when the parent is gone (Linux)."""
    if sys.platform != "linux":
        return None

    def ask() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended between the fork and the line above
            os._exit(1)

    return ask
