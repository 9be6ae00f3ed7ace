"""A TCP proxy that injects faults: delay, rate, stall, reset, end, a flipped byte, a black hole.

It runs in its own thread. It does nothing at random; offsets come from the test, which prints its seed.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType

BLOCK = 1 << 16


@dataclass(frozen=True)
class Fault:
    """A fault in the direction from the target to the client.

    Offsets count bytes of that direction, over all connections, since the fault was set.
    """

    delay: float = 0.0
    """Delay of each block, in seconds."""
    rate: float = 0.0
    """Bytes per second of each connection; 0 for no limit."""
    stall_after: int | None = None
    """Offset after which no byte passes; connections stay open."""
    reset_after: int | None = None
    """Offset at which every connection is reset, also each new one."""
    end_after: int | None = None
    """Offset at which every connection is closed, also each new one."""
    flip_at: int | None = None
    """Offset of the byte whose lowest bit is flipped."""
    blackhole: bool = False
    """No byte passes in either direction."""


class _Ended(Exception):
    """The connection should be closed without a reset."""


class ChaosProxy:
    """Forwards connections from `listen` to `target` with a fault. A context manager.

    Attributes:
        address: the address that it listens on.
        passed: bytes forwarded from target to client.
        connections: number of accepted connections.
    """

    def __init__(
        self, target: tuple[str, int], listen: tuple[str, int] = ("127.0.0.2", 0), fault: Fault | None = None
    ) -> None:
        self.target = target
        self.address = listen
        self.passed = 0
        self.connections = 0
        self._fault = fault or Fault()
        self._since = 0
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaosproxy", daemon=True)

    def __enter__(self) -> "ChaosProxy":
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.address = server.sockets[0].getsockname()[:2]
        self._server = server
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def set(self, fault: Fault) -> None:
        """Set the fault; its offsets count from now. `Fault()` clears it."""
        asyncio.run_coroutine_threadsafe(self._set(fault), self._loop).result(10)

    def cut(self) -> None:
        """Reset all connections."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, *self.address, limit=BLOCK)

    async def _set(self, fault: Fault) -> None:
        self._fault = fault
        self._since = self.passed
        self._changed.set()
        self._changed = asyncio.Event()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target, limit=BLOCK)
        except OSError:
            _reset(writer)
            return
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._up(reader, far_writer), self._down(far_reader, writer))
        except _Ended:
            pass
        except OSError:
            _reset(writer)
            _reset(far_writer)
        finally:
            self._writers -= pair
            for each in pair:
                each.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(BLOCK):
            while self._fault.blackhole:
                await self._changed.wait()
            writer.write(block)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            rate = self._fault.rate
            block = await reader.read(max(1, min(BLOCK, int(rate / 20))) if rate else BLOCK)
            if not block:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            while block:
                block = await self._pass(block, writer)

    async def _pass(self, block: bytes, writer: asyncio.StreamWriter) -> bytes:
        """Forward as much of `block` as the fault allows now; return the rest."""
        fault = self._fault
        at = self.passed - self._since
        limits = [limit for limit in (fault.stall_after, fault.reset_after, fault.end_after) if limit is not None]
        room = min(limits) - at if limits else len(block)
        if fault.blackhole or room <= 0:
            if fault.reset_after is not None and at >= fault.reset_after:
                raise ConnectionResetError
            if fault.end_after is not None and at >= fault.end_after:
                raise _Ended
            await self._changed.wait()
            return block
        now, rest = block[:room], block[room:]
        if fault.flip_at is not None and at <= fault.flip_at < at + len(now):
            flipped = bytearray(now)
            flipped[fault.flip_at - at] ^= 1
            now = bytes(flipped)
        self.passed += len(now)
        await asyncio.sleep(fault.delay + (len(now) / fault.rate if fault.rate else 0.0))
        writer.write(now)
        await writer.drain()
        return rest


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with RST instead of FIN."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
