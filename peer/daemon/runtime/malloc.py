"""How this process keeps its memory: malloc, what it gives back at rest, and Python's search for garbage.

glibc's malloc is told to keep large buffers instead of mapping and unmapping each, for a message of 1 MiB is one.
Measured: 1,240 MB/s without, 1,430 to 1,810 MB/s with (docs/performance.md). And to have one arena, not eight for each
core: what one thread frees another takes. Measured in turns, a large file: as quick, with 77 MiB instead of 104. Not
where there is no glibc.
What it keeps for the next transfer it gives back while the process is at rest: a daemon is at rest most of its life.

A folder of ten thousand files is a hundred thousand objects that hold no cycles: with Python's own thresholds the
search for cycles among them takes a tenth of the time of its download.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Larger than any message; freed memory beyond this much goes back to the system.
_MMAP_THRESHOLD = 4 << 20
_TRIM_THRESHOLD = 64 << 20
_ARENAS = 1
# New objects before a search, and searches before one that goes further back. Not rarer: gRPC leaves each call that it
# served in a cycle of some thirty objects.
_GARBAGE = (5_000, 20, 20)
# At rest: so many seconds with less than this part of a processor used.
_REST = 10.0
_REST_PART = 0.1
# A search at rest is followed by a pause of so many times as long at least.
_PAUSE = 200.0


def tune() -> None:
    """Set the thresholds for this process."""
    gc.set_threshold(*_GARBAGE)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


async def trim_memory_when_idle(rest: float = _REST) -> None:
    """Find garbage and give free memory back to the system while the process is at rest, every ten seconds.

    A process that serves a call now and then makes so few new objects that Python would look for old garbage after
    hours. What the start has made is not looked through again, so that it takes milliseconds. Goes on until it is
    cancelled.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
    gc.collect()
    gc.freeze()
    took = 0.0
    while True:
        pause = max(rest, _PAUSE * took)
        before = time.process_time()
        await asyncio.sleep(pause)
        began = time.process_time()
        if began - before < pause * _REST_PART:
            gc.collect()
            trim(0)
            took = time.process_time() - began
