"""Looks host names up, with patience for a few seconds: who names a silent name server waits for it alone. No rules."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tracker.addresses import normalize
from tracker.concurrency_limits import PerSourceLimit

Resolver = Callable[[str], set[str]]

# At once; of one source; of all peers on the tracker's own machine.
_AT_ONCE, _EACH, _OWN_MACHINE = 8, 2, 4
_PATIENCE = 3.0


def resolve(host: str) -> set[str]:
    """Addresses of a host, asked of the system; none if it has none."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


class HostLookup:
    """Host names looked up in threads of their own; one is taken until the system answers, however long that takes."""

    def __init__(self, resolver: Resolver = resolve, timeout: float = _PATIENCE) -> None:
        self._resolver = resolver
        self._patience = timeout
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lookup")
        self._places = PerSourceLimit(_EACH, _OWN_MACHINE)

    def __call__(self, host: str, source: str) -> set[str]:
        """Addresses of a host that a source names; none if it has none, or if they do not come in time.

        Raises:
            Busy: the source has others looked up.
        """
        if normalize(host) is not None:
            return {host}
        self._places.acquire(source)
        asked = self._pool.submit(self._resolver, host)
        asked.add_done_callback(lambda _: self._places.release(source))
        try:
            return asked.result(self._patience)
        except TimeoutError:
            asked.cancel()
            return set()
