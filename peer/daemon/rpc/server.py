"""The gRPC server: its options, its services and its port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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


def listen(server: grpc.aio.Server, settings: Settings, last_port: int) -> int:
    """Bind a server to its port, and return the port.

    Args:
        server: a server that has not started.
        settings: the env file: host, port and TLS files.
        last_port: the port of the last run, 0 if there is none. PSERVER_PORT 0 tries it first, because the tracker
            knows this peer by it.

    Raises:
        InUse: if the server cannot listen there.
    """
    port = 0
    if not settings.port and last_port:
        port = _bind(server, settings, last_port)
    port = port or _bind(server, settings, settings.port)
    if not port:
        address = f"{bracketed_host(settings.listen_host)}:{settings.port}"
        raise InUse(f"cannot listen on {address}: {_bind_error(settings)}")
    return port


def _bind(server: grpc.aio.Server, settings: Settings, port: int) -> int:
    """Bind a server to a port; return the port, or 0 if that fails."""
    address = f"{bracketed_host(settings.listen_host)}:{port}"
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            credentials = channels.server_credentials(settings.tls_cert, settings.tls_key)
            return server.add_secure_port(address, credentials)
        return server.add_insecure_port(address)
    except RuntimeError:
        return 0


def _bind_error(settings: Settings) -> str:
    """Return why the server cannot listen. gRPC does not say it, so a plain socket tries the same."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.listen_host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "address already in use"
