"""The gRPC server: what it serves, how it is set up, where it listens."""

from __future__ import annotations

import asyncio
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

# Streams of one connection; refused beyond, by gRPC itself.
_STREAMS_PER_CONNECTION = 100


def build_server(
    guard: AuthInterceptor, health: HealthService, control: ControlService, transfer: TransferService
) -> grpc.aio.Server:
    """Return a server of these, behind the guard; it listens nowhere yet."""
    options = [
        *channels.server_options(MAX_MESSAGE_BYTES),
        *FLOW_CONTROL_OPTIONS,
        ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
    ]
    server = grpc.aio.server(interceptors=[guard], options=options)
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
    """Answer calls for the length of the block.

    Gives the event that begins to end that: no new call is answered then, and those under way have `grace` seconds.
    The end of the block waits for it.
    """
    await server.start()
    over = asyncio.Event()

    async def stop() -> None:
        await over.wait()
        await server.stop(grace)

    stopping = asyncio.create_task(stop())
    try:
        yield over
    finally:
        over.set()
        await stopping


def listen(server: grpc.aio.Server, settings: Settings, last: int) -> int:
    """Have a server listen where it should; return the port.

    With any port, first the one under which the tracker knows this peer: `last`, 0 if none.

    Raises:
        InUse: if it cannot.
    """
    port = (not settings.port and last and _bind(server, settings, last)) or _bind(server, settings, settings.port)
    if not port:
        address = f"{bracketed_host(settings.listen_host)}:{settings.port}"
        raise InUse(f"cannot listen on {address}: is another program there, or the address not this machine's?")
    return port


def _bind(server: grpc.aio.Server, settings: Settings, port: int) -> int:
    """Have a server listen at a port; return it, 0 if it cannot."""
    address = f"{bracketed_host(settings.listen_host)}:{port}"
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            credentials = channels.server_credentials(settings.tls_cert, settings.tls_key)
            return server.add_secure_port(address, credentials)
        return server.add_insecure_port(address)
    except RuntimeError:
        return 0
