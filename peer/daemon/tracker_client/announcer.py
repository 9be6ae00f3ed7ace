"""Keeps the tracker's picture of this peer true: pings, the index, the epoch, the tracker's clock.

A change of the library is sent as a change, not as the whole list. When the tracker has lost its memory (a new
epoch), or does not have the version that a change builds on, the list is sent again: a restarted tracker is whole
again within one ping interval.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from common.status_messages import Load
from daemon.errors import NotLoggedIn, PeerError, TrackerUnreachable
from daemon.library.library import Changes, Library
from daemon.models import IndexEntry
from daemon.runtime.executors import Threads
from daemon.tracker_client.client import FILES_PER_REQUEST, SendIndex, TrackerClient

log = logging.getLogger(__name__)


class Announcer:
    """Talks to the tracker on behalf of the library. `start` at login, `stop` at logout."""

    def __init__(
        self,
        *,
        tracker: TrackerClient,
        library: Library,
        threads: Threads,
        interval: float,
        load: Callable[[], Awaitable[Load]],
        on_server_time: Callable[[float], None],
        on_session_expired: Callable[[], None],
        on_recheck: Callable[[Sequence[str]], None],
    ) -> None:
        self._tracker = tracker
        self._library = library
        self._threads = threads
        self._interval = interval
        self._load = load
        self._on_server_time = on_server_time
        self._on_session_expired = on_session_expired
        self._on_recheck = on_recheck
        # Versions of this process are told apart from those of an earlier one.
        self._process = secrets.token_hex(8)
        # The library's version that the tracker has; None: unknown, or another's.
        self._synced_version: int | None = None
        self._epoch = ""
        self._syncing = asyncio.Lock()
        self._sync_requested = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # What it did not take of what it was told last; empty if it was not reached, which the client knows.
        self._refusal = ""

    @property
    def fault(self) -> str:
        """Why the tracker does not answer as it should, for people; empty while it does."""
        return self._tracker.fault or self._refusal

    def start(self, epoch: str = "") -> None:
        """Begin to announce: somebody has logged in."""
        self._synced_version = None
        self._epoch = epoch
        self._sync_requested.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Announce nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._refusal = ""

    def request_sync(self) -> None:
        """Have changes announced without waiting for the next ping."""
        self._sync_requested.set()

    async def sync(self) -> None:
        """Return when the tracker has the library as it is now.

        Raises:
            TrackerUnreachable, NotLoggedIn: if it cannot.
        """
        async with self._syncing:
            while self._synced_version != self._library.revision:
                changes = None if self._synced_version is None else self._library.changes_since(self._synced_version)
                try:
                    if self._synced_version is None or changes is None:
                        await self._send_all()
                    else:
                        await self._send_changes(self._version_label(self._synced_version), changes)
                except SendIndex:
                    self._synced_version = None

    async def try_sync(self) -> None:
        """Like sync, but a tracker that cannot be reached now is told at the next ping."""
        with suppress(PeerError):
            await self.sync()

    async def ping(self) -> None:
        """Say that this peer is alive, and heed what the tracker answers.

        Raises:
            TrackerUnreachable, NotLoggedIn: if it does not take it.
        """
        load = await self._load()
        version = self._version_label(self._synced_version) if self._synced_version is not None else "none"
        pong = await self._threads.run(self._threads.tracker, self._tracker.ping, self._epoch, version, load)
        self._on_server_time(pong.server_time)
        if pong.epoch != self._epoch:
            log.info("the tracker has started anew: sending the index again")
            self._epoch = pong.epoch
            self._synced_version = None
        if pong.send_index:
            self._synced_version = None
        if pong.recheck:
            self._on_recheck(pong.recheck)

    # ---------------------------------------------------------------------------------------------------------- pings

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_ping = loop.time()
        failing = False
        while True:
            self._sync_requested.clear()
            try:
                if loop.time() >= next_ping:
                    next_ping = loop.time() + self._interval
                    await self.ping()
                await self.sync()
                failing, self._refusal = False, ""
            except NotLoggedIn:
                self._refusal = ""
                log.warning("the tracker does not know this login any more: log in again")
                self._on_session_expired()
                return
            except PeerError as error:
                if not failing:
                    log.warning("%s", error)
                failing = True
                self._refusal = "" if isinstance(error, TrackerUnreachable) else error.message
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, next_ping - loop.time())):
                    await self._sync_requested.wait()

    # ---------------------------------------------------------------------------------------------------------- index

    async def _send_all(self) -> None:
        """Send the whole list: the first part replaces what the tracker has, the others are changes of it."""
        version, entries = self._library.snapshot()
        parts = [entries[at : at + FILES_PER_REQUEST] for at in range(0, len(entries), FILES_PER_REQUEST)] or [[]]
        steps = [
            *(f"{self._version_label(version)}.{step}" for step in range(1, len(parts))),
            self._version_label(version),
        ]
        await self._call(self._tracker.put_index, steps[0], parts[0])
        for base, step, part in zip(steps, steps[1:], parts[1:], strict=False):
            await self._call(self._tracker.patch_index, base, step, part, [])
        self._mark_synced(version)

    async def _send_changes(self, base: str, changes: Changes) -> None:
        """Send what changed, removals first, in as many steps as it takes."""
        version, added, removed = changes.revision, changes.added, changes.removed
        parts: list[tuple[Sequence[IndexEntry], Sequence[tuple[str, str]]]] = [
            ((), removed[at : at + FILES_PER_REQUEST]) for at in range(0, len(removed), FILES_PER_REQUEST)
        ]
        parts += [(added[at : at + FILES_PER_REQUEST], ()) for at in range(0, len(added), FILES_PER_REQUEST)]
        if len(removed) + len(added) <= FILES_PER_REQUEST:
            parts = [(added, removed)]
        for step, (add, remove) in enumerate(parts, 1):
            last = step == len(parts)
            name = self._version_label(version) if last else f"{self._version_label(version)}.c{step}"
            await self._call(self._tracker.patch_index, base, name, add, remove)
            base = name
        self._mark_synced(version)

    def _mark_synced(self, version: int) -> None:
        self._synced_version = version
        self._library.discard_changes(version)

    async def _call(self, request: Callable[..., None], *args: object) -> None:
        await self._threads.run(self._threads.tracker, request, *args)

    def _version_label(self, version: int) -> str:
        return f"{self._process}.{version}"
