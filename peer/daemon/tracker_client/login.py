"""Who is logged in here: the session, the tracker's clock, the tickets that are good now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from daemon.errors import NotAllowed, NotLoggedIn, PeerError
from daemon.models import Session
from daemon.runtime.executors import Threads
from daemon.tracker_client import tickets
from daemon.tracker_client.announcer import Announcer
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.session import SessionFile
from daemon.tracker_client.tickets import Grant

log = logging.getLogger(__name__)

# Neither a tracker nor a disk that does not answer is waited for at the end of the process: the one forgets a silent
# peer by itself, the other has had the session since the login.
_FAREWELL = 1.5

T = TypeVar("T")


class TrackerClock:
    """The tracker's time, as its last answer told it.

    Between answers this machine's steady clock goes on, whatever its calendar says.
    """

    def __init__(self, steady: Callable[[], float], wall: Callable[[], float]) -> None:
        self._steady = steady
        self._wall = wall
        self._offset = wall() - steady()

    def now(self) -> float:
        """Seconds of the tracker's clock."""
        return self._steady() + self._offset

    def set_time(self, server_time: float) -> None:
        """Take the tracker's word."""
        self._offset = server_time - self._steady()

    @property
    def offset(self) -> float:
        """By how much the tracker's clock is ahead of this machine's calendar."""
        return self.now() - self._wall()

    def restore(self, offset: float) -> None:
        """Take up what an earlier process had learnt."""
        self.set_time(self._wall() + offset)


