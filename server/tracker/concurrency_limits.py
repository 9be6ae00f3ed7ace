"""How much one source address or one account may use at the same time, so that none of them uses up the tracker.

PerSourceLimit refuses at once, for many threads. The limits per account wait, for one event loop.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from tracker.addresses import is_local, rate_limit_key
from tracker.errors import Busy


class PerSourceLimit:
    """Slots counted by source address. Thread-safe.

    The tracker's own machine has a separate limit, because all peers on it share one address, and so do all clients of
    a proxy on it that is not trusted.
    """

    def __init__(self, per_source: int, local: int) -> None:
        """Set the limits.

        Args:
            per_source: slots of one source at a time.
            local: slots of all requests from the tracker's own machine at a time.
        """
        self._per_source = per_source
        self._local = local
        self._lock = threading.Lock()
        self._in_use: dict[str, int] = {}

    @property
    def in_use(self) -> dict[str, int]:
        """Slots in use, by rate_limit_key of the source."""
        with self._lock:
            return dict(self._in_use)

    def acquire(self, source: str) -> None:
        """Acquire a slot for a source IP address; `release` gives it back.

        Raises:
            Busy: the source has all slots that it may have.
        """
        key = rate_limit_key(source)
        with self._lock:
            in_use = self._in_use.get(key, 0)
            # is_local costs system calls, so it is asked only for sources above the ordinary limit.
            if in_use >= self._per_source and (in_use >= self._local or not is_local(source)):
                raise Busy("too many requests at once from this address: try again in a second")
            self._in_use[key] = in_use + 1

    def release(self, source: str) -> None:
        """Release a slot that was acquired for `source`."""
        key = rate_limit_key(source)
        with self._lock:
            self._in_use[key] -= 1
            if not self._in_use[key]:
                del self._in_use[key]

    @contextmanager
    def acquired(self, source: str) -> Iterator[None]:
        """Hold a slot for the length of the block.

        Raises:
            Busy: as in acquire.
        """
        self.acquire(source)
        try:
            yield
        finally:
            self.release(source)


class PerAccountByteLimit:
    """Bytes in use at the same time, in total and by each account."""

    def __init__(self, total: int, per_account: int) -> None:
        self._total = total
        self._per_account = per_account
        self._in_use: Counter[str] = Counter()
        self._released = asyncio.Condition()

    @asynccontextmanager
    async def acquired(self, account: str, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free, and hold them for the length of the block."""
        async with self._released:
            await self._released.wait_for(lambda: self._fits(account, size))
            self._in_use[account] += size
        try:
            yield
        finally:
            self._in_use -= Counter({account: size})
            async with self._released:
                self._released.notify_all()

    def _fits(self, account: str, size: int) -> bool:
        return self._in_use[account] + size <= self._per_account and self._in_use.total() + size <= self._total


class PerAccountLimit:
    """Slots of each account; requests above the limit wait in order of arrival."""

    def __init__(self, per_account: int) -> None:
        self._per_account = per_account
        self._slots: dict[str, asyncio.Semaphore] = {}
        # Running and waiting requests: the semaphore of an account is dropped with the last one.
        self._requests: Counter[str] = Counter()

    @asynccontextmanager
    async def acquired(self, account: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it for the length of the block."""
        slots = self._slots.setdefault(account, asyncio.Semaphore(self._per_account))
        self._requests[account] += 1
        try:
            async with slots:
                yield
        finally:
            self._requests[account] -= 1
            if not self._requests[account]:
                del self._requests[account], self._slots[account]
