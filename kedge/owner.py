"""Which process submitted a run, and whether it still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """This process as a record names it."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def gone(owner: Mapping[str, Any]) -> bool:
    """Whether the process is known to have ended: it ran on this host and is not there any more.

    A process number is used again one day, so the time it began must agree too (where /proc tells it).
    """
    if owner.get("host") != socket.gethostname():
        return False
    pid = int(owner.get("pid", 0))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, as another user
    return _began(pid) != owner.get("began")


def _began(pid: int) -> int | None:
    """Clock ticks from boot to the process's start: field 22 of /proc/PID/stat; None where there is no such file."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return -1 if state == "Z" else int(fields[18])
