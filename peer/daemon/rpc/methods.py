"""Puts a service on a gRPC server: its methods found by name, its messages read without fail, its errors told
exactly.

A method `UploadFile` of the .proto is the servicer's coroutine `upload_file(request, context)`; a stream of requests
comes as an async iterator. One that answers with a single message returns it, or writes it to the context, as one that
answers with a stream does.

To gRPC every method is one of streams. It would read the only request of the others itself, for as long as that takes,
and up to 2 MiB of it would wait in memory for the rest: of any stranger, for Health.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

import pserver_pb2 as pb
from daemon.errors import BadUsage, Interrupted, PeerError
from daemon.protocol import status_codes, stream_io, transfer_messages

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext
Before = Callable[[Any], Awaitable[None]]

# The only request of a call is here, whole, within this many seconds.
REQUEST_TIMEOUT = 20.0


def service_handler(service: str, servicer: object, before: Before | None = None) -> grpc.GenericRpcHandler:
    """Return what answers the calls of a service; `before` may end a call first."""
    codecs = transfer_messages.codecs(service)
    methods = {}
    for method in pb.DESCRIPTOR.services_by_name[service].methods:
        behaviour = getattr(servicer, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        codec = codecs[method.name]
        methods[method.name] = grpc.stream_stream_rpc_method_handler(
            wrap_method(behaviour, streams=method.client_streaming, before=before),
            codec.decode_request,
            codec.encode_response,
        )
    return grpc.method_handlers_generic_handler(f"p2p.v1.{service}", methods)


def wrap_method(
    behaviour: Callable[..., Awaitable[Any]],
    *,
    streams: bool,
    before: Before | None = None,
    request_timeout: float = REQUEST_TIMEOUT,
) -> Callable[..., Any]:
    """Return what gRPC is to call for a method whose requests are a stream, or a single one that is here in time.

    Whatever `behaviour` raises is told as it should be.
    """

    async def call(messages: AsyncIterator[Any], context: Any) -> None:
        requests = stream_io.messages(messages)
        try:
            if before is not None:
                await before(context)
            reply = await behaviour(
                requests if streams else await read_single_request(requests, request_timeout), context
            )
            if reply is not None:
                await stream_io.write(context, reply)
        except PeerError as error:
            await status_codes.abort(context, error)
        except (grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except Exception:
            if context.done():
                # The caller went away while it was being answered.
                raise
            log.exception("a call failed in a way that nobody foresaw")
            await status_codes.abort(context, PeerError())

    return call


async def read_single_request(requests: AsyncIterator[Any], seconds: float) -> Any:
    """Return the request of a call that has one."""
    try:
        async with asyncio.timeout(seconds):
            request = await anext(requests, None)
            if request is None or await anext(requests, None) is not None:
                raise BadUsage("this call has one request")
    except TimeoutError:
        raise Interrupted(f"the request did not arrive within {seconds:.0f} s: try again") from None
    return request
