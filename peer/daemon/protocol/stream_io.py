"""Reads and writes of gRPC streams that leak no memory when their task is cancelled.

grpcio 1.85 (asyncio) leaks about 100 bytes and the received message if the task that awaits a read or a write is
cancelled (https://github.com/grpc/grpc/issues/43360). So each operation runs in its own task, which is never cancelled
and ends with the call. Remove this module when a grpcio release fixes the issue; tests/peer/test_stream_io.py measures
the leak.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine
from typing import Any, Protocol, cast

from daemon.protocol import transfer_messages


class Writable(Protocol):
    """The writing half of a gRPC call, at either end."""

    def write(self, message: Any, /) -> Coroutine[Any, Any, None]:
        """Send a message; returns when gRPC accepts the next one."""


async def write(call: Writable, message: Any) -> None:
    """Send a message; returns when gRPC accepts the next one.

    After a cancellation the message may still be under way, so the caller must not write to this call again.
    """
    await _detached(call.write(message))


async def messages(call: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Yield the messages of a call. Raises BadUsage for one that could not be decoded."""
    reader = _Reader(call)
    try:
        while (message := await _detached(reader.read())) is not None:
            yield transfer_messages.ensure_decoded(message)
    finally:
        await reader.close()


class _Reader:
    """gRPC's iterator over the messages of a call, closed after use.

    The iterator and the call reference each other. Left open, both and the last message would stay in memory until the
    next garbage collection. The iterator cannot be closed while it reads.
    """

    def __init__(self, call: AsyncIterable[Any]) -> None:
        self._messages = cast("AsyncGenerator[Any, None]", aiter(call))
        self._reading = False
        self._closed = False

    async def read(self) -> Any:
        """Return the next message, or None at the end of the stream."""
        self._reading = True
        try:
            return await anext(self._messages, None)
        finally:
            self._reading = False
            if self._closed:
                await self._messages.aclose()

    async def close(self) -> None:
        """Close the iterator, now or when the current read is done."""
        self._closed = True
        if not self._reading:
            await self._messages.aclose()


async def _detached(operation: Coroutine[Any, Any, Any]) -> Any:
    """Await an operation in a task of its own, which continues if the current task is cancelled."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(operation)
    # From Python 3.14 on, asyncio.shield logs the failure of an operation that is no longer awaited.
    ended = loop.create_future()
    task.add_done_callback(lambda _: _wake(ended))
    try:
        await ended
        return task.result()
    except asyncio.CancelledError:
        _unawaited.add(task)
        task.add_done_callback(_discard)
        raise
    finally:
        # The exception's traceback references this frame. Without this, a cycle would keep a piece of 1 MiB in memory
        # until the next garbage collection.
        del task


def _wake(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


# asyncio itself references its tasks only weakly.
_unawaited: set[asyncio.Task[Any]] = set()


def unawaited_operations() -> int:
    """Return the number of running reads and writes whose callers were cancelled."""
    return len(_unawaited)


def _discard(task: asyncio.Task[Any]) -> None:
    """Ignore the result of an operation that is no longer awaited."""
    _unawaited.discard(task)
    if not task.cancelled():
        task.exception()
