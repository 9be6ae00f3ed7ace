"""Who may have the file: the holders known by now, and looking for more of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from daemon.errors import PeerError
from daemon.models import Holder

# When a download is young, holders are looked for at these ages, in seconds, for a crowd depends on it; later every
# _LOOK_EVERY.
_EARLY_QUERIES = (0.25, 0.5, 1.0, 2.0, 4.0)
_QUERY_INTERVAL = 10.0
# Between two looks that were asked for.
_MIN_QUERY_INTERVAL = 0.25


FindHolders = Callable[[], Awaitable[Iterable[Holder]]]


class PeerDiscovery:
    """Looks for holders of one file."""

    def __init__(self, find: FindHolders, known: dict[str, Holder], clock: Callable[[], float]) -> None:
        """`known`, by url, is kept up to date."""
        self._find = find
        self._known = known
        self._clock = clock
        self._query_now = asyncio.Event()

    def query_soon(self) -> None:
        """Look again without waiting: somebody's ticket is no good."""
        self._query_now.set()

    async def run(self, on_found: Callable[[], None]) -> None:
        """Look again and again; tell each time that the tracker answers."""
        began = self._clock()
        while True:
            # If the tracker does not answer, the holders known so far may do.
            with suppress(PeerError):
                self._known.update({found.address: found for found in await self._find()})
                on_found()
            age = self._clock() - began
            pause = next((at - age for at in _EARLY_QUERIES if at > age), _QUERY_INTERVAL)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._query_now.wait(), pause)
                # Not in a tight circle.
                await asyncio.sleep(_MIN_QUERY_INTERVAL)
            self._query_now.clear()
