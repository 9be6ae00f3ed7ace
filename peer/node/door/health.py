"""Health, gRPC's own service: whether this pserver serves, for everybody who asks; so watching it is bounded."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from node.errors import Busy
from node.language import rpc_errors
from node.lines.limits import WATCHES, Slots

Context = grpc.aio.ServicerContext


class Health:
    """Says that this pserver serves, until `end`."""

    def __init__(self) -> None:
        self._service = health.aio.HealthServicer()
        # In all: strangers have no name to be counted by.
        self._watches = Slots(total=WATCHES, per_peer=WATCHES, per_ticket=WATCHES)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what answers the calls."""
        return grpc.method_handlers_generic_handler(
            health.SERVICE_NAME,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._service.Check, _read, _write),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, _read, _write),
            },
        )

    async def end(self) -> None:
        """Say from now on that it does not serve."""
        await self._service.enter_graceful_shutdown()

    async def _watch(self, request: health_pb2.HealthCheckRequest, context: Context[Any, Any]) -> None:
        try:
            with self._watches.one("", ""):
                await self._service.Watch(request, context)
        except Busy as error:
            await rpc_errors.abort(context, error)


def _read(message: bytes) -> health_pb2.HealthCheckRequest:
    """Read a request; what cannot be read asks for a service that is none."""
    try:
        return health_pb2.HealthCheckRequest.FromString(message)
    except DecodeError:
        return health_pb2.HealthCheckRequest(service="?")


def _write(reply: health_pb2.HealthCheckResponse) -> bytes:
    written: bytes = reply.SerializeToString()
    return written
