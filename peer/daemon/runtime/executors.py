"""The thread pools of a pserver: payload, disk and tracker, so that blocked calls of one do not starve another.

A thread cannot be cancelled. So a cancelled task that changes something must wait for its thread: see
`shield_until_done`.
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
    """The thread pools. Blocking work is a plain function, which one of the `run` methods awaits."""

    def __init__(self) -> None:
        # Hashing and writing of pieces. On two cores, more than three threads gain nothing; the other ones keep files
        # moving while a slow disk blocks one.
        self.payload = ThreadPoolExecutor(6, "payload")
        # All other disk work: opening, publishing, scanning, hashing complete files.
        self.disk = ThreadPoolExecutor(8, "disk")
        self.tracker = ThreadPoolExecutor(4, "tracker")

    async def run(self, executor: Executor, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Await short blocking work that changes nothing. A cancelled caller does not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: work(*args, **kwargs))

    async def run_uncancellable(self, executor: Executor, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Await blocking work that changes something. A cancelled caller waits until it is done."""
        loop = asyncio.get_running_loop()
        return await shield_until_done(loop.run_in_executor(executor, lambda: work(*args, **kwargs)))

    async def run_cancellable(self, executor: Executor, work: Callable[[Callable[[], bool]], R]) -> R:
        """Await blocking work that can stop early.

        Args:
            executor: where it runs.
            work: is called with a function that returns whether to stop. A cancelled caller waits until it has stopped.
        """
        stop = threading.Event()
        return await shield_until_done(
            asyncio.get_running_loop().run_in_executor(executor, work, stop.is_set), stop.set
        )

    def shutdown(self) -> None:
        """Accept no more work. Running work continues until the process exits."""
        for executor in (self.payload, self.disk, self.tracker):
            executor.shutdown(wait=False, cancel_futures=True)


async def shield_until_done(work: asyncio.Future[R], on_cancel: Callable[[], object] = lambda: None) -> R:
    """Await running work. A cancelled caller still waits until the work is done, and is cancelled then.

    Args:
        work: the running work.
        on_cancel: called at the first cancellation, to stop the work early.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        on_cancel()
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            # Mark a failure as retrieved: asyncio would log it.
            work.exception()
        raise
