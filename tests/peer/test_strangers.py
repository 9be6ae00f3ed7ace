"""Clients without a ticket can leave only a bounded number of calls and connections open."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from common.channels import MAX_CONNECTIONS
from daemon.peers.limits import MAX_LOCAL_HEALTH_CALLS
from daemon.rpc.health_service import HealthService
from eventually import eventually
from live_pserver import OPTIONS, LivePserver

CALLS = 40


@asynccontextmanager
async def health_server() -> AsyncIterator[Any]:
    """A channel to a server of Health only, which waits one second for a request."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((HealthService(request_timeout=1.0).handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
            yield channel
    finally:
        await server.stop(0)


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_calls_without_a_request_are_few_and_time_out(method: str) -> None:
    async def story() -> None:
        async with health_server() as channel, asyncio.timeout(20):
            calls = [channel.stream_stream(f"/grpc.health.v1.Health/{method}")() for _ in range(CALLS)]
            codes = Counter([await call.code() for call in calls])
            assert codes == {
                grpc.StatusCode.RESOURCE_EXHAUSTED: CALLS - MAX_LOCAL_HEALTH_CALLS,
                grpc.StatusCode.ABORTED: MAX_LOCAL_HEALTH_CALLS,
            }
            reply = await HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING

    asyncio.run(story())


def test_connections_do_not_exhaust_file_descriptors(ana: LivePserver) -> None:
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", ana.pserver.port)))
            for _ in range(MAX_CONNECTIONS + 100)
        ]
        for stranger in strangers:
            stranger.setblocking(False)

        def closed() -> int:
            return sum(is_closed(stranger) for stranger in strangers)

        # The connections of ana itself count as well.
        eventually(lambda: closed() >= 100)
        assert closed() < 150


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed the connection. Reads what it has sent before."""
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True
