"""The rate of a transfer: bytes per second over the last few seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

# Seconds after which bytes count for 1/e, about a third.
TIME_CONSTANT = 3.0


@dataclass(slots=True)
class Rate:
    """An exponentially weighted rate. `clock` returns seconds that never go back."""

    clock: Callable[[], float]
    bytes: float = 0.0
    seconds: float = 0.0
    last_update: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.last_update = self.clock()

    def add(self, size: int) -> None:
        """Count `size` bytes now."""
        self._decay()
        self.bytes += size

    def now(self) -> float:
        """Return the bytes per second."""
        self._decay()
        # Less than a byte is the rest of an old transfer.
        return self.bytes / self.seconds if self.seconds > 0 and self.bytes >= 1 else 0.0

    def _decay(self) -> None:
        now = self.clock()
        elapsed, self.last_update = now - self.last_update, now
        fade = math.exp(-elapsed / TIME_CONSTANT)
        self.bytes *= fade
        self.seconds = self.seconds * fade + elapsed
