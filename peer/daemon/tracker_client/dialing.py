"""Connects to a host at the first of its addresses that answers (RFC 8305, "Happy Eyeballs"). Knows no protocol.

A name with an IPv6 and an IPv4 address is common, and often only one of them leads somewhere. A blocking connect tries
one after the other, and an address that drops packets takes all of its timeout.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

# Seconds until the next address is tried beside those under way (RFC 8305, section 5).
ATTEMPT_DELAY = 0.25

SocketOptions = Iterable[tuple[int, int, int | bytes]]


class Address(NamedTuple):
    """A resolved address, as getaddrinfo returns it."""

    family: int
    kind: int
    protocol: int
    name: str
    socket_address: tuple[Any, ...]


Resolve = Callable[[str, int], Sequence[Address]]


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, in the system's order of preference (RFC 6724).

    Raises:
        socket.gaierror: The host is unknown.
    """
    return [Address(*found) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Return the addresses with alternating families, the first one's first, and otherwise in their order."""
    families: dict[int, list[Address]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(address.family, []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


def dial(
    host: str, port: int, timeout: float, options: SocketOptions = (), *, resolve: Resolve = resolve
) -> socket.socket:
    """Return a connected socket, with `timeout` set.

    Args:
        host: A name or an IP address, without brackets.
        port: The port.
        timeout: Seconds for each address.
        options: Socket options: level, option, value.
        resolve: Returns the addresses of a host.

    Raises:
        socket.gaierror: The host is unknown.
        TimeoutError: No address answers.
        OSError: All addresses fail; why the first one to fail does.
    """
    addresses = interleave(resolve(host, port))
    errors: list[OSError] = []
    with selectors.DefaultSelector() as attempts:
        try:
            for number, address in enumerate(addresses, 1):
                is_last = number == len(addresses)
                _begin(attempts, address, options, errors)
                deadline = time.monotonic() + (timeout if is_last else ATTEMPT_DELAY)
                while attempts.get_map():
                    ready = attempts.select(max(0.0, deadline - time.monotonic()))
                    connected = _connected([key.fd for key, _ in ready], attempts, errors)
                    if connected is not None:
                        connected.settimeout(timeout)
                        return connected
                    # After a failure the next address is tried at once.
                    if not is_last or not ready:
                        break
            if attempts.get_map() or not errors:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            raise errors[0]
        finally:
            for key in list(attempts.get_map().values()):
                key.data.close()


def _begin(attempts: selectors.BaseSelector, address: Address, options: SocketOptions, errors: list[OSError]) -> None:
    """Begin to connect to an address; a failure is added to `errors`."""
    attempt = None
    try:
        attempt = socket.socket(address.family, address.kind, address.protocol)
        for level, option, value in options:
            attempt.setsockopt(level, option, value)
        attempt.setblocking(False)
        code = attempt.connect_ex(address.socket_address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        attempts.register(attempt, selectors.EVENT_WRITE, attempt)
    except OSError as error:
        errors.append(error)
        if attempt is not None:
            attempt.close()


def _connected(ready: list[int], attempts: selectors.BaseSelector, errors: list[OSError]) -> socket.socket | None:
    """Return an attempt that has connected; remove those that failed."""
    for descriptor in ready:
        attempt: socket.socket = attempts.unregister(descriptor).data
        code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code:
            return attempt
        attempt.close()
        errors.append(OSError(code, os.strerror(code)))
    return None
