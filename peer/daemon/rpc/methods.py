"""Connects the methods of a service to gRPC: decoding, timeouts and errors are the same for all.

A method `UploadFile` of the .proto is the service's coroutine `upload_file(request, context)`. A stream of requests is
an async iterator. A method with a single response returns it, or writes it to the context; a method with a stream of
responses writes them.

gRPC sees every method as a stream in both directions. For a method with a single request, gRPC would read the request
itself, without a timeout. A caller without login could then leave up to 2 MiB in memory for as long as it likes.
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

# Seconds within which a call must send its single request.
REQUEST_TIMEOUT = 20.0
# The most that is read of a refused caller before it gets the status, in seconds and bytes; and the seconds of silence
# after which it gets the status.
DRAIN_TIMEOUT = 2.0
DRAIN_MAX_BYTES = 16 << 20
_DRAIN_QUIET = 0.1


def service_handler(service: str, servicer: object, before: Before | None = None) -> grpc.GenericRpcHandler:
    """Return the handler of a service, for the server.

    Args:
        service: its name in the .proto.
        servicer: the object with a coroutine for each method.
        before: called with the context of each call first; it may abort the call.
    """
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
    """Return the coroutine that gRPC calls for a method. It aborts the call with what `behaviour` raises.

    Args:
        behaviour: the coroutine of the service; its result, unless None, is the response.
        streams: whether `behaviour` receives an iterator of requests, or a single request.
        before: called with the context first; it may abort the call.
        request_timeout: seconds within which a single request must arrive.
    """

    async def call(stream: AsyncIterator[Any], context: Any) -> None:
        reader = stream_io.MessageReader(stream)
        requests = reader.messages()
        try:
            if before is not None:
                await before(context)
            response = await behaviour(
                requests if streams else await read_single_request(requests, request_timeout), context
            )
            if response is not None:
                await stream_io.write(context, response)
        except PeerError as error:
            if streams:
                await _drain(reader)
            await status_codes.abort(context, error)
        except (grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except Exception:
            if context.done():
                # The caller cancelled the call meanwhile.
                raise
            log.exception("unexpected error in a call")
            await status_codes.abort(context, PeerError())
        finally:
            await reader.close()

    return call


async def _drain(reader: stream_io.MessageReader) -> None:
    """Read what the caller still sends, before its call is aborted.

    A caller in Python (grpcio, asyncio) that is writing when the status arrives may lose it, and with it our code
    (https://github.com/grpc/grpc/issues/36066). `peers.call` works around this; callers of other programs do not.
    """
    await reader.drain(seconds=DRAIN_TIMEOUT, quiet=_DRAIN_QUIET, max_bytes=DRAIN_MAX_BYTES)


async def read_single_request(requests: AsyncIterator[Any], seconds: float) -> Any:
    """Return the request of a call that has exactly one.

    Raises:
        BadUsage: if the call has none or several.
        Interrupted: if it does not arrive within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            request = await anext(requests, None)
            if request is None or await anext(requests, None) is not None:
                raise BadUsage("the call must have exactly one request")
    except TimeoutError:
        raise Interrupted(f"request timed out after {seconds:.0f} s") from None
    return request
