"""Secrets that changed while a process runs. Kubernetes sets a container's environment once; the same Secrets are
mounted beside it, and the kubelet renews those files within about a minute."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "KEDGE_SECRETS"
"""The folder where they are mounted: a file a key. Without it nothing is watched."""
SECONDS = 10.0

Secrets = Mapping[str, bytes]
"""Values by key, which is the variable's name."""


def watch(changed: Callable[[Secrets, Secrets], None]) -> None:
    """Call ``changed(before, now)`` after each change, in a thread that ends with the process."""
    folder = os.environ.get(VARIABLE)
    if folder:
        threading.Thread(target=_watch, args=(Path(folder), changed), daemon=True, name="secrets").start()


def end(before: Secrets, now: Secrets) -> None:
    """For a process that reads its credentials once: end as on SIGTERM. The kubelet starts it with the new ones."""
    names = ", ".join(sorted(key for key in {*before, *now} if before.get(key) != now.get(key)))
    sys.stderr.write(f"a mounted Secret changed ({names}): ending, to be started with what it holds now\n")
    os.kill(os.getpid(), signal.SIGTERM)


def renew(before: Secrets, now: Secrets) -> None:
    """For a process that reads its credentials each time: set the variables that came from there anew."""
    for key in {*before, *now}:
        if os.environb.get(key.encode()) == before.get(key) != now.get(key):
            if key in now:
                os.environb[key.encode()] = now[key]
            else:
                del os.environ[key]


def look(folder: Path, before: Secrets | None, changed: Callable[[Secrets, Secrets], None]) -> Secrets | None:
    """What the folder holds now; what it held ``before`` if it cannot be read, as while the kubelet changes it."""
    try:
        now = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    except OSError:
        return before
    if before is not None and now != before:
        changed(before, now)
    return now


def _watch(folder: Path, changed: Callable[[Secrets, Secrets], None]) -> None:
    held = look(folder, None, changed)
    while True:
        time.sleep(SECONDS)
        held = look(folder, held, changed)
