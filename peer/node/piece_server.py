"""One asker served with pieces of one file: the holder's side of a download, and the caller's side of a push.

Reads a block ahead while the one before is sent, so that disk and network overlap, and never more: memory is two
blocks a stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Protocol

from node.errors import Interrupted, PeerError
from node.frames import Block
from node.limits import Bandwidth
from node.pieces import Manifest
from node.streams import Have, HolderEnd, News, Wish

FIRST_BLOCK = 64 << 10
MOST_BLOCK = 1 << 20
# An asker may be silent this long with nothing on its way, and leave a block untaken this long.
IDLE = 120.0
UNTAKEN = 20.0
# Pieces that an asker may have asked for and not got yet.
_QUEUE = 1024


class Source(Protocol):
    """A file to serve, whole or growing."""

    @property
    def manifest(self) -> Manifest:
        """Its pieces."""

    def have(self) -> Have:
        """What is here now. Whole, or the pieces as a set."""

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """Return bytes of a piece that is here. Called in a thread. Raises PeerError if it is not, or changed."""

    def subscribe(self, listener: Callable[[Have], None]) -> Callable[[], None]:
        """Have `listener` called with news of what is gained, or given to others; return what ends that."""

    def give(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Tell the other listeners that this piece is on its way to the asker behind `listener`."""


async def serve(
    source: Source,
    end: HolderEnd,
    *,
    asker: str,
    disk: Executor,
    bandwidth: Bandwidth,
    on_sent: Callable[[int], None] = lambda size: None,
) -> None:
    """Serve until the asker ends the stream.

    Raises:
        Interrupted: if the asker is idle, or does not take what it asked for.
        PeerError: if the file cannot be read any more, or the asker asks nonsense.
    """
    await _Service(source, end, asker, disk, bandwidth, on_sent).run()


class _Service:
    def __init__(
        self,
        source: Source,
        end: HolderEnd,
        asker: str,
        disk: Executor,
        bandwidth: Bandwidth,
        on_sent: Callable[[int], None],
    ) -> None:
        self._source = source
        self._end = end
        self._asker = asker
        self._disk = disk
        self._bandwidth = bandwidth
        self._on_sent = on_sent
        self._queue: deque[int] = deque()
        self._block_length = FIRST_BLOCK
        self._news: deque[Have] = deque()
        self._wake = asyncio.Event()
        self._over = False

    async def run(self) -> None:
        unsubscribe = self._source.subscribe(self._hear)
        hearing = asyncio.create_task(self._listen())
        try:
            await self._send(News(have=self._source.have()))
            while not (self._over and not self._queue):
                if self._news:
                    await self._send(News(have=self._merge_news()))
                elif self._queue:
                    await self._send_piece(self._queue.popleft())
                else:
                    await self._rest()
            # What ended the wishes: nothing, or an error worth telling.
            await hearing
        finally:
            unsubscribe()
            hearing.cancel()
            with suppress(asyncio.CancelledError, PeerError):
                await hearing

    async def _rest(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(IDLE):
                await self._wake.wait()
        except TimeoutError:
            raise Interrupted(f"nothing was asked for {IDLE:.0f} s: open a new stream when you need more") from None

    async def _listen(self) -> None:
        try:
            async for wish in self._end.wishes():
                self._note(wish)
                self._wake.set()
        finally:
            self._over = True
            self._wake.set()

    def _note(self, wish: Wish) -> None:
        if wish.block_length:
            self._block_length = max(4096, min(wish.block_length, MOST_BLOCK))
        for piece in wish.cancel:
            with suppress(ValueError):
                self._queue.remove(piece)
        for piece in wish.pieces:
            if piece >= self._source.manifest.pieces:
                raise PeerError(f"the file has no piece {piece}")
            if len(self._queue) >= _QUEUE:
                raise PeerError(f"more than {_QUEUE} pieces were asked for at once")
            self._queue.append(piece)

    def _hear(self, have: Have) -> None:
        self._news.append(have)
        self._wake.set()

    def _merge_news(self) -> Have:
        gained = [piece for have in self._news for piece in have.gained]
        given = [piece for have in self._news for piece in have.given]
        whole = any(have.whole for have in self._news)
        self._news.clear()
        return Have(whole=whole, gained=gained, given=given)

    async def _send_piece(self, piece: int) -> None:
        self._source.give(piece, self._hear)
        length = self._source.manifest.length(piece)
        loop = asyncio.get_running_loop()
        at = 0
        size = self._next_size(length)
        ahead = loop.run_in_executor(self._disk, self._source.read, piece, 0, size)
        try:
            while at < length:
                data = await ahead
                begins, at = at, at + len(data)
                if at < length:
                    size = self._next_size(length - at)
                    ahead = loop.run_in_executor(self._disk, self._source.read, piece, at, size)
                await self._bandwidth.take(len(data), self._asker)
                await self._send(News(blocks=(Block(piece, begins, data),)))
                self._on_sent(len(data))
        finally:
            ahead.cancel()

    def _next_size(self, rest: int) -> int:
        return min(rest, self._bandwidth.share(self._block_length))

    async def _send(self, news: News) -> None:
        try:
            async with asyncio.timeout(UNTAKEN):
                await self._end.send(news)
        except TimeoutError:
            raise Interrupted(f"nothing was taken for {UNTAKEN:.0f} s") from None
