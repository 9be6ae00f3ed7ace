"""What the tracker knows of the network, asked without blocking: the only way from the event loop to the tracker's
answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from common.status_messages import ListedFile, ListedPeer
from daemon.errors import PeerError
from daemon.models import PushTarget, RemoteFile, Version
from daemon.runtime.executors import Threads
from daemon.tracker_client.client import TrackerClient

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class AsyncTrackerClient:
    """The tracker's answers."""

    def __init__(self, tracker: TrackerClient, threads: Threads) -> None:
        self._tracker = tracker
        self._threads = threads
        self._reports: set[asyncio.Task[None]] = set()

    async def query(self, *, names: Sequence[str] = (), ids: Sequence[str] = ()) -> list[RemoteFile]:
        """Return versions of names, or of ids, with their holders and tickets."""
        return await self._ask(self._tracker.query, names=names, ids=ids)

    async def place(self, files: Sequence[Version], copies: int) -> list[PushTarget]:
        """Return the peers that should take copies."""
        return await self._ask(self._tracker.place, files, copies)

    async def peers(self) -> list[ListedPeer]:
        """Return who is alive."""
        return await self._ask(self._tracker.peers)

    async def files(self, match: str) -> AsyncIterator[list[ListedFile]]:
        """Yield what the network has, page by page."""
        pages: Iterator[list[ListedFile]] = self._tracker.files(match)
        while (page := await self._ask(next, pages, None)) is not None:
            yield page

    def report_corrupt(self, id_: str, holder: str, why: str) -> None:
        """Tell the tracker of a holder that served what did not verify, when there is time for it."""

        async def tell() -> None:
            try:
                await self._ask(self._tracker.report_corrupt, id_, holder, why)
            except PeerError as error:
                log.info("the tracker could not be told of %s: %s", holder, error)

        task = asyncio.get_running_loop().create_task(tell())
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _ask(self, question: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._threads.run(self._threads.tracker, question, *args, **kwargs)
