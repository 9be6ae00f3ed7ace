"""Where a request comes from, if reverse proxies may stand between the client and the tracker.

tracker.wsgi_bridge asks once for each request, before anything else. Nothing else reads a header of a proxy.
"""

import ipaddress
import logging
import re
from collections.abc import Iterable, Sequence

from tracker.addresses import IpAddress, is_local, normalize
from tracker.models import Source

log = logging.getLogger("tracker.proxies")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Headers that a proxy adds. Of these only X-Forwarded-For is read, and only if it comes from a trusted proxy.
FORWARDING_HEADERS = frozenset({"x-forwarded-for", "forwarded", "x-real-ip", "via"})
FORWARDED_FOR = "x-forwarded-for"

# Some proxies add a port; an IPv6 address then has brackets.
_WITH_PORT = re.compile(r"\[([^\[\]]*)\](?::[0-9]+)?|([^:\[\]]*):[0-9]+", re.ASCII)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse IP addresses and networks, separated by commas.

    Raises:
        ValueError: one of them is neither, has bits outside its prefix, or is a network of all addresses.
    """
    return tuple(_network(part.strip()) for part in text.split(","))


class TrustedProxies:
    """Decides the source of a request from its connection and, if that is a trusted proxy's, from X-Forwarded-For."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        """Set the addresses whose X-Forwarded-For is believed."""
        self._networks = tuple(networks)
        self._warned = False

    @property
    def configured(self) -> bool:
        """Whether there is any trusted proxy."""
        return bool(self._networks)

    def source_of(self, connection: str, forwarded_for: Sequence[str] | None) -> Source:
        """Return the source of a request.

        Args:
            connection: IP address of the other side of the connection.
            forwarded_for: values of X-Forwarded-For, in their order; empty if there are only other
                FORWARDING_HEADERS, None if there are none.
        """
        if forwarded_for is None:
            return Source(connection)
        hop = normalize(connection)
        if hop is None or not self._trusts(hop):
            self._warn(connection)
            return Source(connection, known=False)
        # A loopback address means the machine of the proxy that wrote it down: that of the next address to its right.
        machine, found = hop, False
        rest = ",".join(forwarded_for)
        while rest:
            # From the right: each entry was written by the machine that is to the right of it.
            rest, _, entry = rest.rpartition(",")
            if not entry.strip():
                continue
            client = _client(entry.strip())
            if client is None:
                return Source(str(machine), known=False)
            hop, found = client, True
            if not hop.is_loopback:
                machine = hop
            if not self._trusts(hop):
                break
        if hop.is_loopback and not is_local(str(machine)):
            hop = machine
        return Source(str(hop), known=found)

    def _trusts(self, address: IpAddress) -> bool:
        return any(address in network for network in self._networks)

    def _warn(self, connection: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "a request from %s came through a proxy that is not in TRUSTED_PROXIES: its client is unknown",
                connection,
            )


def _network(text: str) -> Network:
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            network = ipaddress.ip_network((mapped, network.prefixlen - 96))
    if network.prefixlen == 0:
        raise ValueError("every address would be trusted")
    return network


def _client(entry: str) -> IpAddress | None:
    """Parse an element of X-Forwarded-For; None if it names no machine, like `unknown`."""
    with_port = _WITH_PORT.fullmatch(entry)
    address = normalize(entry if with_port is None else with_port[1] or with_port[2] or "")
    if address is None or address.is_unspecified or address.is_multicast:
        return None
    return address
