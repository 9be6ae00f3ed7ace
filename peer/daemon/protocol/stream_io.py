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


class StreamEnded(Exception):
    """A write failed because the other side has ended the stream. Reading the stream to its end gives the reason."""


class Writable(Protocol):
    """The writing half of a gRPC call, at either end."""

    def write(self, message: Any, /) -> Coroutine[Any, Any, None]:
        """Send a message; returns when gRPC accepts the next one."""


async def write(call: Writable, message: Any) -> None:
    """Send a message; returns when gRPC accepts the next one.

    After a cancellation the message may still be under way, so the caller must not write to this call again.
    """
    await _unless_cancelled(asyncio.get_running_loop().create_task(call.write(message)))


class MessageReader:
    """Reads the messages of a call, one after the other. Close it after use.

    gRPC's iterator over the messages and the call reference each other. Left open, both and the last message would stay
    in memory until the next garbage collection. The iterator cannot be closed while it reads.
    """

    def __init__(self, call: AsyncIterable[Any]) -> None:
        self._messages = cast("AsyncGenerator[Any, None]", aiter(call))
        # The read under way. Its caller may have been cancelled: then the next one awaits it.
        self._reading: asyncio.Task[Any] | None = None
        self._closed = False

    async def messages(self) -> AsyncIterator[Any]:
        """Yield the messages until the other side ends the stream. Raises BadUsage for one that is malformed."""
        while (message := await _unless_cancelled(self._start_read())) is not None:
            yield transfer_messages.ensure_decoded(message)

    async def drain(self, *, seconds: float, quiet: float, max_bytes: int) -> None:
        """Read and discard messages until the other side ends the stream or is silent, or a limit is reached.

        Args:
            seconds: the most time.
            quiet: the other side is silent after this many seconds without a message.
            max_bytes: the most bytes of messages.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while max_bytes > 0 and clock() < end:
            task = self._start_read()
            try:
                await asyncio.wait([task], timeout=min(quiet, end - clock()))
            finally:
                if not task.done():
                    _leave(task)
            if not task.done():
                return
            if task.cancelled() or task.exception() is not None or task.result() is None:
                return
            max_bytes -= transfer_messages.size_of(task.result())

    async def close(self) -> None:
        """Close gRPC's iterator, now or when the current read is done."""
        self._closed = True
        if self._reading is None:
            await self._messages.aclose()

    def _start_read(self) -> asyncio.Task[Any]:
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return self._reading

    async def _read(self) -> Any:
        """Return the next message, or None at the end of the stream."""
        try:
            return await anext(self._messages, None)
        finally:
            self._reading = None
            if self._closed:
                await self._messages.aclose()


async def _unless_cancelled(task: asyncio.Task[Any]) -> Any:
    """Await a read or a write, which continues if the current task is cancelled."""
    # From Python 3.14 on, asyncio.shield logs the failure of an operation that is no longer awaited.
    ended = asyncio.get_running_loop().create_future()
    task.add_done_callback(lambda _: _wake(ended))
    try:
        await ended
        return task.result()
    except asyncio.CancelledError:
        _leave(task)
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


def _leave(task: asyncio.Task[Any]) -> None:
    """Await a read or a write no longer."""
    _unawaited.add(task)
    task.add_done_callback(_discard)


def _discard(task: asyncio.Task[Any]) -> None:
    """Ignore the result of an operation that is no longer awaited."""
    _unawaited.discard(task)
    if not task.cancelled():
        task.exception()
