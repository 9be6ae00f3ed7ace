"""How much to have on its way from one holder of small files: about a second's worth, by its measured rate. Pure.

Small files cannot be cancelled once they are asked for. A slow holder that was asked for many would keep the last of
a folder waiting long after the quick ones are done, and all that is asked of a frozen one waits until its silence is
noticed. So a holder gets a few files at first, and more only as it delivers.
"""

from __future__ import annotations

from collections.abc import Callable

from daemon.runtime.rate import Rate

# Asked for and not yet here, in bytes: what a connection reads ahead.
_MAX_BYTES = 4 << 20
# Until the rate is known, and of however slow a holder.
_MIN_BYTES = 128 << 10
_WINDOW_SECONDS = 1.0
# A file costs as much as so many bytes besides its own: ticket, look-up, opening.
_FILE_COST = 8 << 10


class RequestWindow:
    """What one holder was asked for and has not sent yet, and whether to ask for more."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._rate = Rate(clock)
        self._waiting = 0

    def should_refill(self) -> bool:
        """Tell whether to ask for more now: when half of what may be on its way is here, since each request costs."""
        return self._waiting <= self._most() // 2

    def available(self) -> int:
        """Return how many bytes more may be asked for: as long as there are any, one more file."""
        return self._most() - self._waiting

    def on_request(self, size: int) -> int:
        """A file of so many bytes was asked for; return how many bytes of the room it takes."""
        self._waiting += size + _FILE_COST
        return size + _FILE_COST

    def on_response(self, files: int, size: int) -> None:
        """Files of so many bytes in all are here, or will not come."""
        cost = size + files * _FILE_COST
        self._waiting -= cost
        self._rate.add(cost)

    def _most(self) -> int:
        return min(_MAX_BYTES, max(_MIN_BYTES, int(self._rate.now() * _WINDOW_SECONDS)))
