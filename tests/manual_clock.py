"""A clock that a test moves on."""

from __future__ import annotations


class ManualUnixClock:
    """Gives unix seconds."""

    def __init__(self, now: float = 2_000_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
