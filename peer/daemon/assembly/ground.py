"""What all other groups stand on, and what bounds them."""

from __future__ import annotations

import time
from collections.abc import Callable

from daemon.peers.limits import (
    MAX_MANIFESTS,
    MAX_MANIFESTS_PER_PEER,
    MAX_MANIFESTS_PER_USER,
    ActiveStreams,
    KeyedLocks,
    MemoryBudget,
    RateLimiter,
    StreamSlots,
)
from daemon.runtime.executors import Threads
from daemon.runtime.metrics import Metrics
from daemon.runtime.rate import Rate
from daemon.runtime.settings import Settings
from daemon.runtime.transfers import TransferRegistry


class Ground:
    """What all others stand on."""

    def __init__(self, settings: Settings, calendar: Callable[[], float]) -> None:
        self.settings = settings
        self.clock = time.monotonic
        self.calendar = calendar
        self.threads = Threads()
        self.metrics = Metrics()
        self.jobs = TransferRegistry(self.clock, self.metrics.count_transfer)


class Bounds:
    """What bounds all that moves, and counts what is sent."""

    def __init__(self, ground: Ground) -> None:
        clock, settings = ground.clock, ground.settings
        self.slots = StreamSlots()
        self.manifest_slots = StreamSlots(
            MAX_MANIFESTS, MAX_MANIFESTS_PER_PEER, MAX_MANIFESTS_PER_PEER, MAX_MANIFESTS_PER_USER
        )
        self.streams = ActiveStreams()
        self.locks = KeyedLocks()
        self.budget = MemoryBudget()
        self.upload = RateLimiter(settings.upload_limit, clock)
        self.download = RateLimiter(settings.download_limit, clock)
        self.sending = Rate(clock)
        self._metrics = ground.metrics

    def sent(self, size: int) -> None:
        """Count payload sent."""
        self.sending.add(size)
        self._metrics.bytes_sent.inc(size)
