"""A peer over real gRPC whose Transfer methods are scripted."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

Behaviour = Callable[[AsyncIterator[bytes], Any], Awaitable[None]]


@asynccontextmanager
async def answering(**behaviours: Behaviour) -> AsyncIterator[str]:
    """A peer that answers each method with one behaviour; yield its address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: Any = {name: grpc.stream_stream_rpc_method_handler(behaviour) for name, behaviour in behaviours.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("p2p.v1.Transfer", handlers),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(0)
