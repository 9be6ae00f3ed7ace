"""Whether the tracker answers while nobody is logged in. Whoever is logged in pings it, and this looks away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from daemon.errors import PeerError
from daemon.runtime.executors import Threads
from daemon.tracker_client.client import TrackerClient


class TrackerHealthProbe:
    """Looks once a ping interval, from `start` to `stop`; the tracker client keeps what it sees."""

    def __init__(
        self, *, tracker: TrackerClient, threads: Threads, interval: float, logged_in: Callable[[], bool]
    ) -> None:
        self._tracker = tracker
        self._threads = threads
        self._interval = interval
        self._somebody = logged_in
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            if not self._somebody():
                with suppress(PeerError):
                    await self._threads.run(self._threads.tracker, self._tracker.probe)
            await asyncio.sleep(self._interval)
