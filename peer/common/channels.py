"""How every gRPC channel and server of a peer is set up: targets, options, TLS. Opens no connection.

A target is made from a host and a port only, so nobody can make us dial `unix:`, `xds:` or a name server of his
choosing.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import grpc

Options = list[tuple[str, int]]

# What a server accepts at once; the next ones are closed.
MAX_CONNECTIONS = 512

# A holder that is frozen, or a cable that is cut, is noticed in 10 s at the latest. keepalive_timeout alone does not do
# it: gRPC waits for any pending ping ping_timeout long, and that is a minute unless told otherwise.
_LIVELINESS: Options = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]


def channel_options(max_message: int = 4 << 20) -> Options:
    """Options of every channel we open. `max_message` is in bytes, both ways."""
    return [
        *_LIVELINESS,
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", max_message),
        # gRPC would ask http_proxy for the way to 127.0.0.1.
        ("grpc.enable_http_proxy", 0),
        # No lookup of TXT records that could change how we call.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.initial_reconnect_backoff_ms", 200),
        # Despite its name: how long one attempt to connect may take, handshakes included. Slow links need it.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]


def server_options(max_message: int = 4 << 20) -> Options:
    """Options of every server we start, in step with those of our channels."""
    return [
        *_LIVELINESS,
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", max_message),
        # A second pserver on one port must fail, not take half of the calls.
        ("grpc.so_reuseport", 0),
        # Our channels ping every 5 s, also on a stream where nothing moves for a while: no offence.
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.absolute_max_metadata_size", 16 << 10),
        # Strangers may connect: they must not use up the descriptors, of which a process has often no more than 1,024.
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 60_000),
    ]


def target_of_address(host: str, port: int) -> str:
    """The gRPC target of an IP address; what strangers announce is resolved by us first.

    Raises:
        ValueError: if `host` is not an IP address.
    """
    address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    if isinstance(address, ipaddress.IPv4Address):
        return f"ipv4:{address}:{port}"
    if address.scope_id:
        raise ValueError(f"{host}: an address with a zone is not for peers")
    return f"ipv6:[{address}]:{port}"


def target_of_own_host(host: str, port: int) -> str:
    """The gRPC target of a host that our own env file names: an IP address or a host name."""
    try:
        return target_of_address(host, port)
    except ValueError:
        return f"dns:///{host}:{port}"


def channel_credentials(tls_ca: Path | str | None) -> grpc.ChannelCredentials | None:
    """Credentials from TLS_CA: a file of PEM certificates, or `system`; None without TLS.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds no certificate.
    """
    if tls_ca is None:
        return None
    # gRPC's own default is a list that it ships: neither the system's nor the team's.
    roots = _system_roots() if tls_ca == "system" else Path(tls_ca).read_bytes()
    if b"-----BEGIN CERTIFICATE-----" not in roots:
        raise ValueError(f"no certificate in {tls_ca}")
    return grpc.ssl_channel_credentials(root_certificates=roots)


def server_credentials(certificate: Path, key: Path) -> grpc.ServerCredentials:
    """Credentials from TLS_CERT and TLS_KEY, both PEM.

    Raises:
        OSError: if a file cannot be read.
    """
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])


def _system_roots() -> bytes:
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in found).encode("ascii")
