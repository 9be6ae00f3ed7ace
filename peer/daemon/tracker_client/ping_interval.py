"""How often this peer pings: as PING_INTERVAL says, but not less often than the tracker asks for. No clock, no I/O."""

from __future__ import annotations

import logging
import math

log = logging.getLogger(__name__)

# Seconds between pings while neither PING_INTERVAL nor the tracker says anything: the tracker's own default.
DEFAULT_SECONDS = 10.0
# Seconds without a byte of the response to a ping. The next one follows soon, so a silent tracker is noticed early.
PING_TIMEOUT = 5.0
# If half an interval is less, the timeout is half an interval, but not less than this.
_TIMEOUT_MIN = 1.0
# Seconds until a failed ping is repeated, if the interval is longer.
_RETRY_MAX = 10.0
# What a tracker can ask for, in seconds. Less would be a burden to both.
_ASKED_MIN = 0.1


class PingInterval:
    """The seconds between two pings.

    `fault` is one line for users if PING_INTERVAL is longer than the tracker asks for: with it, the peer would be
    offline between two pings. Otherwise it is empty.
    """

    def __init__(self, wanted: float | None) -> None:
        """Make an interval.

        Args:
            wanted: PING_INTERVAL in seconds; None for what the tracker asks for.
        """
        self._wanted = wanted
        self._asked: float | None = None
        self.fault = ""

    @property
    def asked(self) -> float | None:
        """What the tracker asked for, in seconds; None if it is unknown."""
        return self._asked

    @property
    def seconds(self) -> float:
        """Seconds from one ping to the next."""
        known = [seconds for seconds in (self._wanted, self._asked) if seconds is not None]
        return min(known, default=DEFAULT_SECONDS)

    @property
    def retry_seconds(self) -> float:
        """Seconds from a failed ping to the next."""
        return min(self.seconds, _RETRY_MAX)

    @property
    def timeout(self) -> float:
        """Seconds that a ping waits for each part of its response."""
        return max(_TIMEOUT_MIN, min(PING_TIMEOUT, self.seconds / 2))

    def learn(self, asked: float | None) -> None:
        """Note what the tracker asks for, in seconds. None, or what is no interval, changes nothing."""
        if asked is None or not (math.isfinite(asked) and asked > 0):
            return
        asked = max(asked, _ASKED_MIN)
        if asked == self._asked:
            return
        self._asked = asked
        self.fault = ""
        if self._wanted is not None and self._wanted > asked:
            self.fault = (
                f"PING_INTERVAL is {self._wanted:g} s, but the tracker asks for a ping every {asked:g} s: "
                f"pinging every {asked:g} s"
            )
            log.warning("%s", self.fault)
