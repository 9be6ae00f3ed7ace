"""Health, gRPC's own service: whether this pserver serves, for everybody who asks; so its calls are bounded."""

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
Answer = Callable[[Any, Any], Awaitable[Any]]


class HealthService:
    """Says that this pserver serves, until `end`."""

    def __init__(self, request_timeout: float = REQUEST_TIMEOUT) -> None:
        """A request is here within so many seconds, or its call ends."""
        self._service = health.aio.HealthServicer()
        self._asked_within = request_timeout

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what answers the calls."""
        return grpc.method_handlers_generic_handler(
            health.SERVICE_NAME,
            {"Check": self._bounded(self._service.Check), "Watch": self._bounded(self._service.Watch)},
        )

    async def stop_serving(self) -> None:
        """Say from now on that it does not serve."""
        await self._service.enter_graceful_shutdown()

    def _bounded(self, answer: Answer) -> grpc.RpcMethodHandler[Any, Any]:
        places = _CallSlots()
        asked = wrap_method(answer, streams=False, request_timeout=self._asked_within)

        async def call(requests: Any, context: Context[Any, Any]) -> None:
            with places.acquire(context.peer()):
                await asked(requests, context)

        return grpc.stream_stream_rpc_method_handler(wrap_method(call, streams=True), _read, _write)


class _CallSlots:
    """Calls of one method at once. Strangers have no name to be counted by, but where they come from."""

    def __init__(self) -> None:
        self._others = StreamSlots(MAX_HEALTH_CALLS, MAX_HEALTH_CALLS_PER_ADDRESS, MAX_HEALTH_CALLS_PER_ADDRESS)
        # Whatever strangers do, who watches over this machine's processes is answered.
        self._own = StreamSlots(MAX_LOCAL_HEALTH_CALLS, MAX_LOCAL_HEALTH_CALLS, MAX_LOCAL_HEALTH_CALLS)

    def acquire(self, caller: str) -> AbstractContextManager[None]:
        """Hold a place for the length of the block. Raises Busy if there is none."""
        address = caller.rpartition(":")[0]
        return (self._own if is_loopback_caller(caller) else self._others).acquire(address, "", address)


def _read(message: bytes) -> health_pb2.HealthCheckRequest:
    """Read a request; what cannot be read asks for a service that is none."""
    try:
        return health_pb2.HealthCheckRequest.FromString(message)
    except DecodeError:
        return health_pb2.HealthCheckRequest(service="?")


def _write(reply: health_pb2.HealthCheckResponse) -> bytes:
    written: bytes = reply.SerializeToString()
    return written