class Account:
    """Logs in and out, and judges tickets."""

    def __init__(
        self,
        *,
        tracker: TrackerClient,
        file: SessionFile,
        threads: Threads,
        clock: TrackerClock,
        address: Callable[[], str],
        on_logged_out: Callable[[], Awaitable[None]],
    ) -> None:
        self._tracker = tracker
        self._file = file
        self._threads = threads
        self._clock = clock
        self._address = address
        self._on_logged_out = on_logged_out
        self._changing = asyncio.Lock()
        self._session: Session | None = None
        # What a lost session's streams and transfers end in.
        self._ending: asyncio.Task[None] | None = None
        # The login or logout under way, and those that wait for it.
        self._changes: set[asyncio.Task[object]] = set()
        # Who tells the tracker of this peer while somebody is logged in.
        self.announcer: Announcer

    @property
    def user(self) -> str | None:
        """Who is logged in."""
        return self._session.user if self._session is not None else None

    def require_login(self) -> None:
        """Raise NotLoggedIn if nobody is."""
        if self._session is None:
            raise NotLoggedIn("nobody is logged in here: log in first")

    def check_ticket(self, ticket: str) -> Grant:
        """Return what a ticket allows here, now. Raises NotAllowed if nothing; always so when nobody is logged in."""
        if self._session is None:
            raise NotAllowed("nobody is logged in at this peer")
        return tickets.check(ticket, key=self._session.ticket_key, holder=self._session.peer_id, now=self._clock.now())

    def on_server_time(self, server_time: float) -> None:
        """Take the tracker's time from one of its answers."""
        self._clock.set_time(server_time)

    def saved_port(self) -> int:
        """Return the port of the session that an earlier process left; 0 if there is none."""
        session = self._file.load()
        port = session.address.rpartition(":")[2] if session is not None else ""
        return int(port) if port.isascii() and port.isdigit() and int(port) < 65536 else 0

    def resume(self) -> None:
        """Take up the session that an earlier process left."""
        session = self._file.load()
        if session is not None and session.address != self._address():
            # The tracker would send others to where nobody is.
            log.warning(
                "logged in as %s at %s, but now at %s: log in again", session.user, session.address, self._address()
            )
            self._file.delete()
        elif session is not None:
            self._clock.restore(session.clock_offset)
            self._begin(session, "")
            log.info("still logged in as %s", session.user)

    async def login(self, user: str, password: str) -> bool:
        """Log in; the one who was logged in before is logged out. Return whether the account is new.

        Raises:
            LoginRefused, TrackerUnreachable, BadUsage: and whoever was logged in before still is.
            DiskFull, StorageFault: if the session cannot be kept for the next start. Nobody is logged in then: it is
                ended at the tracker, too.
        """
        return await self._serialized(lambda: self._login(user, password))

    async def logout(self) -> tuple[str | None, bool]:
        """Log out; return who was logged in, and whether the tracker knows. It forgets a silent peer by itself."""
        return await self._serialized(self._logout)

    async def change_password(self, old: str, new: str) -> str:
        """Change the password of the user who is logged in; return who that is."""
        self.require_login()
        await self._threads.run(self._threads.tracker, self._tracker.change_password, old, new)
        return self.user or ""

    def on_session_expired(self) -> None:
        """The tracker does not know the session any more."""
        self._session = None
        self._tracker.token = None
        self._file.delete()
        self._ending = asyncio.get_running_loop().create_task(_await(self._on_logged_out()))

    async def deregister(self) -> None:
        """Leave the index at a clean end of the process; the session stays for the next."""
        with suppress(TimeoutError):
            # A login or logout that is under way comes to its end first.
            async with asyncio.timeout(_FAREWELL), self._changing:
                if self._session is not None:
                    await self.announcer.stop()
                    await asyncio.gather(self._keep_clock(self._session), self._tell_leave())
        for change in self._changes:
            change.cancel()
        await self.announcer.stop()

    async def _keep_clock(self, session: Session) -> None:
        """Keep what was learnt of the tracker's clock since the login."""
        session = replace(session, clock_offset=self._clock.offset)
        try:
            await self._threads.run(self._threads.disk, self._file.save, session)
        except PeerError as error:
            log.warning("%s", error)

    async def _tell_leave(self) -> None:
        with suppress(PeerError):
            await self._threads.run(self._threads.tracker, self._tracker.delete_index)

    async def _end(self) -> None:
        """Be nobody here: nothing is announced, fetched or served."""
        await self.announcer.stop()
        self._session = None
        self._file.delete()
        await self._on_logged_out()

    async def _serialized(self, change: Callable[[], Awaitable[T]]) -> T:
        """Change who is logged in, when no other change is under way.

        Whoever asked for it may be gone by then: what was begun here is told to the tracker, and the other way round.
        """

        async def in_turn() -> T:
            async with self._changing:
                return await change()

        task = asyncio.create_task(in_turn())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _login(self, user: str, password: str) -> bool:
        if self.user == user and await self._still_good():
            return False
        url = self._address()
        answer = await self._threads.run(self._threads.tracker, self._tracker.login, user, password, url)
        if self._session is not None:
            # The tracker has ended that session, as it does with all others at this address.
            await self._end()
        elif self._ending is not None:
            # Else it would end the new user's transfers, too.
            await asyncio.wait([self._ending])
        self._clock.set_time(answer.server_time)
        session = Session(user, answer.token, answer.peer_id, answer.ticket_key, self._clock.offset, url)
        try:
            await self._threads.run(self._threads.disk, self._file.save, session)
        except PeerError:
            self._tracker.token = session.token
            await self._tell_logout()
            raise
        self._begin(session, answer.epoch)
        log.info("logged in as %s", user)
        await self.announcer.try_sync()
        return answer.registered

    async def _logout(self) -> tuple[str | None, bool]:
        user = self.user
        if user is None:
            return None, True
        await self._end()
        return user, await self._tell_logout()

    async def _tell_logout(self) -> bool:
        """End the session at the tracker; tell whether it has ended there."""
        try:
            await self._threads.run(self._threads.tracker, self._tracker.logout)
        except NotLoggedIn:
            return True
        except PeerError as error:
            # It forgets a silent peer by itself, after its ping timeout.
            log.warning("the tracker could not be told of the logout: %s", error)
            return False
        else:
            return True
        finally:
            self._tracker.token = None

    async def _still_good(self) -> bool:
        try:
            # Not past the announcer: the tracker tells some things once.
            await self.announcer.ping()
        except NotLoggedIn:
            return False
        except PeerError:
            return True
        return True

    def _begin(self, session: Session, epoch: str) -> None:
        self._session = session
        self._tracker.token = session.token
        self.announcer.start(epoch)


async def _await(work: Awaitable[None]) -> None:
    await work
