"""Reads and writes of a gRPC stream, waited for so that nothing of them is left behind.

gRPC (grpcio 1.85, asyncio) frees what it keeps of an operation when whoever awaits it is woken. Were the awaiting
cancelled, some 100 bytes would stay for ever, and with them the message that arrives after all. Calls are cancelled
all day long: so each operation is a task of its own, which nobody cancels, and which ends with its call at the latest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine
from typing import Any, Protocol, cast

from daemon.protocol import transfer_messages


class Writable(Protocol):
    """A call, from either end."""

    def write(self, message: Any, /) -> Coroutine[Any, Any, None]:
        """Send a message, waiting until it is taken."""


async def write(call: Writable, message: Any) -> None:
    """Send a message, waiting until it is taken.

    Whoever is cancelled meanwhile writes nothing more to this call: the message may still be on its way.
    """
    await _detached(call.write(message))


async def messages(call: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Yield the messages of a call. Raises BadUsage for one that a reader could not read."""
    reader = _Reader(call)
    try:
        while (message := await _detached(reader.read())) is not None:
            yield transfer_messages.ensure_decoded(message)
    finally:
        await reader.close()


class _Reader:
    """gRPC's iterator over the messages of a call, closed at the end.

    The iterator knows the call, and the call its iterator: left open, both would stay, and the last message, until
    Python looks for cycles. It can not be closed while it reads.
    """

    def __init__(self, call: AsyncIterable[Any]) -> None:
        self._messages = cast("AsyncGenerator[Any, None]", aiter(call))
        self._reading = False
        self._left = False

    async def read(self) -> Any:
        """Return the next message, or None at the end."""
        self._reading = True
        try:
            return await anext(self._messages, None)
        finally:
            self._reading = False
            if self._left:
                await self._messages.aclose()

    async def close(self) -> None:
        """Read no more, once what is being read is here."""
        self._left = True
        if not self._reading:
            await self._messages.aclose()


async def _detached(operation: Coroutine[Any, Any, Any]) -> Any:
    """Return what an operation returns, and let it go on if this task is cancelled."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(operation)
    # Not asyncio.shield: from Python 3.14 on that logs what nobody waits for when it fails.
    ended = loop.create_future()
    task.add_done_callback(lambda _: _wake(ended))
    try:
        await ended
        return task.result()
    except asyncio.CancelledError:
        _abandoned.add(task)
        task.add_done_callback(_forget)
        raise
    finally:
        # Its fault knows this frame: a frame that knew the task would stay with both, and a piece, until Python looks
        # for cycles.
        del task


def _wake(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


# asyncio itself holds its tasks only weakly.
_abandoned: set[asyncio.Task[Any]] = set()


def _forget(task: asyncio.Task[Any]) -> None:
    """Drop what an operation came to that nobody waits for."""
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()
