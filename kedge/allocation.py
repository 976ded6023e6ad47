"""How a process gets its memory, and gives it back."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

MMAP_THRESHOLD, ARENA_MAX = -3, -8
"""Parameters of ``mallopt``, as malloc.h numbers them."""
LARGE = 1 << 17
"""Bytes of a block that goes back to the system at once when it is freed."""
ARENAS = 2


def give_back() -> None:
    """Let this process give memory back to the system as it frees it; to be called before Arrow is imported.

    Arrow's own allocators keep what was freed. So does the C library of most Linuxes: once a block of up to 32 MB was
    freed, those like it come from heaps, one for each thread, that shrink only from their ends. Other C libraries are
    left as they are, and so is an allocator that somebody chose for Arrow.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, LARGE)
        mallopt(ARENA_MAX, ARENAS)
