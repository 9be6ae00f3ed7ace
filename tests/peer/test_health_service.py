"""Health needs no login: every program can check it, and a limited number of programs can watch it."""

from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from daemon.peers.limits import MAX_LOCAL_HEALTH_CALLS
from eventually import eventually
from live_pserver import OPTIONS, LivePserver

SERVING = health_pb2.HealthCheckResponse.SERVING


def watch(ana: LivePserver, stack: ExitStack, service: str = "") -> Any:
    """Open a watch on a connection of its own."""
    channel = stack.enter_context(grpc.insecure_channel(ana.address, OPTIONS))
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service=service), timeout=60)
    stack.callback(call.cancel)
    return call


def test_the_number_of_watches_is_limited(ana: LivePserver, stack: ExitStack) -> None:
    # Under many names, because the caller chooses the service.
    watches = [watch(ana, stack, f"service{number}" if number else "") for number in range(MAX_LOCAL_HEALTH_CALLS)]
    assert next(watches[0]).status == SERVING
    for other in watches[1:]:
        assert next(other).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

    with pytest.raises(grpc.RpcError):
        next(refused := watch(ana, stack))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert float(dict(refused.trailing_metadata())["p2p-retry-after"]) > 0
    with ana.channel() as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        assert check(b"", timeout=10).status == SERVING

    watches[0].cancel()

    def status() -> Any:
        with ExitStack() as opened, suppress(grpc.RpcError):
            return next(watch(ana, opened)).status

    # Its slot is free for the next watch.
    assert eventually(status) == SERVING
