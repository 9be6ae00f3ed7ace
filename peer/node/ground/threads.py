"""The pserver's threads: disk, hashing and the tracker apart, so that a stuck call of one kind never starves the
others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """The executors. Blocking work is a plain function; `run` awaits it."""

    def __init__(self) -> None:
        # Payload: two or three overlap hashing and writing with the network; more gain nothing on two cores. Some
        # more than
        # that, so that a slow disk under one file does not hold all others.
        self.payload = ThreadPoolExecutor(6, "payload")
        # Everything else that touches the disk: opening, publishing, scanning, hashing whole files.
        self.disk = ThreadPoolExecutor(8, "disk")
        self.tracker = ThreadPoolExecutor(4, "tracker")

    async def run(self, executor: Executor, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work that is short."""
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: work(*args, **kwargs))

    async def run_stoppable(self, executor: Executor, work: Callable[[Callable[[], bool]], R]) -> R:
        """Run blocking work that is handed `stop`, which tells it to give up; cancelling waits until it did."""
        stop = threading.Event()
        future = asyncio.get_running_loop().run_in_executor(executor, work, stop.is_set)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([future])
            future.exception()
            raise

    def shutdown(self) -> None:
        """Take no more work. Work under way goes on until the process ends."""
        for executor in (self.payload, self.disk, self.tracker):
            executor.shutdown(wait=False, cancel_futures=True)
