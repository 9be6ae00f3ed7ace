"""What bounds a pserver: bytes in flight, bytes per second, streams at once. For one event loop; never blocks a thread.

docs/limits.md lists the defaults.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from daemon.errors import Busy, Interrupted

# Payload asked for and not yet written, over all downloads of files of several pieces.
MAX_BYTES_IN_FLIGHT = 96 << 20
MAX_STREAMS = 64
MAX_STREAMS_PER_PEER = 8
MAX_STREAMS_PER_TICKET = 4
# An account may have many peers, or say so: some slots are left to the others whatever it does.
MAX_STREAMS_PER_USER = 48
# Manifests, of up to 2 MiB, that are read, or sent and not yet taken.
MAX_MANIFESTS = 16
MAX_MANIFESTS_PER_PEER = 4
MAX_MANIFESTS_PER_USER = 12
# Calls of one method of Health, open to strangers: from other machines, from each of them, and from this one.
MAX_HEALTH_CALLS, MAX_HEALTH_CALLS_PER_ADDRESS, MAX_LOCAL_HEALTH_CALLS = 64, 8, 16
RETRY_AFTER = 1.0
# Whoever is sent something takes it within this many seconds.
SEND_TIMEOUT = 20.0
# Streams that are to end have this many seconds for it.
STREAM_CLOSE_TIMEOUT = 1.0
# A bucket holds this many seconds of its rate, so that short pauses are made up for.
BURST_SECONDS = 0.25


class MemoryBudget:
    """Bytes that may be in flight at once. First come, first served; an amount larger than the budget goes alone."""

    def __init__(self, total: int = MAX_BYTES_IN_FLIGHT) -> None:
        self._total = total
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        """Bytes in flight now."""
        return self._used

    def try_acquire(self, amount: int) -> bool:
        """Take without waiting; False if it does not fit or others wait."""
        if self._waiting or not self._fits(amount):
            return False
        self._used += amount
        return True

    async def acquire(self, amount: int) -> None:
        """Wait for room and take it."""
        if self.try_acquire(amount):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(amount)
            else:
                self._waiting.remove((amount, turn))
                self._wake()
            raise

    def release(self, amount: int) -> None:
        """Give back what was taken."""
        self._used -= amount
        self._wake()

    def _fits(self, amount: int) -> bool:
        return self._used == 0 or self._used + amount <= self._total

    def _wake(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif self._fits(amount):
                self._waiting.popleft()
                self._used += amount
                turn.set_result(None)
            else:
                return


class RateLimiter:
    """A token bucket that is fair between askers: one with many streams gets no more than another with one.

    `rate` is in bytes per second; None is no limit. Who is next is told by start-time fair queueing (Goyal, Vin, Cheng
    1996): each asker has a tag that grows by what it takes, the lowest is served, and whoever was away comes back with
    the tag of those who are being served, so that nobody saves up and nobody who asks for one block at a time is late.
    """

    def __init__(self, rate: int | None, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = (rate or 0) * BURST_SECONDS
        self._then = clock()
        self._queues: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}
        self._tags: dict[str, int] = {}
        # The tag of the asker that was served last.
        self._now = 0
        self._server: asyncio.Task[None] | None = None

    def max_block(self, most: int) -> int:
        """Return how many bytes a single asker should take at once so that it waits about half a second, at most
        `most`.
        """
        if self.rate is None:
            return most
        return max(4096, min(most, int(self.rate / 2 / max(1, len(self._queues)))))

    async def acquire(self, amount: int, asker: str = "") -> None:
        """Wait until `amount` bytes may pass."""
        if self.rate is None:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if asker not in self._queues:
            self._queues[asker] = deque()
            self._tags[asker] = max(self._now, self._tags.get(asker, 0))
        self._queues[asker].append((amount, turn))
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(self.rate))
        await turn

    async def wait(self) -> None:
        """Wait until something may pass. How much is said when it is known: `spend` it then."""
        await self.acquire(0)

    def charge(self, amount: int) -> None:
        """Count bytes that will pass; the next ones wait for as long as these take."""
        self._tokens -= amount

    async def _serve(self, rate: int) -> None:
        while self._queues:
            asker = min(self._queues, key=self._tags.__getitem__)
            queue = self._queues[asker]
            amount, turn = queue.popleft()
            if not queue:
                del self._queues[asker]
            if turn.done():
                continue
            self._now = self._tags[asker]
            self._tags[asker] += amount
            now = self._clock()
            self._tokens = min(self._tokens + (now - self._then) * rate, rate * BURST_SECONDS)
            self._then = now
            self._tokens -= amount
            if self._tokens < 0:
                await asyncio.wait([turn], timeout=-self._tokens / rate)
            if turn.done():
                # Gave up while it was waited for: what it did not use is the others'.
                self._tokens += amount
            else:
                turn.set_result(None)
                # Whoever was served may queue again before the next is chosen.
                await asyncio.sleep(0)
        # Nobody waits: all are equal again, and those who are gone are forgotten.
        self._tags.clear()
        self._now = 0


class StreamSlots:
    """Streams, or answers, served at once: in all, per account, per peer, per ticket.

    Whoever comes when all are taken is told when to try again.
    """

    def __init__(
        self,
        total: int = MAX_STREAMS,
        per_peer: int = MAX_STREAMS_PER_PEER,
        per_ticket: int = MAX_STREAMS_PER_TICKET,
        per_user: int = MAX_STREAMS_PER_USER,
    ) -> None:
        self._total = total
        self._per_peer = per_peer
        self._per_ticket = per_ticket
        self._per_user = per_user
        self._users: Counter[str] = Counter()
        self._peers: Counter[str] = Counter()
        self._tickets: Counter[tuple[str, str]] = Counter()

    @property
    def in_use(self) -> int:
        """Streams under way."""
        return self._peers.total()

    @contextmanager
    def acquire(self, asker: str, id_: str, user: str) -> Iterator[None]:
        """Hold a slot for a stream of `asker`, a peer of `user`, for one id.

        Raises:
            Busy: if there is none.
        """
        ticket = (asker, id_)
        if self.in_use >= self._total:
            raise Busy("this peer answers as many calls as it can: try again soon", retry_after=RETRY_AFTER)
        if self._users[user] >= self._per_user:
            raise Busy("your account has as many calls here as one may: try again soon", retry_after=RETRY_AFTER)
        if self._peers[asker] >= self._per_peer or self._tickets[ticket] >= self._per_ticket:
            raise Busy("you have as many calls here as one peer may: try again soon", retry_after=RETRY_AFTER)
        self._users[user] += 1
        self._peers[asker] += 1
        self._tickets[ticket] += 1
        try:
            yield
        finally:
            self._users -= Counter((user,))
            self._peers -= Counter((asker,))
            self._tickets -= Counter((ticket,))


class ActiveStreams:
    """Streams that are served now; a logout ends them all."""

    def __init__(self) -> None:
        self._open: dict[object, tuple[asyncio.Timeout, asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def register(self) -> AsyncIterator[None]:
        """Be one of them for the length of the block.

        Raises:
            Interrupted: in the midst of it, when `end_all` is called.
        """
        key, over = object(), asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(None) as end:
                self._open[key] = end, over
                yield
        except TimeoutError:
            raise Interrupted("this peer was logged out meanwhile: ask another") from None
        finally:
            del self._open[key]
            over.set_result(None)

    async def close_all(self) -> None:
        """End every stream under way, and give each a moment to say why."""
        for end, _ in self._open.values():
            expire_now(end)
        if self._open:
            await asyncio.wait([over for _, over in self._open.values()], timeout=STREAM_CLOSE_TIMEOUT)


def expire_now(block: asyncio.Timeout) -> None:
    """Let the time of a block be over; one that is ending already, and takes its time, is left to it."""
    if not block.expired():
        block.reschedule(asyncio.get_running_loop().time())


class KeyedLocks:
    """A lock for each key, for as long as somebody wants it: one transfer at a time for each id."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def acquire(self, key: str, within: float | None = None) -> AsyncIterator[None]:
        """Hold the lock of `key`, waiting for it `within` so many seconds, or as long as it takes.

        Raises:
            Busy: if it was not to be had.
        """
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with AsyncExitStack() as turn:
                try:
                    async with asyncio.timeout(within):
                        await turn.enter_async_context(lock)
                except TimeoutError:
                    why = "another transfer of the same contents is under way: try again later"
                    raise Busy(why, retry_after=RETRY_AFTER) from None
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)

    def in_use(self, key: str) -> bool:
        """Tell whether somebody has it or waits for it."""
        return key in self._locks
