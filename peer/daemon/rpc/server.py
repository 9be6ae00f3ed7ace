"""The gRPC server: its options, its services and its port."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import NamedTuple

import grpc

from common import channels
from daemon.errors import InUse
from daemon.peers.client import FLOW_CONTROL_OPTIONS, MAX_MESSAGE_BYTES
from daemon.rpc import methods
from daemon.rpc.auth import AuthInterceptor, require_loopback_or_tls
from daemon.rpc.control_service import ControlService
from daemon.rpc.health_service import HealthService
from daemon.rpc.transfer_service import TransferService
from daemon.runtime.settings import Settings, bracketed_host

# The most streams of one connection; gRPC itself refuses further ones.
_STREAMS_PER_CONNECTION = 100
# How often a port that is free at all addresses of a host is looked for.
_PORT_ATTEMPTS = 20
# localhost is both, whatever the hosts file says (RFC 6761, 6.3).
_LOCALHOST: tuple[tuple[int, str], ...] = ((int(socket.AF_INET), "127.0.0.1"), (int(socket.AF_INET6), "::1"))


def build_server(
    interceptor: AuthInterceptor, health: HealthService, control: ControlService, transfer: TransferService
) -> grpc.aio.Server:
    """Return a server of these services, behind the interceptor. It has no port yet."""
    options = [
        *channels.server_options(MAX_MESSAGE_BYTES),
        *FLOW_CONTROL_OPTIONS,
        ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
    ]
    server = grpc.aio.server(interceptors=[interceptor], options=options)
    server.add_generic_rpc_handlers(
        (
            health.handler(),
            methods.service_handler("Control", control, require_loopback_or_tls),
            methods.service_handler("Transfer", transfer),
        )
    )
    return server


@asynccontextmanager
async def serving(server: grpc.aio.Server, grace: float) -> AsyncIterator[asyncio.Event]:
    """Serve calls while the block runs.

    Yields:
        An event. Setting it stops the server: new calls are refused, and running calls have `grace` seconds to finish.
        The end of the block sets it too, and waits until the server has stopped.
    """
    await server.start()
    stop_requested = asyncio.Event()

    async def stop() -> None:
        await stop_requested.wait()
        await server.stop(grace)

    stopping = asyncio.create_task(stop())
    try:
        yield stop_requested
    finally:
        stop_requested.set()
        await stopping


class Listening(NamedTuple):
    """Where a server listens: IP addresses without brackets, and the port that they share."""

    addresses: tuple[str, ...]
    port: int


def listen(server: grpc.aio.Server, settings: Settings, last_port: int) -> Listening:
    """Bind a server to its port, at all addresses of a host name; return where it listens.

    Args:
        server: a server that has not started.
        settings: the env file: host, port and TLS files.
        last_port: the port of the last run, 0 if there is none. PSERVER_PORT 0 tries it first, because others know this
            peer by it.

    Raises:
        InUse: if the server cannot listen there.
    """
    last = [last_port] if last_port and not settings.port else []
    for port in (*last, settings.port):
        try:
            found = _find_free(settings.listen_host, port)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            continue
        # For one address gRPC itself finds a free port, which no other program can get in between.
        chosen = port if len(found.addresses) == 1 else found.port
        ports = [_bind(server, settings, address, chosen) for address in found.addresses]
        return Listening(found.addresses, ports[0])
    raise InUse(f"cannot listen on {bracketed_host(settings.listen_host)}:{settings.port}: {reason}")


def _find_free(host: str, port: int) -> Listening:
    """Return the addresses of a host that this machine has, and a port that is free at all of them.

    gRPC would be content with one of them, and does not say why it cannot use another.

    Raises:
        OSError: if the host is unknown, or has no address of this machine, or the port is in use.
    """
    if host.rstrip(".").lower() == "localhost":
        addresses = _LOCALHOST
    else:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = tuple(dict.fromkeys((int(family), str(address[0])) for family, *_, address in found))
    for attempts_left in reversed(range(_PORT_ATTEMPTS)):
        try:
            return _probe(addresses, port)
        except OSError as error:
            # A port that is free at one address may be in use at another.
            if port or error.errno != errno.EADDRINUSE or not attempts_left:
                raise
    raise AssertionError("the last attempt returns or raises")


def _probe(addresses: Sequence[tuple[int, str]], port: int) -> Listening:
    """Listen on a port at all addresses that this machine has, and stop; with port 0 the first one chooses the port."""
    usable: list[str] = []
    missing: OSError | None = None
    with ExitStack() as stack:
        for family, address in addresses:
            try:
                probe = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                # gRPC sets it too.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
                probe.listen()
            except OSError as error:
                # Often localhost has an IPv6 address, and the machine has no IPv6.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
            else:
                port = port or probe.getsockname()[1]
                usable.append(address)
    if not usable and missing is not None:
        raise missing
    return Listening(tuple(usable), port)


def _bind(server: grpc.aio.Server, settings: Settings, address: str, port: int) -> int:
    """Bind a server to a port that was free, or to any free one if `port` is 0; return the port.

    Raises:
        InUse: if another program has it now.
    """
    target = f"{bracketed_host(address)}:{port}"
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            credentials = channels.server_credentials(settings.tls_cert, settings.tls_key)
            return server.add_secure_port(target, credentials)
        return server.add_insecure_port(target)
    except RuntimeError as error:
        raise InUse(f"cannot listen on {target}: {os.strerror(errno.EADDRINUSE).lower()}") from error
