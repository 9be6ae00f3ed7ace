"""Limits of a pserver: bytes in flight, bytes per second, streams at once. For one event loop; never blocks a thread.

docs/limits.md explains the defaults.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from daemon.errors import Busy, Interrupted

# Bytes requested and not yet written, over all downloads of files of several pieces.
MAX_BYTES_IN_FLIGHT = 96 << 20
MAX_STREAMS = 64
MAX_STREAMS_PER_PEER = 8
MAX_STREAMS_PER_TICKET = 4
# One account may have many peers, or claim to. These limits leave some slots to other accounts.
MAX_STREAMS_PER_USER = 48
# Manifests, of up to 2 MiB each, that are being read or sent.
MAX_MANIFESTS = 16
MAX_MANIFESTS_PER_PEER = 4
MAX_MANIFESTS_PER_USER = 12
# Calls of one method of Health at once, which needs no login: from all other machines, from each, and from this one.
MAX_HEALTH_CALLS, MAX_HEALTH_CALLS_PER_ADDRESS, MAX_LOCAL_HEALTH_CALLS = 64, 8, 16
# Seconds after which a refused peer should try again.
RETRY_AFTER = 1.0
# Seconds within which a peer must read a message.
SEND_TIMEOUT = 20.0
# Seconds that closing streams have to report why.
STREAM_CLOSE_TIMEOUT = 1.0
# The token bucket holds this many seconds of its rate, so that short pauses cost nothing.
BURST_SECONDS = 0.25


class MemoryBudget:
    """Bytes that may be in flight at once, served in the order of requests.

    An amount larger than the budget is granted when nothing else is in flight.
    """

    def __init__(self, total: int = MAX_BYTES_IN_FLIGHT) -> None:
        self._total = total
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        """Bytes in flight now."""
        return self._used

    def try_acquire(self, amount: int) -> bool:
        """Acquire `amount` bytes without waiting; return False if they do not fit, or other requests wait."""
        if self._waiting or not self._fits(amount):
            return False
        self._used += amount
        return True

    async def acquire(self, amount: int) -> None:
        """Acquire `amount` bytes, waiting until they fit."""
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
        """Release `amount` bytes that were acquired."""
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
    """A token bucket that is fair between requesters: many streams of one get no more than one stream of another.

    The order is that of start-time fair queueing (Goyal, Vin, Cheng 1996). Each requester has a tag that grows by the
    bytes it acquires; the lowest tag is next. A requester that returns gets the tag of the one being served. So it
    cannot save up bytes while it is away, and a requester that asks for one block at a time gets its share.
    """

    def __init__(self, rate: int | None, clock: Callable[[], float]) -> None:
        """Make a limiter.

        Args:
            rate: bytes per second; None for no limit.
            clock: returns seconds that never go back.
        """
        self.rate = rate
        self._clock = clock
        self._tokens = (rate or 0) * BURST_SECONDS
        self._then = clock()
        self._queues: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}
        self._tags: dict[str, int] = {}
        # The tag of the requester that was served last.
        self._now = 0
        self._server: asyncio.Task[None] | None = None

    def max_block(self, most: int) -> int:
        """Return the bytes that a requester should acquire at once, so that it waits about half a second.

        The result is at most `most` bytes, and at least 4 KiB if there is a limit.
        """
        if self.rate is None:
            return most
        return max(4096, min(most, int(self.rate / 2 / max(1, len(self._queues)))))

    async def acquire(self, amount: int, requester: str = "") -> None:
        """Wait until `requester` may send or receive `amount` bytes."""
        if self.rate is None:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if requester not in self._queues:
            self._queues[requester] = deque()
            self._tags[requester] = max(self._now, self._tags.get(requester, 0))
        self._queues[requester].append((amount, turn))
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(self.rate))
        await turn

    async def wait(self) -> None:
        """Wait until the next bytes may pass. The caller then calls `charge`, when it knows their number."""
        await self.acquire(0)

    def charge(self, amount: int) -> None:
        """Count `amount` bytes that pass now. Later ones wait as long as these take."""
        self._tokens -= amount

    async def _serve(self, rate: int) -> None:
        while self._queues:
            requester = min(self._queues, key=self._tags.__getitem__)
            queue = self._queues[requester]
            amount, turn = queue.popleft()
            if not queue:
                del self._queues[requester]
            if turn.done():
                continue
            self._now = self._tags[requester]
            self._tags[requester] += amount
            now = self._clock()
            self._tokens = min(self._tokens + (now - self._then) * rate, rate * BURST_SECONDS)
            self._then = now
            self._tokens -= amount
            if self._tokens < 0:
                await asyncio.wait([turn], timeout=-self._tokens / rate)
            if turn.done():
                # The request was cancelled meanwhile: its bytes are free again.
                self._tokens += amount
            else:
                turn.set_result(None)
                # The requester may queue again before the next one is chosen.
                await asyncio.sleep(0)
        # No request waits: all requesters are equal again, and those that left are forgotten.
        self._tags.clear()
        self._now = 0


class StreamSlots:
    """Slots for streams or calls at once: in total, and for each peer, ticket and account.

    A call without a free slot is refused with a time to retry.
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
        """The number of slots in use."""
        return self._peers.total()

    @contextmanager
    def acquire(self, requester: str, id_: str, user: str) -> Iterator[None]:
        """Acquire a slot while the block runs.

        Args:
            requester: the peer that calls.
            id_: the id of its ticket.
            user: the account of the peer.

        Raises:
            Busy: if there is no slot.
        """
        ticket = (requester, id_)
        if self.in_use >= self._total:
            raise Busy("this peer is busy: all its streams are in use", retry_after=RETRY_AFTER)
        if self._users[user] >= self._per_user:
            raise Busy("this peer is busy: your account has too many streams here", retry_after=RETRY_AFTER)
        if self._peers[requester] >= self._per_peer or self._tickets[ticket] >= self._per_ticket:
            raise Busy("this peer is busy: you have too many streams here", retry_after=RETRY_AFTER)
        self._users[user] += 1
        self._peers[requester] += 1
        self._tickets[ticket] += 1
        try:
            yield
        finally:
            self._users -= Counter((user,))
            self._peers -= Counter((requester,))
            self._tickets -= Counter((ticket,))


