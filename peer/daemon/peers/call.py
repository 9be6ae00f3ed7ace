"""An open stream to another pserver, and how the other side ended it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import grpc

from daemon.errors import NoHolders
from daemon.peers.limits import SEND_TIMEOUT
from daemon.protocol import status_codes, stream_io
from daemon.protocol.stream_io import StreamEnded

T = TypeVar("T")
# Seconds to wait for the status of a stream that has ended. It is here already, or has a few steps to go.
_STATUS_TIMEOUT = 5.0


class Call:
    """An open stream to another peer.

    Only `responses` reports how the stream ended, so one task must read until its end. The peer may end the stream
    while this side writes. Then messages that it sent before are still unread, and its status comes after them.
    """

    def __init__(self, address: str, stream: Any) -> None:
        self.address = address
        self._stream = stream
        self._writing = asyncio.Lock()
        self._status = _StatusRecord(stream)

    async def write(self, message: Any) -> None:
        """Send a message; returns when gRPC accepts the next one.

        Raises:
            StreamEnded: if the stream has ended; `responses` raises why.
            NoHolders: if the peer stops reading.
        """
        try:
            async with asyncio.timeout(SEND_TIMEOUT), self._writing:
                # If the call ends before it is connected, a write would wait for the connection forever.
                await self._stream.wait_for_connection()
                await stream_io.write(self._stream, message)
        except TimeoutError as error:
            raise NoHolders(f"{self.address}: stopped reading for {SEND_TIMEOUT:.0f} s") from error
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise StreamEnded from None

    async def half_close(self) -> None:
        """Close the sending half: the peer sees the end of the requests.

        Raises:
            StreamEnded: if the stream has ended; `responses` raises why.
        """
        async with self._writing:
            try:
                await self._stream.done_writing()
            except grpc.aio.InternalError:
                raise StreamEnded from None

    def cancel(self) -> None:
        """Cancel the call."""
        self._stream.cancel()

    async def responses(self) -> AsyncIterator[Any]:
        """Yield the messages of the peer until it ends the stream. Raises PeerError if the stream fails."""
        reader = stream_io.MessageReader(self._stream)
        try:
            async for message in reader.messages():
                yield message
        except grpc.aio.AioRpcError as error:
            status = await self._status.of_peer(error)
            if status is not None:
                raise status_codes.error_from_rpc(status, self.address) from error
        except asyncio.CancelledError:
            # gRPC raises this too if `cancel` cancelled the call and not this task.
            if _is_cancelled():
                raise
            raise NoHolders(f"{self.address}: cancelled") from None
        finally:
            await reader.close()


class _StatusRecord:
    """The status with which the peer ended a call, also where grpcio replaces it.

    If a write fails because the peer has ended the call, grpcio 1.85 (asyncio) sets a status of its own, INTERNAL
    without metadata: over the peer's, or before it (https://github.com/grpc/grpc/issues/36066). So each status is
    recorded when it is set. Remove this class when a grpcio release fixes the issue; the tests of refused pushes show
    whether it has.
    """

    def __init__(self, stream: Any) -> None:
        self._status: grpc.aio.AioRpcError | None = None
        self._recorded = asyncio.Event()
        stream.add_done_callback(self._record)

    async def of_peer(self, reported: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError | None:
        """Return the status that the peer sent, or None if that is OK. `reported` is what gRPC reported."""
        if not _may_be_replaced(reported):
            return reported
        try:
            async with asyncio.timeout(_STATUS_TIMEOUT):
                await self._recorded.wait()
        except TimeoutError:
            return reported
        status = self._status
        return None if status is None or status.code() is grpc.StatusCode.OK else status

    def _record(self, stream: Any) -> None:
        status = grpc.aio.AioRpcError(
            _result_of(stream.code()),
            grpc.aio.Metadata(),
            _result_of(stream.trailing_metadata()),
            _result_of(stream.details()),
        )
        if not _may_be_replaced(status):
            self._status = status
            self._recorded.set()


def _may_be_replaced(status: grpc.aio.AioRpcError) -> bool:
    """Return whether grpcio itself may have set a status."""
    return status.code() is grpc.StatusCode.INTERNAL and not status.trailing_metadata()


def _result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("the coroutine waits")


def _is_cancelled() -> bool:
    """Return whether the current task is being cancelled.

    This is a function of its own, so that no frame references its own task. Such a cycle would keep a piece in memory
    until the next garbage collection.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
