"""The memory and the bandwidth that one download's pieces on their way need, waited for before they are asked for."""

from __future__ import annotations

from daemon.peers.limits import MemoryBudget, RateLimiter


class InFlightReservation:
    """One download's. A piece asked for, and not yet here, takes `piece_length` of the budget; the first takes none, so
    that no download can be starved.
    """

    def __init__(self, budget: MemoryBudget, bandwidth: RateLimiter, piece_length: int) -> None:
        self._budget = budget
        self._bandwidth = bandwidth
        self._piece_length = piece_length
        self._reserved = 0
        # It waits for this peer's own limits.
        self.waiting = False

    async def acquire(self, in_flight: int) -> None:
        """Wait until one more than these pieces may be asked for."""
        self.waiting = True
        try:
            await self._bandwidth.wait()
            if in_flight > self._reserved // self._piece_length:
                await self._budget.acquire(self._piece_length)
                self._reserved += self._piece_length
        finally:
            self.waiting = False

    def charge(self) -> None:
        """A piece was asked for."""
        self._bandwidth.charge(self._piece_length)

    def release_excess(self, in_flight: int) -> None:
        """Give back what no more than these pieces need."""
        needed = max(0, in_flight - 1) * self._piece_length
        if self._reserved > needed:
            self._budget.release(self._reserved - needed)
            self._reserved = needed
