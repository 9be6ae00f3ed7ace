"""Bytes per second, lately."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

# Seconds after which what moved counts for a third.
TIME_CONSTANT = 3.0


@dataclass(slots=True)
class Rate:
    """Bytes per second, forgetting with a time constant."""

    clock: Callable[[], float]
    bytes: float = 0.0
    seconds: float = 0.0
    last_update: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.last_update = self.clock()

    def add(self, size: int) -> None:
        """Count bytes that moved now."""
        self._fade()
        self.bytes += size

    def now(self) -> float:
        """Return the rate."""
        self._fade()
        # Less than a byte is what is left of what moved long ago.
        return self.bytes / self.seconds if self.seconds > 0 and self.bytes >= 1 else 0.0

    def _fade(self) -> None:
        now = self.clock()
        elapsed, self.last_update = now - self.last_update, now
        fade = math.exp(-elapsed / TIME_CONSTANT)
        self.bytes *= fade
        self.seconds = self.seconds * fade + elapsed
