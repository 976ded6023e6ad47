"""How many processors this process may really use: training, serving, whatever starts threads; and how these wait."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_THREAD_TIMEOUT": "4"}
"""Environment in which threads that wait sleep instead of spinning: beside a busy process, OpenMP's made a fit of a
second take ten. Those of OpenBLAS, which numpy starts when it is imported, spin for 2^26 cycles each; here for 2^4."""


def usable_cpus(root: Path = CGROUP) -> int:
    """Whole processors: those it may run on, or fewer where its control group's quota says so, at least 1.

    Libraries that ask the machine start 64 threads in a container that has one processor, and then wait for each other.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return max(1, min(count, math.ceil(quota)) if quota else count)


def _quota(root: Path) -> float | None:
    try:
        quota, period = (root / "cpu.max").read_text().split()  # control groups, version 2
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
