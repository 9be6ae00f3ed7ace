"""DNS lookups with a timeout. A source that names a silent name server delays its own requests only."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tracker.addresses import normalize
from tracker.concurrency_limits import PerSourceLimit

Resolver = Callable[[str], set[str]]

# Lookups at once: in total, of one source, of all peers on the tracker's own machine.
MAX_LOOKUPS, MAX_LOOKUPS_PER_SOURCE, MAX_LOOKUPS_LOCAL = 8, 2, 4
# Seconds.
LOOKUP_TIMEOUT = 3.0


def resolve(host: str) -> set[str]:
    """Ask the system for the IP addresses of a host; empty if it has none."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


class HostLookup:
    """Lookups in a thread pool. A thread and its slot are in use until the system responds, also after the timeout."""

    def __init__(self, resolver: Resolver = resolve, timeout: float = LOOKUP_TIMEOUT) -> None:
        self._resolver = resolver
        self._patience = timeout
        self._pool = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="lookup")
        self._limit = PerSourceLimit(MAX_LOOKUPS_PER_SOURCE, MAX_LOOKUPS_LOCAL)

    def __call__(self, host: str, source: str) -> set[str]:
        """Look up a host.

        Args:
            host: host name or IP address.
            source: IP address of the client that named it.

        Returns:
            IP addresses; empty if the host has none, or after the timeout.

        Raises:
            Busy: too many lookups for the source at once.
        """
        if normalize(host) is not None:
            return {host}
        self._limit.acquire(source)
        lookup = self._pool.submit(self._resolver, host)
        lookup.add_done_callback(lambda _: self._limit.release(source))
        try:
            return lookup.result(self._patience)
        except TimeoutError:
            lookup.cancel()
            return set()
