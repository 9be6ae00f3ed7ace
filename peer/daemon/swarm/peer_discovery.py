"""Who may have the file: the holders known by now, and looking for more of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol

from daemon.errors import PeerError

# When a download is young, holders are looked for at these ages, in seconds, for a crowd depends on it; later every
# _LOOK_EVERY.
_LOOK_AT = (0.25, 0.5, 1.0, 2.0, 4.0)
_LOOK_EVERY = 10.0
# Between two looks that were asked for.
_PAUSE = 0.25


class Findings(Protocol):
    """A holder as the tracker names it."""

    @property
    def address(self) -> str:
        """host:port"""

    @property
    def ticket(self) -> str:
        """Its permission."""


Find = Callable[[], Awaitable[Iterable[Findings]]]


class Seeking:
    """Looks for holders of one file."""

    def __init__(self, find: Find, known: dict[str, Findings], clock: Callable[[], float]) -> None:
        """`known`, by url, is kept up to date."""
        self._find = find
        self._known = known
        self._clock = clock
        self._now = asyncio.Event()

    def soon(self) -> None:
        """Look again without waiting: somebody's ticket is no good."""
        self._now.set()

    async def run(self, on_found: Callable[[], None]) -> None:
        """Look again and again; tell each time that the tracker answers."""
        began = self._clock()
        while True:
            # If the tracker does not answer, the holders known so far may do.
            with suppress(PeerError):
                self._known.update({found.address: found for found in await self._find()})
                on_found()
            age = self._clock() - began
            pause = next((at - age for at in _LOOK_AT if at > age), _LOOK_EVERY)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), pause)
                # Not in a tight circle.
                await asyncio.sleep(_PAUSE)
            self._now.clear()
