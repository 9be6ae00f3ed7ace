"""Health, gRPC's own service: whether this pserver serves, for everybody who asks; so its calls are bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from daemon.peers.addresses import from_own_machine
from daemon.peers.limits import HEALTH_CALLS, HEALTH_CALLS_EACH, HEALTH_CALLS_OWN, Slots
from daemon.rpc.methods import ASKED_WITHIN, guarded

Context = grpc.aio.ServicerContext
Answer = Callable[[Any, Any], Awaitable[Any]]


class Health:
    """Says that this pserver serves, until `end`."""

    def __init__(self, asked_within: float = ASKED_WITHIN) -> None:
        """A request is here within so many seconds, or its call ends."""
        self._service = health.aio.HealthServicer()
        self._asked_within = asked_within

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what answers the calls."""
        return grpc.method_handlers_generic_handler(
            health.SERVICE_NAME,
            {"Check": self._bounded(self._service.Check), "Watch": self._bounded(self._service.Watch)},
        )

    async def end(self) -> None:
        """Say from now on that it does not serve."""
        await self._service.enter_graceful_shutdown()

    def _bounded(self, answer: Answer) -> grpc.RpcMethodHandler[Any, Any]:
        places = _Places()
        asked = guarded(answer, streams=False, asked_within=self._asked_within)

        async def call(requests: Any, context: Context[Any, Any]) -> None:
            with places.one(context.peer()):
                await asked(requests, context)

        return grpc.stream_stream_rpc_method_handler(guarded(call, streams=True), _read, _write)


class _Places:
    """Calls of one method at once. Strangers have no name to be counted by, but where they come from."""

    def __init__(self) -> None:
        self._others = Slots(HEALTH_CALLS, HEALTH_CALLS_EACH, HEALTH_CALLS_EACH)
        # Whatever strangers do, who watches over this machine's processes is answered.
        self._own = Slots(HEALTH_CALLS_OWN, HEALTH_CALLS_OWN, HEALTH_CALLS_OWN)

    def one(self, caller: str) -> AbstractContextManager[None]:
        """Hold a place for the length of the block. Raises Busy if there is none."""
        address = caller.rpartition(":")[0]
        return (self._own if from_own_machine(caller) else self._others).one(address, "", address)


def _read(message: bytes) -> health_pb2.HealthCheckRequest:
    """Read a request; what cannot be read asks for a service that is none."""
    try:
        return health_pb2.HealthCheckRequest.FromString(message)
    except DecodeError:
        return health_pb2.HealthCheckRequest(service="?")


def _write(reply: health_pb2.HealthCheckResponse) -> bytes:
    written: bytes = reply.SerializeToString()
    return written
