"""The requests for small files: which holders may be asked for a file, and how much to request from one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from daemon.errors import PeerError
from daemon.models import Holder, RemoteFile
from daemon.runtime.metrics import Rate

# Limits of the bytes in flight. The maximum is what a connection reads ahead. The minimum is for a slow holder, and for
# one whose rate is unknown.
_MAX_BYTES = 4 << 20
_MIN_BYTES = 128 << 10
# Between the limits, a holder is asked for what it sends in this many seconds.
_WINDOW_SECONDS = 1.0
# Bytes that a file counts for beside its own: its ticket, and the time to find and open it.
_FILE_COST = 8 << 10


@dataclass(slots=True, eq=False)
class MissingFile:
    """A small file that is not downloaded yet."""

    file: RemoteFile
    # Holders that may be asked, by address.
    holders: dict[str, Holder] = field(default_factory=dict)
    # The holder that was asked last.
    requested_from: Holder | None = None
    # Addresses of holders that failed, and the error of the last one.
    failed: set[str] = field(default_factory=set)
    error: PeerError | None = None
    # Addresses of holders that sent corrupt data, and when the last one did, in seconds.
    corrupt_holders: set[str] = field(default_factory=set)
    last_corrupt: float = 0.0
    # A holder reported that the file has more than one piece.
    large: bool = False

    def __post_init__(self) -> None:
        self.update_holders(self.file.holders)

    def update_holders(self, holders: Iterable[Holder]) -> None:
        """Replace the holders. Those that sent corrupt data are left out; those that failed are used only alone."""
        complete = {
            holder.address: holder
            for holder in holders
            if holder.complete and holder.address not in self.corrupt_holders
        }
        self.holders = {address: holder for address, holder in complete.items() if address not in self.failed}
        if not self.holders:
            self.holders = complete
            self.failed.clear()

    def exclude_holder(self, address: str) -> None:
        """Record that a holder failed."""
        if self.holders.pop(address, None) is not None:
            self.failed.add(address)


class RequestWindow:
    """How much to request from one holder of small files: about a second of its measured rate.

    A request for a small file cannot be cancelled. Many requests at a slow holder would delay the last files long after
    the fast holders are done. Requests at a frozen holder wait for its idle timeout. So a holder gets a few requests
    first, and more only as it delivers.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Create the window of a holder whose rate is unknown. `clock` returns seconds."""
        self._rate = Rate(clock)
        self._in_flight = 0

    def should_refill(self) -> bool:
        """Return whether to request more now: when half of the window has arrived, because each message costs."""
        return self._in_flight <= self._size() // 2

    def available(self) -> int:
        """Return the bytes that may be requested now. If there is one, the next file may be of any size."""
        return self._size() - self._in_flight

    def on_request(self, size: int) -> int:
        """Record a request for a file of `size` bytes; return the bytes that it uses of the window."""
        self._in_flight += size + _FILE_COST
        return size + _FILE_COST

    def on_response(self, files: int, size: int) -> None:
        """Record that `files` requested files, of `size` bytes together, arrived or failed."""
        cost = size + files * _FILE_COST
        self._in_flight -= cost
        self._rate.add(cost)

    def _size(self) -> int:
        return min(_MAX_BYTES, max(_MIN_BYTES, int(self._rate.now() * _WINDOW_SECONDS)))
