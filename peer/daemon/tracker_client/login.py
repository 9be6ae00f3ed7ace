"""The login session of this peer: login, logout, and the check of tickets.

Never serves or transfers anything itself. What must end with a session ends in the `on_logged_out` callback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, TypeVar

from daemon.errors import NotAllowed, NotLoggedIn, PeerError
from daemon.models import Session
from daemon.protocol import tickets
from daemon.protocol.tickets import Grant
from daemon.runtime.concurrency import TaskSet, Threads
from daemon.tracker_client.announcer import Announcer
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.own_address import OwnAddress
from daemon.tracker_client.ping_interval import PingInterval
from daemon.tracker_client.session import SessionFile, TrackerClock

log = logging.getLogger(__name__)

# Seconds at the end of the process for the tracker and the disk. The tracker drops a silent peer by itself, and the
# disk has had the session since the login.
_DEREGISTER_TIMEOUT = 1.5

T = TypeVar("T")


class Logout(NamedTuple):
    """The outcome of a logout."""

    # None if this peer was logged out already.
    user: str | None
    # False if the tracker was not reached. It drops this peer after its ping timeout.
    tracker_informed: bool


class Account:
    """Logs in and out, and checks the tickets of requesters."""

    def __init__(
        self,
        *,
        tracker: TrackerClient,
        announcer: Announcer,
        file: SessionFile,
        threads: Threads,
        clock: TrackerClock,
        own_address: OwnAddress,
        ping_interval: PingInterval,
        on_logged_out: Callable[[], Awaitable[None]],
    ) -> None:
        """Make an account that is logged out; `resume` restores a stored session.

        Args:
            tracker: The tracker. Its token is set here.
            announcer: Started at login, stopped at logout.
            file: Where the session is stored.
            threads: Where the file is written.
            clock: The tracker's clock, for the expiry of tickets.
            own_address: What to announce at a login. It learns the session's address.
            ping_interval: Learns at a login how often the tracker asks for a ping.
            on_logged_out: Ends all streams and transfers of a session that has ended.
        """
        self._tracker = tracker
        self._announcer = announcer
        self._file = file
        self._threads = threads
        self._clock = clock
        self._own_address = own_address
        self._ping_interval = ping_interval
        self._on_logged_out = on_logged_out
        # Held by the login or logout that is under way.
        self._changing = asyncio.Lock()
        self._changes = TaskSet()
        self._session: Session | None = None
        self._cleanup: asyncio.Task[None] | None = None

    @property
    def user(self) -> str | None:
        """The user who is logged in, or None."""
        return self._session.user if self._session is not None else None

    @property
    def clock(self) -> TrackerClock:
        """The tracker's clock."""
        return self._clock

    @property
    def cleanup(self) -> asyncio.Task[None] | None:
        """The task that ends the transfers of the session that expired last; None if none has expired."""
        return self._cleanup

    def require_login(self) -> None:
        """Check that this peer is logged in.

        Raises:
            NotLoggedIn: This peer is logged out.
        """
        if self._session is None:
            raise NotLoggedIn("not logged in")

    def check_ticket(self, ticket: str) -> Grant:
        """Return what a ticket allows at this peer now.

        Raises:
            NotAllowed: The ticket is not valid, or this peer is not logged in.
        """
        if self._session is None:
            raise NotAllowed("this peer is not logged in")
        return tickets.check(ticket, key=self._session.ticket_key, holder=self._session.peer_id, now=self._clock.now())

    def saved_port(self) -> int:
        """Return the port of the stored session; 0 if there is none."""
        session = self._file.load()
        port = session.address.rpartition(":")[2] if session is not None else ""
        return int(port) if port.isascii() and port.isdigit() and int(port) < 65536 else 0

    def resume(self) -> None:
        """Continue the stored session, if there is one, and start the announcer.

        If the address of this peer has changed, the first ping says so.
        """
        session = self._file.load()
        if session is not None:
            self._clock.restore(session.clock_offset)
            self._ping_interval.learn(session.ping_interval)
            self._begin(session, "")
            log.info("still logged in as %s", session.user)
        self._announcer.open()

    async def login(self, user: str, password: str, *, register: bool = True) -> bool:
        """Log in. A user who is logged in already is logged out when the tracker has accepted the new one.

        As the user who is logged in, only the password is checked: the session and its transfers go on.

        Args:
            user: The user name.
            password: The password in plain text.
            register: Whether an unknown user gets an account, if the tracker allows it.

        Returns:
            Whether the account is new.

        Raises:
            LoginRefused, UnknownUser, TrackerUnreachable, BadUsage: The previous session goes on.
            DiskFull, StorageFault: The session cannot be stored. It is ended at the tracker too, and this peer is
                logged out.
        """
        return await self._serialized(lambda: self._login(user, password, register))

    async def logout(self) -> Logout:
        """Log out here and at the tracker. Does nothing if this peer is logged out."""
        return await self._serialized(self._logout)

    async def change_password(self, old: str, new: str) -> str:
        """Change the password of the user who is logged in, and return that user.

        Raises:
            NotLoggedIn: This peer is logged out.
            LoginRefused: The old password is wrong.
            TrackerUnreachable: The tracker does not answer.
        """
        self.require_login()
        await self._tracker.change_password(old, new)
        return self.user or ""

    async def deregister(self) -> None:
        """At the end of the process: leave the index, and store the clock. The session stays for the next start."""
        with suppress(TimeoutError):
            # A login or logout that is under way completes first.
            async with asyncio.timeout(_DEREGISTER_TIMEOUT), self._changing:
                if self._session is not None:
                    await self._announcer.stop()
                    await asyncio.gather(self._save(self._session), self._leave_index())
        await self._changes.cancel()
        await self._announcer.stop()

    # -------------------------------------------------------------------------------------------------------- changes

    async def _serialized(self, change: Callable[[], Awaitable[T]]) -> T:
        """Run a login or logout when no other is under way.

        It completes even if the caller is cancelled, so this peer and the tracker agree on who is logged in.
        """

        async def run() -> T:
            async with self._changing:
                return await change()

        return await asyncio.shield(self._changes.start(run()))

    async def _login(self, user: str, password: str, register: bool) -> bool:
        if self.user == user and self._own_address.in_ping is not None:
            # A session that follows this peer to its present address is the one that the login continues.
            with suppress(PeerError):
                await self._announcer.ping()
        announced = self._own_address.announced
        response = await self._tracker.login(user, password, announced, register=register)
        address = response.address or announced
        self._ping_interval.learn(response.ping_interval)
        if self._session is not None and self._session.token == response.token:
            # The tracker continues the session of the same user at the same address.
            return False
        if self._session is not None:
            # The tracker has ended the sessions at this address only.
            elsewhere = self._own_address.of_session != address
            await self._end_session()
            if elsewhere:
                await self._logout_at_tracker()
        elif self._cleanup is not None:
            # It would otherwise end the new session's transfers too.
            await asyncio.wait([self._cleanup])
        self._clock.set_time(response.server_time)
        session = Session(
            user=user,
            token=response.token,
            peer_id=response.peer_id,
            ticket_key=response.ticket_key,
            clock_offset=self._clock.offset,
            address=address,
            ping_interval=self._ping_interval.asked,
        )
        try:
            await self._threads.run(self._threads.disk, self._file.save, session)
        except PeerError:
            self._tracker.token = session.token
            await self._logout_at_tracker()
            raise
        self._begin(session, response.epoch)
        log.info("logged in as %s", user)
        await self._announcer.try_sync()
        return response.registered

    async def _logout(self) -> Logout:
        user = self.user
        if user is None:
            return Logout(None, tracker_informed=True)
        await self._end_session()
        return Logout(user, await self._logout_at_tracker())

    def _begin(self, session: Session, epoch: str) -> None:
        self._session = session
        self._own_address.of_session = session.address
        self._tracker.token = session.token
        self._announcer.start(epoch, self._on_session_expired, self._on_moved)

    def _on_moved(self) -> None:
        """Store the new address. A login or logout that is under way completes first."""

        async def save() -> None:
            async with self._changing:
                if self._session is not None:
                    await self._save(self._session)

        self._changes.start(save())

    def _on_session_expired(self) -> None:
        self._session = None
        self._own_address.of_session = ""
        self._tracker.token = None
        self._file.delete()
        self._cleanup = asyncio.get_running_loop().create_task(_await(self._on_logged_out()))

    async def _end_session(self) -> None:
        """End the session here: from now on nothing is announced, downloaded or served."""
        await self._announcer.stop()
        self._session = None
        self._own_address.of_session = ""
        self._file.delete()
        await self._on_logged_out()
        self._announcer.open()

    async def _logout_at_tracker(self) -> bool:
        """End the session at the tracker; return False if the tracker was not reached."""
        try:
            await self._tracker.logout()
        except NotLoggedIn:
            return True
        except PeerError as error:
            log.warning("the logout did not reach the tracker: %s", error)
            return False
        else:
            return True
        finally:
            self._tracker.token = None

    async def _save(self, session: Session) -> None:
        """Store what the pings since the login have shown of the tracker."""
        session = replace(
            session,
            clock_offset=self._clock.offset,
            address=self._own_address.of_session,
            ping_interval=self._ping_interval.asked,
        )
        try:
            await self._threads.run(self._threads.disk, self._file.save, session)
        except PeerError as error:
            log.warning("%s", error)

    async def _leave_index(self) -> None:
        with suppress(PeerError):
            await self._tracker.delete_index()


async def _await(work: Awaitable[None]) -> None:
    await work
