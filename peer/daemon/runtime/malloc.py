"""Memory of this process: thresholds of glibc's malloc and of Python's garbage collector, and trimming while idle.

malloc keeps large buffers instead of mapping and unmapping each, because a message of 1 MiB is one. Measured: 1,430 to
1,810 MB/s instead of 1,240 (docs/performance.md). One arena instead of eight for each core lets one thread reuse what
another freed. Measured with a large file: the same speed, with 77 MiB instead of 104. Without glibc none of this is
done. Memory that malloc keeps for the next transfer goes back to the system while the process is idle.

A folder of ten thousand files makes a hundred thousand objects without cycles. With Python's default thresholds, the
garbage collector takes a tenth of the time of their download.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Bytes. A larger buffer than any message is mapped; more freed memory than the second goes back to the system.
_MMAP_THRESHOLD = 4 << 20
_TRIM_THRESHOLD = 64 << 20
_ARENAS = 1
# For gc.set_threshold. Higher thresholds would cost memory: gRPC leaves about thirty objects in a cycle for each call.
_GC_THRESHOLDS = (5_000, 20, 20)
# The process is idle if it uses less than this share of one processor for this many seconds.
_IDLE_SECONDS = 10.0
_IDLE_CPU_SHARE = 0.1
# A garbage collection that takes longer, in seconds, freezes what it leaves: the event loop waits for it.
_LONG_COLLECTION = 0.05
# The pause after a garbage collection, as a multiple of its duration.
_PAUSE_FACTOR = 200.0


def tune() -> None:
    """Set the thresholds of this process."""
    gc.set_threshold(*_GC_THRESHOLDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


async def trim_memory_when_idle(idle_seconds: float = _IDLE_SECONDS, long_collection: float = _LONG_COLLECTION) -> None:
    """Collect garbage and return free memory to the system whenever the process was idle, until cancelled.

    An idle process makes so few objects that Python would collect old garbage only after hours. The objects of the
    start are frozen, so a collection takes milliseconds.

    Args:
        idle_seconds: the time that the process must be idle first.
        long_collection: the seconds after which a garbage collection freezes what it leaves.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
    gc.collect()
    gc.freeze()
    took = 0.0
    while True:
        pause = max(idle_seconds, _PAUSE_FACTOR * took)
        before = time.process_time()
        await asyncio.sleep(pause)
        began = time.process_time()
        if began - before < pause * _IDLE_CPU_SHARE:
            gc.collect()
            if time.process_time() - began > long_collection:
                # What survived are hundreds of thousands of files that were added. The next collections skip them.
                gc.freeze()
            trim(0)
            took = time.process_time() - began
