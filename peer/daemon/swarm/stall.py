"""How long a download goes on without good news. Pure: it is told the time.

A block is news only if it is further in its piece than that holder ever came: one that begins with the same piece again
and again keeps nobody waiting.
"""

from __future__ import annotations

from daemon.swarm.piece_picker import SOURCE_IDLE_TIMEOUT

# A download that hears nothing new from anybody gives up after this many seconds; what it has is kept.
NO_PROGRESS_TIMEOUT = 60.0
# ... and one that knows nobody but liars after so many: an honest holder may come yet.
CORRUPT_ONLY_TIMEOUT = 10.0
# Where nobody has what is wanted, holders are looked for again after so many seconds, each time later, up to so many.
FIRST_RETRY_DELAY, _MAX_RETRY_DELAY = 0.25, 4.0


def next_retry_delay(pause: float) -> float:
    """Return the pause after this one."""
    return min(2 * pause, _MAX_RETRY_DELAY)


class StallDetector:
    """One download's."""

    def __init__(self, now: float) -> None:
        self._last_progress = now
        # When a holder was last exposed as a liar.
        self._last_corrupt = now
        # How far in a piece that is missing a holder ever came.
        self._furthest: dict[tuple[str, int], int] = {}

    def start(self, now: float) -> None:
        """The download begins now."""
        self._last_progress = now

    def exclude(self, seconds: float) -> None:
        """For so long it was this peer's own limit that kept everybody silent: that counts for nothing."""
        self._last_progress += seconds

    def on_progress(self, holder: str, piece: int, end: int, now: float) -> None:
        """A holder sent a piece that is missing, up to the byte `end`."""
        if end > self._furthest.get((holder, piece), 0):
            self._furthest[holder, piece] = end
            self._last_progress = now

    def on_verified(self, holder: str, piece: int) -> None:
        """A holder's piece verified."""
        self._furthest.pop((holder, piece), None)

    def on_corrupt(self, now: float) -> None:
        """A holder lied."""
        self._last_corrupt = now

    def is_waiting(self, now: float) -> bool:
        """Tell whether so long nothing was heard that people should know."""
        return now - self._last_progress > SOURCE_IDLE_TIMEOUT

    def timed_out(self, now: float) -> bool:
        """Tell whether to give up."""
        return now - self._last_progress > NO_PROGRESS_TIMEOUT

    def corrupt_only_timed_out(self, now: float) -> bool:
        """Tell whether to give up when all who are known have lied."""
        return now - self._last_corrupt > CORRUPT_ONLY_TIMEOUT
