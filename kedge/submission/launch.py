"""Start a pipeline with the local runner and follow it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedge.cpus import PATIENT
from kedge.errors import RunError
from kedge.extras import require

MARK = "kedge: "
TAIL_LINES = 6
STEPS = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
"""For the steps, whose interpreters KFP starts: their lines appear as they are printed, and nothing is imported from
the folder this command was started in."""


@dataclass(frozen=True)
class Ended:
    """How the local runner's process ended."""

    well: bool
    last_step: str | None
    """The last step that said it started."""
    tail: str
    """The end of what it printed."""


def require_packages(registry: str) -> None:
    """Refuse to begin a run whose steps would miss their packages.

    Args:
        registry: Its address: only the whole of MLflow has one on SQLite.

    Raises:
        UsageError: names the first that is missing, and what installs it.
    """
    whole = ("alembic",) if registry.startswith("sqlite") else ()
    require("the local runner", "local", ("kfp", "pandera", "sklearn", "xgboost", "mlflow", "httpx", *whole))


def run_local(spec: Path, arguments: dict[str, Any], say: Callable[[str], None]) -> Ended:
    """Run a compiled pipeline in a process group of its own, and wait for it.

    ``say`` is told the steps' own lines.

    The group ends when this function ends, however it ends: a child holds the other end of its standard input and
    leaves when it closes, even if this process was killed.

    Raises:
        RunError: the process could not be started.
    """
    order = json.dumps({"spec": str(spec), "arguments": arguments}).encode() + b"\n"
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-u", "-W", "ignore", "-m", "kedge.submission.local"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env={**PATIENT, **os.environ, **STEPS},
        )  # fmt: skip
    except OSError as exc:
        raise RunError(f"the local runner could not be started: {exc.strerror}") from exc
    assert child.stdin is not None
    assert child.stdout is not None
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    last_step = None
    try:
        child.stdin.write(order)
        child.stdin.flush()
        for raw in child.stdout:
            line = raw.decode("utf-8", "replace").strip()
            if line.startswith(MARK):
                say(line.removeprefix(MARK))
                last_step = _started(line) or last_step
            elif line:
                tail.append(line)
        code = child.wait()
    except BrokenPipeError:
        code = child.wait()
    finally:
        _end(child)
    return Ended(well=code == 0, last_step=last_step, tail="\n".join(tail))


def _started(line: str) -> str | None:
    name, found, _ = line.removeprefix(MARK).partition(": started")
    return name if found else None


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave no process of the group behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
