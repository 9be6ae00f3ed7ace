"""Addresses of peers, `host:port`, and one option of the sockets between them.

Host names are resolved here and not by gRPC, so that no peer can make this one dial anything but an IP address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from common.channels import target_of_addresses
from daemon.errors import NoHolders

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# Bytes that a socket may hold unsent: 0.2 s of a link of 1 MiB/s. Half of it costs a tenth more CPU at full speed.
_NOTSENT_LOWAT = 256 << 10
# The most addresses of a name that are dialled.
_MAX_ADDRESSES = 8


async def resolve_target(address: str) -> str:
    """Return the gRPC target, `ipv4:...` or `ipv6:...`, of an announced `host:port`, with all addresses of a name.

    Raises:
        NoHolders: if `address` is malformed or its host cannot be resolved.
    """
    host, port = split_address(address)
    try:
        return target_of_addresses([host], port)
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        unique = list(dict.fromkeys(str(address[4][0]) for address in found))
        return target_of_addresses(unique[:_MAX_ADDRESSES], port)
    except (OSError, ValueError) as error:
        raise NoHolders(f"{address}: its host cannot be resolved") from error


def split_address(address: str) -> tuple[str, int]:
    """Return the host, an IPv6 address without brackets, and the port of `host:port`.

    Raises:
        NoHolders: if `address` is malformed.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise NoHolders(f"{address[:100]!r} is not the address of a peer")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise NoHolders(f"{address[:100]!r} is not the address of a peer")
    try:
        if getattr(ipaddress.ip_address(host), "scope_id", None):
            raise NoHolders(f"{address[:100]!r} has a zone, which is not valid on other machines")
    except ValueError:
        labels = host.removesuffix(".").split(".")
        # A name whose last label is a number is an IPv4 address in another notation: 127.1, 2130706433, 0x7f000001.
        if len(host) > 253 or _NUMBER.fullmatch(labels[-1]) or not all(_LABEL.fullmatch(label) for label in labels):
            raise NoHolders(f"{address[:100]!r} is not the address of a peer") from None
    return host, int(port)


def is_loopback_caller(caller: str) -> bool:
    """Return whether a call comes over loopback; `caller` is gRPC's name of it, such as `ipv4:127.0.0.1:43210`."""
    return caller.startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "ipv6:[::ffff:127.", "ipv6:%5B::ffff:127."))


def set_notsent_lowat(port: int) -> None:
    """Limit the unsent bytes in the socket of each connection that this process accepts at `port`.

    A message to a requester must not queue behind a second of data. Measured with eight requesters behind 100 Mbit/s:
    each socket held over a megabyte, and `Have` updates arrived 0.6 s late. gRPC has no option for this; accepted
    sockets inherit it from the listening one. Does nothing on a system without TCP_NOTSENT_LOWAT.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    descriptors = Path("/proc/self/fd")
    if option is None or not descriptors.is_dir():
        return
    for entry in descriptors.iterdir():
        # A descriptor may be closed meanwhile.
        with suppress(OSError):
            if not entry.is_socket():
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as candidate:
                if (
                    candidate.type == socket.SOCK_STREAM
                    and candidate.family in (socket.AF_INET, socket.AF_INET6)
                    and candidate.getsockname()[1] == port
                ):
                    candidate.setsockopt(socket.IPPROTO_TCP, option, _NOTSENT_LOWAT)
