"""Targets, options and TLS credentials of every gRPC channel and server of a peer. Opens no connection.

A target is built from a host and a port only. So no peer can make this one dial `unix:`, `xds:` or a name server of its
choice.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc

Options = list[tuple[str, int]]

# The most connections of one server; further ones are closed.
MAX_CONNECTIONS = 512

# Detects a frozen peer or a cut cable within 10 s. keepalive_timeout alone is not enough: gRPC waits ping_timeout for a
# pending ping, by default a minute.
_KEEPALIVE: Options = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]


def channel_options(max_message: int = 4 << 20) -> Options:
    """Return the options of a channel; `max_message` is the most bytes of a message in either direction."""
    return [
        *_KEEPALIVE,
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", max_message),
        # gRPC would use http_proxy even for 127.0.0.1.
        ("grpc.enable_http_proxy", 0),
        # A DNS TXT record could otherwise change how calls are made.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.initial_reconnect_backoff_ms", 200),
        # Despite its name, the timeout of one connection attempt, with its handshakes. Slow links need it.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]


def server_options(max_message: int = 4 << 20) -> Options:
    """Return the options of a server, which fit those of a channel; `max_message` as in `channel_options`."""
    return [
        *_KEEPALIVE,
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", max_message),
        # A second pserver on one port must fail, not receive half of the calls.
        ("grpc.so_reuseport", 0),
        # Channels ping every 5 s, on idle streams too; a server must not count that as abuse.
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.absolute_max_metadata_size", 16 << 10),
        # Connecting needs no login. A process often has only 1,024 descriptors, which connections must not use up.
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 60_000),
    ]


def target_of_addresses(hosts: Sequence[str], port: int) -> str:
    """Return the gRPC target of the IP addresses of one host. A host name that a peer announces is resolved first.

    gRPC tries them 250 ms apart, with alternating families, and uses the first that answers (RFC 8305).

    Raises:
        ValueError: if one of `hosts` is not an IP address, or there is none.
    """
    addresses = [ipaddress.ip_address(host.removeprefix("[").removesuffix("]")) for host in hosts]
    if not addresses:
        raise ValueError("no address")
    if any(address.version == 6 and address.scope_id for address in addresses):
        raise ValueError(f"{', '.join(hosts)}: an address with a zone is not valid on other machines")
    if all(address.version == 4 for address in addresses):
        return "ipv4:" + ",".join(f"{address}:{port}" for address in addresses)
    # A target has one family. gRPC dials an IPv4-mapped address over IPv4, also on a machine without IPv6.
    return "ipv6:" + ",".join(f"[{'::ffff:' * (each.version == 4)}{each}]:{port}" for each in addresses)


def target_of_own_host(host: str, port: int) -> str:
    """Return the gRPC target of a host that this program's env file names: an IP address or a host name."""
    try:
        return target_of_addresses([host], port)
    except ValueError:
        return f"dns:///{host}:{port}"


def channel_credentials(tls_ca: Path | str | None) -> grpc.ChannelCredentials | None:
    """Return the credentials of a channel.

    Args:
        tls_ca: TLS_CA: a file of PEM certificates, or `system`; None to dial without TLS.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it contains no certificate.
    """
    if tls_ca is None:
        return None
    # By default gRPC uses a list that it ships, which is neither the system's nor the operator's.
    roots = _system_roots() if tls_ca == "system" else Path(tls_ca).read_bytes()
    if b"-----BEGIN CERTIFICATE-----" not in roots:
        raise ValueError(f"no certificate in {tls_ca}")
    return grpc.ssl_channel_credentials(root_certificates=roots)


def server_credentials(certificate: Path, key: Path) -> grpc.ServerCredentials:
    """Return the credentials of a server from TLS_CERT and TLS_KEY, both PEM files.

    Raises:
        OSError: if a file cannot be read.
    """
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])


def _system_roots() -> bytes:
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in found).encode("ascii")