def manifest_slots() -> StreamSlots:
    """Return the slots for manifests that are sent at once."""
    return StreamSlots(MAX_MANIFESTS, MAX_MANIFESTS_PER_PEER, MAX_MANIFESTS_PER_PEER, MAX_MANIFESTS_PER_USER)


class ActiveStreams:
    """The streams that this peer serves now. A logout closes them all."""

    def __init__(self) -> None:
        self._open: dict[object, tuple[asyncio.Timeout, asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def register(self) -> AsyncIterator[None]:
        """Register a stream while the block runs.

        Raises:
            Interrupted: inside the block, when `close_all` is called.
        """
        key, closed = object(), asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(None) as timeout:
                self._open[key] = timeout, closed
                yield
        except TimeoutError:
            raise Interrupted("this peer has logged out") from None
        finally:
            del self._open[key]
            closed.set_result(None)

    async def close_all(self) -> None:
        """Close every stream, and wait up to a second until each has reported why."""
        for timeout, _ in self._open.values():
            expire_now(timeout)
        if self._open:
            await asyncio.wait([closed for _, closed in self._open.values()], timeout=STREAM_CLOSE_TIMEOUT)


def expire_now(timeout: asyncio.Timeout) -> None:
    """Expire an `asyncio.timeout` block now. Does nothing if it has expired."""
    if not timeout.expired():
        timeout.reschedule(asyncio.get_running_loop().time())


class KeyedLocks:
    """A lock for each key that is in use, so that one transfer at a time handles an id."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def acquire(self, key: str, within: float | None = None) -> AsyncIterator[None]:
        """Hold the lock of `key` while the block runs.

        Args:
            key: the id.
            within: seconds to wait for the lock; None to wait as long as it takes.

        Raises:
            Busy: if the lock is not free within that time.
        """
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with AsyncExitStack() as turn:
                try:
                    async with asyncio.timeout(within):
                        await turn.enter_async_context(lock)
                except TimeoutError:
                    why = "another transfer of the same content is running"
                    raise Busy(why, retry_after=RETRY_AFTER) from None
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)

    def in_use(self, key: str) -> bool:
        """Return whether the lock of `key` is held or waited for."""
        return key in self._locks

    def users(self, key: str) -> int:
        """Return how many hold the lock of `key` or wait for it."""
        return self._locks[key][1] if key in self._locks else 0
