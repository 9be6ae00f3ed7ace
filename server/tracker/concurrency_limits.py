"""How much of something each source may have at once, so that no stranger takes it all. Lets nobody wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tracker.addresses import AddressPolicy, rate_limit_key
from tracker.errors import Busy


class PerSourceLimit:
    """Places, counted by where they are taken from. Safe to use from many threads.

    The tracker's own machine has a bound of its own: all its peers, or all that a proxy lets through, have one address.
    """

    def __init__(self, per_source: int, local: int) -> None:
        self._each = per_source
        self._own_machine = local
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def acquire(self, source: str) -> None:
        """Take a place, to be given back.

        Raises:
            Busy: the source has all that it may have.
        """
        where = rate_limit_key(source)
        with self._lock:
            taken = self._taken.get(where, 0)
            # Whose address it is costs a question to the system: it is asked of those who want many only.
            if taken >= self._each and (taken >= self._own_machine or not AddressPolicy.is_local(source)):
                raise Busy("too many requests at once from this address: try again in a second")
            self._taken[where] = taken + 1

    def release(self, source: str) -> None:
        """Give a place back that was taken."""
        where = rate_limit_key(source)
        with self._lock:
            self._taken[where] -= 1
            if not self._taken[where]:
                del self._taken[where]

    @contextmanager
    def acquired(self, source: str) -> Iterator[None]:
        """Hold a place for the length of the block; raises as `take`."""
        self.acquire(source)
        try:
            yield
        finally:
            self.release(source)
