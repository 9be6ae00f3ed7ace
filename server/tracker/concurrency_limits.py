"""How much of something each source may have at once, so that no stranger takes it all. Lets nobody wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tracker.addresses import Addresses, site
from tracker.errors import Busy


class Places:
    """Places, counted by where they are taken from. Safe to use from many threads.

    The tracker's own machine has a bound of its own: all its peers, or all that a proxy lets through, have one address.
    """

    def __init__(self, each: int, own_machine: int) -> None:
        self._each = each
        self._own_machine = own_machine
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def take(self, source: str) -> None:
        """Take a place, to be given back.

        Raises:
            Busy: the source has all that it may have.
        """
        where = site(source)
        with self._lock:
            taken = self._taken.get(where, 0)
            # Whose address it is costs a question to the system: it is asked of those who want many only.
            if taken >= self._each and (taken >= self._own_machine or not Addresses.own(source)):
                raise Busy("too many requests at once from this address: try again in a second")
            self._taken[where] = taken + 1

    def give_back(self, source: str) -> None:
        """Give a place back that was taken."""
        where = site(source)
        with self._lock:
            self._taken[where] -= 1
            if not self._taken[where]:
                del self._taken[where]

    @contextmanager
    def taken(self, source: str) -> Iterator[None]:
        """Hold a place for the length of the block; raises as `take`."""
        self.take(source)
        try:
            yield
        finally:
            self.give_back(source)
