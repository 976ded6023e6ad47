"""How a process gets its memory, and gives it back."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Parameters of ``mallopt``, as malloc.h numbers them."""
LARGE = 1 << 20
"""Bytes of a block that goes back to the system at once when it is freed: a column of 131,072 numbers. Smaller ones are
used again, as fresh pages have to be cleared: a check of 100,000 rows took a tenth less time than at an eighth of it,
and 6 MB more."""
LARGE_IN_PARTS = 128 << 10
"""The same where millions of rows are read in parts: what lies free between blocks in use adds up, 60 MB of 420."""
ARENAS = 2


def give_back() -> None:
    """Let this process give memory back to the system as it frees it; to be called before Arrow is imported.

    Arrow's own allocators keep what was freed. So does the C library of most Linuxes: once a block of up to 32 MB was
    freed, those like it come from heaps, one for each thread, that shrink only from their ends. An allocator that
    somebody chose for Arrow is left as it is.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    tune({MMAP_THRESHOLD: LARGE, ARENA_MAX: ARENAS})


def give_more_back() -> None:
    """From now on smaller blocks too: this process reads more than it holds."""
    tune({MMAP_THRESHOLD: LARGE_IN_PARTS})


def tune(parameters: Mapping[int, int]) -> None:
    """Set parameters of glibc's ``mallopt``; C libraries that have none are left as they are."""
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in parameters.items():
            mallopt(parameter, value)
