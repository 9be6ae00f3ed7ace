"""The pserver's threads: disk, hashing and the tracker apart, so that a stuck call of one kind never starves the
others.

A thread cannot be cancelled. Whoever awaits what changes something awaits its end, too: `to_its_end` sees to that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """The executors. Blocking work is a plain function; `run` awaits it."""

    def __init__(self) -> None:
        # Payload: two or three overlap hashing and writing with the network; more gain nothing on two cores. Some
        # more than that, so that a slow disk under one file does not hold all others.
        self.payload = ThreadPoolExecutor(6, "payload")
        # Everything else that touches the disk: opening, publishing, scanning, hashing whole files.
        self.disk = ThreadPoolExecutor(8, "disk")
        self.tracker = ThreadPoolExecutor(4, "tracker")

    async def run(self, executor: Executor, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work that is short, and only looks or asks: cancelling leaves it to itself."""
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: work(*args, **kwargs))

    async def run_uncancellable(self, executor: Executor, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work that changes something; cancelling waits until it is done."""
        loop = asyncio.get_running_loop()
        return await shield_until_done(loop.run_in_executor(executor, lambda: work(*args, **kwargs)))

    async def run_cancellable(self, executor: Executor, work: Callable[[Callable[[], bool]], R]) -> R:
        """Run blocking work that is handed `stop`, which tells it to give up; cancelling waits until it did."""
        stop = threading.Event()
        return await shield_until_done(
            asyncio.get_running_loop().run_in_executor(executor, work, stop.is_set), stop.set
        )

    def shutdown(self) -> None:
        """Take no more work. Work under way goes on until the process ends."""
        for executor in (self.payload, self.disk, self.tracker):
            executor.shutdown(wait=False, cancel_futures=True)


async def shield_until_done(work: asyncio.Future[R], on_cancel: Callable[[], object] = lambda: None) -> R:
    """Await work that is under way. Whoever is cancelled meanwhile waits for it all the same, however often that is.

    `on_cancel` is called at the first time, to hurry it.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        on_cancel()
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            # A failure is no news any more.
            work.exception()
        raise
