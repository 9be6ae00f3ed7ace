"""Keeps the tracker's record of this peer up to date: pings, the index, the epoch.

A change of the library is announced as a change. The complete index is sent when the tracker has a new epoch, or does
not have the version that a change builds on. A restarted tracker is therefore up to date within one ping interval.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import ParamSpec, TypeVar

from common.status_messages import Load
from daemon.errors import Incompatible, NotLoggedIn, PeerError, RequestTooLarge, TrackerUnreachable
from daemon.library.index_changes import Changes
from daemon.library.library import Library
from daemon.runtime.concurrency import PeriodicTask, Threads
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.own_address import MOVING_PROTOCOL, OwnAddress
from daemon.tracker_client.ping_interval import PingInterval
from daemon.tracker_client.responses import SendIndex

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# The version that a tracker never has: its next ping response asks for the complete index.
_NO_VERSION = "none"
# The shortest pause between two steps, in seconds, when the next ping is due at once.
_STEP_PAUSE_MIN = 0.05


class Announcer:
    """Pings the tracker and announces the library during a login session; otherwise checks that the tracker answers."""

    def __init__(
        self,
        *,
        tracker: TrackerClient,
        library: Library,
        threads: Threads,
        interval: PingInterval,
        own_address: OwnAddress,
        load: Callable[[], Awaitable[Load]],
        on_server_time: Callable[[float], None],
        on_recheck: Callable[[Sequence[str]], None],
    ) -> None:
        """Make an announcer; `open` starts it.

        Args:
            tracker: The tracker.
            library: The files to announce.
            threads: The threads that read the library; a large one takes seconds.
            interval: How often to ping, or to check. It learns what the tracker asks for.
            own_address: Which address to announce. It learns what the tracker has.
            load: Returns the load that a ping carries.
            on_server_time: Called with the tracker's time in Unix seconds.
            on_recheck: Called with the ids that the tracker wants hashed again.
        """
        self._tracker = tracker
        self._library = library
        self._threads = threads
        self._interval = interval
        self._own_address = own_address
        self._load = load
        self._on_server_time = on_server_time
        self._on_recheck = on_recheck
        # Distinguishes index versions of this process from those of an earlier one.
        self._process = secrets.token_hex(8)
        # The library's revision that the tracker has; None if it is unknown.
        self._synced_revision: int | None = None
        self._epoch = ""
        self._syncing = asyncio.Lock()
        # None while this peer is logged out.
        self._on_session_expired: Callable[[], None] | None = None
        self._on_moved: Callable[[], None] = lambda: None
        self._loop = PeriodicTask(self._step)
        self._next_ping = 0.0
        self._failing = False
        # Why the tracker refused the last announcement. It is empty if the tracker was not reached: then the client
        # knows the fault.
        self._refusal = ""

    @property
    def fault(self) -> str:
        """Why the tracker cannot be reached or refuses the index, one line for users; empty if all is well."""
        return self._tracker.fault or self._refusal

    def open(self) -> None:
        """Begin: check once an interval that the tracker answers, until `start`."""
        self._loop.start()

    def start(self, epoch: str, on_session_expired: Callable[[], None], on_moved: Callable[[], None]) -> None:
        """Ping and announce from now on; called after a login.

        Args:
            epoch: The tracker's epoch from the login response; empty if it is unknown.
            on_session_expired: Called when the tracker does not know the session any more. Announcing has stopped then.
            on_moved: Called when the session has another address at the tracker than before.
        """
        self._synced_revision = None
        self._epoch = epoch
        self._next_ping = 0.0
        self._failing = False
        self._on_session_expired = on_session_expired
        self._on_moved = on_moved
        self._loop.start()
        self._loop.wake()

    async def stop(self) -> None:
        """Stop pings and announcements, and return when none is under way; `open` begins the checks again."""
        self._on_session_expired = None
        await self._loop.stop()
        self._refusal = ""

    def request_sync(self) -> None:
        """Announce changes soon, without waiting for the next ping."""
        if self._on_session_expired is not None:
            self._loop.wake()

    async def sync(self) -> None:
        """Announce all changes, and return when the tracker has the library as it is now.

        Raises:
            TrackerUnreachable: The tracker does not answer.
            NotLoggedIn: The session has ended.
        """
        async with self._syncing:
            while self._synced_revision != self._library.revision:
                base = self._synced_revision
                changes = None if base is None else await self._read(self._library.changes_since, base)
                try:
                    if base is None or changes is None:
                        await self._send_all()
                    else:
                        await self._send_changes(self._version(base), changes)
                except SendIndex:
                    self._synced_revision = None

    async def try_sync(self) -> None:
        """Announce all changes as `sync` does; if the tracker cannot be reached, the next ping repeats it."""
        with suppress(PeerError):
            await self.sync()

    async def ping(self) -> None:
        """Report that this peer is online, and process the response.

        Raises:
            TrackerUnreachable: The tracker does not answer.
            Incompatible: Its release does not fit.
            NotLoggedIn: The session has ended, or it cannot follow this peer to its new address.
        """
        await self._tracker.ensure_negotiated()
        if self._own_address.has_changed and self._tracker.protocol < MOVING_PROTOCOL:
            # The tracker would send requesters to the old address.
            raise NotLoggedIn(
                f"logged in at {self._own_address.of_session}, but the address is now {self._own_address.announced}, "
                "and the tracker's release lets no session move: log in again"
            )
        load = await self._load()
        version = _NO_VERSION if self._synced_revision is None else self._version(self._synced_revision)
        response = await self._tracker.ping(
            self._epoch, version, load, address=self._own_address.in_ping, read_timeout=self._interval.timeout
        )
        self._on_server_time(response.server_time)
        if response.address not in ("", self._own_address.of_session):
            log.info("other peers reach this one at %s now; it was %s", response.address, self._own_address.of_session)
            self._own_address.of_session = response.address
            self._on_moved()
        self._interval.learn(response.ping_interval)
        if response.epoch != self._epoch:
            # After a start of this pserver no epoch is known, so a new one does not mean a restart of the tracker.
            if self._epoch:
                log.info("the tracker was restarted: sending the complete index")
                self._tracker.forget_protocol()
            self._epoch = response.epoch
            self._synced_revision = None
        if response.send_index:
            self._synced_revision = None
        if response.recheck:
            self._on_recheck(response.recheck)
        # The index that follows may have the fields of another release.
        await self._tracker.ensure_negotiated()

    # ----------------------------------------------------------------------------------------------------------- loop

    async def _step(self) -> float:
        """Ping if it is time, and announce changes; return the seconds until the next step."""
        if self._on_session_expired is None:
            await self._check_tracker()
            return self._interval.seconds
        now = asyncio.get_running_loop().time
        try:
            if now() >= self._next_ping:
                began = now()
                self._next_ping = began + self._interval.retry_seconds
                await self.ping()
                self._next_ping = began + self._interval.seconds
            await self.sync()
            self._failing, self._refusal = False, ""
        except NotLoggedIn as error:
            log.warning("logged out: %s", error)
            self._refusal = ""
            on_session_expired, self._on_session_expired = self._on_session_expired, None
            if on_session_expired is not None:
                on_session_expired()
            return self._interval.seconds
        except PeerError as error:
            self._log_first(error)
            if isinstance(error, TrackerUnreachable):
                self._tracker.forget_protocol()
            # The pings may still get through a proxy that refuses the index.
            reached = isinstance(error, RequestTooLarge) or not isinstance(error, TrackerUnreachable)
            self._refusal = error.message if reached else ""
        return max(_STEP_PAUSE_MIN, self._next_ping - now())

    async def _check_tracker(self) -> None:
        """While this peer is logged out: check that the tracker answers, and that its release fits."""
        try:
            await self._tracker.negotiate()
            self._failing = False
        except Incompatible as error:
            self._log_first(error)
        except PeerError:
            pass

    def _log_first(self, error: PeerError) -> None:
        """Log the first of several failures in a row."""
        if not self._failing:
            log.warning("%s", error)
        self._failing = True

    # ---------------------------------------------------------------------------------------------------------- index

    async def _send_all(self) -> None:
        """Send the complete index."""
        revision, entries = await self._read(self._library.snapshot)
        await self._tracker.put_index(self._version(revision), entries)
        self._mark_synced(revision)

    async def _send_changes(self, base: str, changes: Changes) -> None:
        """Send what has changed since `base`."""
        version = self._version(changes.revision)
        await self._tracker.patch_index(base, version, changes.added, changes.removed)
        self._mark_synced(changes.revision)

    async def _read(self, query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        # The disk threads may be busy for long, and a late announcement would count as offline.
        return await self._threads.run(self._threads.tracker, query, *args, **kwargs)

    def _mark_synced(self, revision: int) -> None:
        self._synced_revision = revision
        self._library.discard_changes(revision)

    def _version(self, revision: int) -> str:
        """Return the index version of a revision of the library."""
        return f"{self._process}.{revision}"
