"""Addresses: which may be announced, and which belong to the tracker's own machine. Never dials one."""

import ipaddress
import re
import socket
from collections.abc import Callable

from tracker.errors import BadRequest
from tracker.names import printable

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# (host, source of the request) -> IP addresses of the host.
Lookup = Callable[[str, str], set[str]]

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?", re.ASCII)
_SYNTAX = "send host:port, the host an IPv4 address, an IPv6 address in [] or a host name, the port 1 to 65535"


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


def normalize(address: str) -> IpAddress | None:
    """Parse an IP address. The zone is dropped, and an IPv4-mapped IPv6 address becomes IPv4; None if it is not one."""
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


class AddressPolicy:
    """Checks announced addresses against the sources of requests."""

    def __init__(self, check: bool, lookup: Lookup) -> None:
        """Set the policy; `check` is whether an announced address must lead to the source of the request."""
        self._check = check
        self._lookup = lookup

    def validate(self, announced: str, source: str) -> bool:
        """Check an announced address.

        Args:
            announced: `host:port`.
            source: IP address from which the request comes.

        Returns:
            Whether it is a loopback address.

        Raises:
            BadRequest: not an address that other peers could dial, or not the source of the request.
            Busy: too many DNS lookups for the source at once.
        """
        host, _ = split_address(announced)
        found = {address for address in map(normalize, self._lookup(host, source)) if address is not None}
        for address in found:
            if address.is_unspecified or address.is_multicast:
                raise BadRequest(
                    f"url {printable(announced)}: other peers cannot dial {address}; announce this machine's address"
                )
        if self._check and not found:
            raise BadRequest(f"url {printable(announced)}: the tracker cannot resolve the host; announce an IP address")
        if self._check and not self._leads_back(found, source):
            raise BadRequest(
                f"url {printable(announced)} does not lead to {source}, where this request comes from: "
                "announce the address by which the tracker sees this machine "
                "(or set ADVERTISE_CHECK=false at the tracker)"
            )
        return any(address.is_loopback for address in found)

    def _leads_back(self, found: set[IpAddress], source: str) -> bool:
        if normalize(source) in found:
            return True
        # A request from the tracker's own machine may announce any address of that machine.
        return self.is_local(source) and any(self.is_local(str(address)) for address in found)

    @staticmethod
    def is_local(source: str) -> bool:
        """Whether an IP address belongs to the tracker's own machine. Only such an address can be bound."""
        if source.startswith("127.") or source == "::1":
            return True
        address = normalize(source)
        if address is None:
            return False
        if address.is_loopback:
            return True
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((str(address), 0))
        except OSError:
            return False
        return not address.is_unspecified


def _literal(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version and "%" not in host
    except ValueError:
        return False


def _numeric(host: str) -> bool:
    # Resolvers read "127.1" and "0x7f.1" as addresses, although they look like names.
    return re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", host.rstrip(".").rpartition(".")[2]) is not None
