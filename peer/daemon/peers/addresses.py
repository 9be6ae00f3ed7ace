"""Where other peers are: host:port and nothing else, resolved here, so that nobody makes gRPC dial what it should
not.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket

from common.channels import target_of_address
from daemon.errors import NoHolders

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


async def resolve_target(address: str) -> str:
    """Return the gRPC target, `ipv4:...` or `ipv6:...`, of an announced host:port.

    Raises:
        NoHolders: if it is no address, or cannot be resolved.
    """
    host, port = split_address(address)
    try:
        return target_of_address(host, port)
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return target_of_address(str(found[0][4][0]), port)
    except (OSError, ValueError) as error:
        raise NoHolders(f"{address}: its host cannot be resolved") from error


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of host:port; brackets around IPv6 are taken off.

    Raises:
        NoHolders: if it is anything else.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise NoHolders(f"{address[:100]!r} is no address of a peer")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise NoHolders(f"{address[:100]!r} is no address of a peer")
    try:
        if getattr(ipaddress.ip_address(host), "scope_id", None):
            raise NoHolders(f"{address[:100]!r} has a zone, which means nothing to others")
    except ValueError:
        labels = host.removesuffix(".").split(".")
        # A name whose last label is a number is an address in disguise: 127.1, 2130706433, 0x7f000001.
        if len(host) > 253 or _NUMBER.fullmatch(labels[-1]) or not all(_LABEL.fullmatch(label) for label in labels):
            raise NoHolders(f"{address[:100]!r} is no address of a peer") from None
    return host, int(port)


def is_loopback_caller(caller: str) -> bool:
    """Tell whether a call comes over loopback; `caller` is what gRPC says of it, as in `ipv4:127.0.0.1:43210`."""
    return caller.startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "ipv6:[::ffff:127.", "ipv6:%5B::ffff:127."))
