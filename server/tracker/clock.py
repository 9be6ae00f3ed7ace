"""The tracker's time: steady, whatever happens to the machine's clock. Never a peer's."""

import time
from collections.abc import Callable


class SteadyClock:
    """Wall time when it was made, plus the monotonic time since; so a jump of the machine's clock moves nothing."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def now(self) -> float:
        """Seconds for measuring spans."""
        return self._monotonic()

    def server_time(self) -> float:
        """Unix seconds, as told to peers and written into tickets."""
        return self._monotonic() + self._offset
