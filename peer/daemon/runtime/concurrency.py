"""How work runs beside the event loop's other work: background tasks, and thread pools for what blocks.

A thread cannot be cancelled. So a cancelled task that changes something must wait for its thread: see
`shield_until_done`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# The longest time that a loop over many items keeps other tasks waiting, in seconds.
PACE_SECONDS = 0.005


class TaskSet:
    """Tasks that nothing awaits. The set references each until it is done, because asyncio does so only weakly."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` as a task and return it. The coroutine handles its own errors."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def cancel(self) -> None:
        """Cancel the tasks and wait until they are done."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def paced(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield items for a loop that may be long and awaits little: other tasks run every PACE_SECONDS."""
    clock = asyncio.get_running_loop().time
    pause_at = clock() + PACE_SECONDS
    for item in items:
        yield item
        if clock() >= pause_at:
            await asyncio.sleep(0)
            pause_at = clock() + PACE_SECONDS


class PeriodicTask:
    """Repeats an asynchronous step, from `start` to `stop`."""

    def __init__(self, step: Callable[[], Awaitable[float | None]]) -> None:
        """Prepare the task; nothing runs yet.

        Args:
            step: does the work once. It returns the seconds until the next step, or None to end the task. It handles
                its own errors; an exception ends the task.
        """
        self._step = step
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the task was started and has neither ended nor been stopped."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Run the first step now. Does nothing while the task runs."""
        if not self.running:
            self._task = asyncio.get_running_loop().create_task(self.run())

    def wake(self) -> None:
        """Run the next step without waiting for its time, or at once after the step that runs now."""
        self._wake.set()

    async def stop(self) -> None:
        """Cancel the task and wait until it is done."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run(self) -> None:
        """Repeat the step in the caller's own task, until the step ends it or the caller is cancelled."""
        while True:
            self._wake.clear()
            pause = await self._step()
            if pause is None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()


class Threads:
    """The thread pools: payload, disk and tracker, so that blocked calls of one do not starve another.

    Blocking work is a plain function, which one of the `run` methods awaits.
    """

    def __init__(self) -> None:
        # Hashing and writing of pieces. Three threads use two cores fully. The other three work while a slow disk
        # blocks some of them.
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
