"""Puts a service on a gRPC server: its methods found by name, its messages read without fail, its errors told
exactly.

A method `UploadFile` of the .proto is the servicer's coroutine `upload_file(request, context)`; a stream of requests
comes as an async iterator. One that answers with a single message returns it, one that answers with a stream writes
to the context.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

import pserver_pb2 as pb
from node.errors import PeerError
from node.language import rpc_errors, wire

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext
Before = Callable[[Any], Awaitable[None]]


def handler(service: str, servicer: object, before: Before | None = None) -> grpc.GenericRpcHandler:
    """Return what answers the calls of a service; `before` may end a call first."""
    codecs = wire.codecs(service)
    methods = {}
    for method in pb.DESCRIPTOR.services_by_name[service].methods:
        make = getattr(
            grpc,
            f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
            "_rpc_method_handler",
        )
        behaviour = getattr(servicer, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        codec = codecs[method.name]
        methods[method.name] = make(
            _guarded(behaviour, method.client_streaming, before), codec.read_request, codec.write_reply
        )
    return grpc.method_handlers_generic_handler(f"p2p.v1.{service}", methods)


def _guarded(behaviour: Callable[..., Awaitable[Any]], streams: bool, before: Before | None) -> Callable[..., Any]:
    async def call(request: Any, context: Any) -> Any:
        try:
            if before is not None:
                await before(context)
            return await behaviour(_each(request) if streams else wire.good(request), context)
        except PeerError as error:
            await rpc_errors.abort(context, error)
        except (grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except Exception:
            log.exception("a call failed in a way that nobody foresaw")
            await rpc_errors.abort(context, PeerError())

    return call


async def _each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield wire.good(request)
