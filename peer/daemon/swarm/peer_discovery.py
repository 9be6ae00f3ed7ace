"""The known holders of one file, and queries for more of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from daemon.errors import PeerError
from daemon.models import Holder
from daemon.runtime.concurrency import PeriodicTask

# Seconds after the start of a download at which holders are queried. In a young swarm new holders appear within
# seconds, and are found as soon. Later they are queried every _QUERY_INTERVAL seconds.
_EARLY_QUERIES = (0.25, 0.5, 1.0, 2.0, 4.0)
_QUERY_INTERVAL = 10.0
# The least time between two queries that were asked for, in seconds.
_MIN_QUERY_INTERVAL = 0.25

FindHolders = Callable[[], Awaitable[Iterable[Holder]]]


class PeerDiscovery:
    """Queries the holders of one file again and again."""

    def __init__(self, find: FindHolders, known: dict[str, Holder], clock: Callable[[], float]) -> None:
        """Create a discovery that is not running.

        Args:
            find: Returns the holders that the tracker knows now. May raise PeerError.
            known: The holders by address; updated here.
            clock: Returns seconds.
        """
        self._find = find
        self._known = known
        self._clock = clock
        # Only while it runs: the step references this object, a cycle that would stay until the next collection.
        self._task: PeriodicTask | None = None
        # The known holders are an answer of the tracker: it need not be asked at once.
        self._skip_query = bool(known)
        self._began = clock()
        self._last_query = -math.inf

    def query_soon(self) -> None:
        """Query without waiting for the interval: a ticket was rejected."""
        if self._task is not None:
            self._task.wake()

    async def run(self, on_found: Callable[[], None]) -> None:
        """Query holders until cancelled: at once if none is known, else after the first interval.

        Args:
            on_found: Called after each answer of the tracker.
        """
        self._began = self._clock()
        self._task = PeriodicTask(lambda: self._step(on_found))
        try:
            await self._task.run()
        finally:
            self._task = None

    async def _step(self, on_found: Callable[[], None]) -> float:
        if self._skip_query:
            self._skip_query = False
        else:
            await asyncio.sleep(self._last_query + _MIN_QUERY_INTERVAL - self._clock())
            # If the tracker does not answer, the known holders may suffice.
            with suppress(PeerError):
                self._known.update({found.address: found for found in await self._find()})
                on_found()
            self._last_query = self._clock()
        age = self._clock() - self._began
        return next((at - age for at in _EARLY_QUERIES if at > age), _QUERY_INTERVAL)
