"""How this process keeps its memory: malloc, and Python's search for garbage.

glibc's malloc is told to keep large buffers instead of mapping and unmapping each, for a message of 1 MiB is one.
Measured: 1,240 MB/s without, 1,430 to 1,810 MB/s with (README, Performance). Not where there is no glibc.

A folder of ten thousand files is a hundred thousand objects that hold no cycles: with Python's own thresholds the
search for cycles among them takes a tenth of the time of its download.
"""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Larger than any message; freed memory beyond this much goes back to the system.
_MMAP_THRESHOLD = 4 << 20
_TRIM_THRESHOLD = 64 << 20
# New objects before a search, and searches before one that goes further back. Not rarer: gRPC leaves each call that it
# served in a cycle of some thirty objects.
_GARBAGE = (5_000, 20, 20)


def tune() -> None:
    """Set the thresholds for this process."""
    gc.set_threshold(*_GARBAGE)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
