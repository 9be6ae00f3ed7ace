"""Health, gRPC's standard service: whether this pserver serves. Calls need no login, so their number is limited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from daemon.peers.addresses import is_loopback_caller
from daemon.peers.limits import MAX_HEALTH_CALLS, MAX_HEALTH_CALLS_PER_ADDRESS, MAX_LOCAL_HEALTH_CALLS, StreamSlots
from daemon.rpc.methods import REQUEST_TIMEOUT, wrap_method

Context = grpc.aio.ServicerContext
Behaviour = Callable[[Any, Any], Awaitable[Any]]


class HealthService:
    """Reports that this pserver serves, until `stop_serving`."""

    def __init__(self, request_timeout: float = REQUEST_TIMEOUT) -> None:
        """`request_timeout` is the seconds within which a call must send its request."""
        self._service = health.aio.HealthServicer()
        self._request_timeout = request_timeout

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of the service, for the server."""
        return grpc.method_handlers_generic_handler(
            health.SERVICE_NAME,
            {"Check": self._bounded(self._service.Check), "Watch": self._bounded(self._service.Watch)},
        )

    async def stop_serving(self) -> None:
        """Report NOT_SERVING from now on."""
        await self._service.enter_graceful_shutdown()

    def _bounded(self, behaviour: Behaviour) -> grpc.RpcMethodHandler[Any, Any]:
        slots = _CallSlots()
        method = wrap_method(behaviour, streams=False, request_timeout=self._request_timeout)

        async def call(requests: Any, context: Context[Any, Any]) -> None:
            with slots.acquire(context.peer()):
                await method(requests, context)

        return grpc.stream_stream_rpc_method_handler(wrap_method(call, streams=True), _read, _write)


class _CallSlots:
    """Limits the calls of one method at once, for each address: callers are not logged in."""

    def __init__(self) -> None:
        self._remote = StreamSlots(MAX_HEALTH_CALLS, MAX_HEALTH_CALLS_PER_ADDRESS, MAX_HEALTH_CALLS_PER_ADDRESS)
        # Apart, so that other machines cannot block the monitoring on this one.
        self._local = StreamSlots(MAX_LOCAL_HEALTH_CALLS, MAX_LOCAL_HEALTH_CALLS, MAX_LOCAL_HEALTH_CALLS)

    def acquire(self, caller: str) -> AbstractContextManager[None]:
        """Acquire a slot while the block runs. Raises Busy if there is none."""
        address = caller.rpartition(":")[0]
        return (self._local if is_loopback_caller(caller) else self._remote).acquire(address, "", address)


def _read(message: bytes) -> health_pb2.HealthCheckRequest:
    """Decode a request; a malformed one becomes a request for an unknown service."""
    try:
        return health_pb2.HealthCheckRequest.FromString(message)
    except DecodeError:
        return health_pb2.HealthCheckRequest(service="?")


def _write(reply: health_pb2.HealthCheckResponse) -> bytes:
    written: bytes = reply.SerializeToString()
    return written
