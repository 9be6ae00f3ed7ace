"""How much of something each account may have at once; who wants more waits. For one event loop. Knows no requests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class PerAccountByteLimit:
    """Bytes that may be taken at once, in all and by each taker."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._taken: Counter[str] = Counter()
        self._given = asyncio.Condition()

    @asynccontextmanager
    async def acquired(self, account: str, amount: int) -> AsyncIterator[None]:
        """Wait for room and hold it for the length of the block."""
        async with self._given:
            await self._given.wait_for(lambda: self._fits(account, amount))
            self._taken[account] += amount
        try:
            yield
        finally:
            self._taken -= Counter({account: amount})
            async with self._given:
                self._given.notify_all()

    def _fits(self, taker: str, amount: int) -> bool:
        return self._taken[taker] + amount <= self._each and self._taken.total() + amount <= self._total


class PerAccountLimit:
    """So many at once of each taker; the others wait, first come first served."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._takers: Counter[str] = Counter()

    @asynccontextmanager
    async def acquired(self, account: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the length of the block."""
        turns = self._turns.setdefault(account, asyncio.Semaphore(self._each))
        self._takers[account] += 1
        try:
            async with turns:
                yield
        finally:
            self._takers[account] -= 1
            if not self._takers[account]:
                del self._takers[account], self._turns[account]
