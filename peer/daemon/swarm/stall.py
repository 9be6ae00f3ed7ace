"""When a download counts as stalled, and when it fails. Pure: the time is an argument.

Only a block that extends the furthest byte received from that source for that piece counts as progress. So a source
that restarts the same piece cannot reset the timer.
"""

from __future__ import annotations

from daemon.swarm.piece_picker import SOURCE_IDLE_TIMEOUT

# Seconds without progress from any source after which a download fails. Verified data stays on disk.
NO_PROGRESS_TIMEOUT = 60.0
# Seconds after the last corrupt piece until a download fails whose sources all sent corrupt data. An honest holder may
# appear within this time.
CORRUPT_ONLY_TIMEOUT = 10.0
# Seconds until holders are queried again when no known holder has the file. The delay doubles each time, up to the
# maximum.
FIRST_RETRY_DELAY, _MAX_RETRY_DELAY = 0.25, 4.0


def next_retry_delay(delay: float) -> float:
    """Return the delay, in seconds, that follows `delay`."""
    return min(2 * delay, _MAX_RETRY_DELAY)


class StallDetector:
    """The timers of one download. All times are seconds on its clock."""

    def __init__(self, now: float) -> None:
        self._last_progress = now
        # When a source last sent corrupt data.
        self._last_corrupt = now
        # (source, piece) -> the furthest byte received of a missing piece.
        self._furthest: dict[tuple[str, int], int] = {}

    def start(self, now: float) -> None:
        """Restart the timers: the download begins."""
        self._last_progress = now

    def exclude(self, seconds: float) -> None:
        """Leave out a time in which no request was possible because of the limits of this peer."""
        self._last_progress += seconds

    def on_progress(self, source: str, piece: int, end: int, now: float) -> None:
        """Record data of a missing piece, up to the byte `end`."""
        if end > self._furthest.get((source, piece), 0):
            self._furthest[source, piece] = end
            self._last_progress = now

    def on_verified(self, source: str, piece: int) -> None:
        """Forget how far a source was in a piece: the piece is verified."""
        self._furthest.pop((source, piece), None)

    def on_corrupt(self, now: float) -> None:
        """Record that a source sent corrupt data."""
        self._last_corrupt = now

    def is_waiting(self, now: float) -> bool:
        """Return whether the silence is long enough to show it to the user."""
        return now - self._last_progress > SOURCE_IDLE_TIMEOUT

    def timed_out(self, now: float) -> bool:
        """Return whether the download has to fail for want of progress."""
        return now - self._last_progress > NO_PROGRESS_TIMEOUT

    def corrupt_only_timed_out(self, now: float) -> bool:
        """Return whether a download has to fail if all its sources sent corrupt data."""
        return now - self._last_corrupt > CORRUPT_ONLY_TIMEOUT
