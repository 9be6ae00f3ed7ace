"""Background tasks of the event loop: a set of them, and one that repeats a step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any


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
