"""Addresses: which may be announced, and which belong to the tracker's own machine. Never dials one."""

import ipaddress
import re
import socket
from collections.abc import Callable
from functools import lru_cache

from tracker.errors import BadRequest
from tracker.models import AnnouncedAddress, Source
from tracker.names import printable

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# (host, source of the request) -> IP addresses of the host.
Lookup = Callable[[str, str], set[str]]

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?", re.ASCII)
_SYNTAX = "send host:port, the host an IPv4 address, an IPv6 address in [] or a host name, the port 1 to 65535"
# The host of an announced address that stands for where the tracker sees the peer.
_AUTO = "auto"


def split_address(address: str) -> tuple[str, int]:
    """Split an announced address into host, without brackets, and port.

    Raises:
        BadRequest: it is not `host:port`.
    """
    host, colon, port = address.rpartition(":")
    if len(address) > 300 or not colon or not re.fullmatch(r"[1-9][0-9]{0,4}", port, re.ASCII) or int(port) > 65535:
        raise BadRequest(f"url {printable(address)} is not an address: {_SYNTAX}")
    if host.startswith("[") and host.endswith("]"):
        if _literal(host[1:-1], 6):
            return host[1:-1], int(port)
    elif _literal(host, 4) or (_HOST.fullmatch(host) and len(host) <= 253 and not _numeric(host)):
        return host, int(port)
    raise BadRequest(f"url {printable(address)} is not an address: {_SYNTAX}")


@lru_cache(maxsize=10_000)
def normalize(address: str) -> IpAddress | None:
    """Parse an IP address. The zone is dropped, and an IPv4-mapped IPv6 address becomes IPv4; None if it is not one.

    Pings come from the same few addresses: parsing those again took 10 % of a ping's time behind a proxy.
    """
    try:
        parsed = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed


def rate_limit_key(source: str) -> str:
    """Return what counts as one source: an IPv4 address, or a /64 network, which one IPv6 customer has."""
    if ":" not in source:
        return source
    address = normalize(source)
    if not isinstance(address, ipaddress.IPv6Address):
        return str(address)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def is_local(address: str) -> bool:
    """Whether an IP address belongs to the tracker's own machine. Only such an address can be bound."""
    if address.startswith("127.") or address == "::1":
        return True
    parsed = normalize(address)
    if parsed is None:
        return False
    if parsed.is_loopback:
        return True
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(parsed), 0))
    except OSError:
        return False
    return not parsed.is_unspecified


def is_own_machine(source: Source) -> bool:
    """Whether a request comes from the tracker's own machine. False for an unknown client."""
    return source.known and is_local(source.address)


class AddressPolicy:
    """Checks announced addresses against the sources of requests."""

    def __init__(self, check: bool, lookup: Lookup) -> None:
        """Set the policy; `check` is whether an announced address must lead to the source of the request."""
        self._check = check
        self._lookup = lookup

    @staticmethod
    def means(announced: str, source: Source, address: str) -> bool:
        """Whether an announced address is certainly `address`. Asks no name server, so it can say no too often."""
        if announced == address:
            return True
        host, _, port = announced.rpartition(":")
        return host == _AUTO and source.known and address == f"{_host_seen(source)}:{port}"

    def resolve(self, announced: str, source: Source) -> AnnouncedAddress:
        """Check an announced address.

        Args:
            announced: `host:port`, or `auto:port` for the host that the tracker sees.
            source: where the request comes from.

        Raises:
            BadRequest: not an address that other peers could dial, or not the source of the request.
            Busy: too many DNS lookups for the source at once.
        """
        host, port = split_address(announced)
        if host == _AUTO:
            return self._seen(announced, port, source)
        found = {address for address in map(normalize, self._lookup(host, source.address)) if address is not None}
        for address in found:
            if address.is_unspecified or address.is_multicast:
                raise BadRequest(
                    f"url {printable(announced)}: other peers cannot dial {address}; announce this machine's address"
                )
        loopback = any(address.is_loopback for address in found)
        if loopback and not source.known:
            raise BadRequest(f"url {printable(announced)} is a loopback address, and {_unknown_client(source)}")
        if self._check and not found:
            raise BadRequest(f"url {printable(announced)}: the tracker cannot resolve the host; announce an IP address")
        if self._check and not self._leads_back(found, source):
            raise BadRequest(
                f"url {printable(announced)} does not lead to {source.address}, where this request comes from: "
                "announce the address by which the tracker sees this machine "
                "(or set ADVERTISE_CHECK=false at the tracker)"
            )
        return AnnouncedAddress(announced, loopback)

    @staticmethod
    def _seen(announced: str, port: int, source: Source) -> AnnouncedAddress:
        if not source.known:
            raise BadRequest(f"url {printable(announced)} asks for the address seen, and {_unknown_client(source)}")
        seen = normalize(source.address)
        if seen is None or (seen.version == 6 and seen.is_link_local):
            raise BadRequest(
                f"url {printable(announced)}: other peers cannot dial {source.address}, where this request comes from; "
                "announce this machine's address"
            )
        return AnnouncedAddress(f"{_host_seen(source)}:{port}", seen.is_loopback)

    @staticmethod
    def _leads_back(found: set[IpAddress], source: Source) -> bool:
        if normalize(source.address) in found:
            return True
        # A request from the tracker's own machine may announce any address of that machine.
        return is_own_machine(source) and any(is_local(str(address)) for address in found)


def _host_seen(source: Source) -> str:
    """Return the host of `auto`, as it stands in an address."""
    seen = normalize(source.address)
    if seen is None:
        return ""
    if seen.is_loopback:
        # A peer on this machine usually listens on IPv4, whichever loopback address it dials the tracker from.
        return "127.0.0.1"
    return f"[{seen}]" if seen.version == 6 else str(seen)


def _unknown_client(source: Source) -> str:
    return (
        f"this request came through a proxy at {source.address} that the tracker does not trust: announce an address "
        "of this machine that others can dial, and have the proxy added to TRUSTED_PROXIES at the tracker"
    )


def _literal(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version and "%" not in host
    except ValueError:
        return False


def _numeric(host: str) -> bool:
    # Resolvers read "127.1" and "0x7f.1" as addresses, although they look like names.
    return re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", host.rstrip(".").rpartition(".")[2]) is not None
