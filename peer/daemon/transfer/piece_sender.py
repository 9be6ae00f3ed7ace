"""One asker served with pieces of one file: the holder's side of a download, and the caller's side of a push.

Reads a block ahead while the one before is sent, so that disk and network overlap, and never more: memory is two
blocks a stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import NamedTuple, Protocol

from daemon.errors import BadUsage, Interrupted, PeerError
from daemon.peers.limits import SEND_TIMEOUT, RateLimiter
from daemon.protocol.frames import Block
from daemon.protocol.piece_streams import Have, HolderStream, PieceRequest, PieceResponse
from daemon.storage.manifest import Manifest

FIRST_BLOCK = 64 << 10
MOST_BLOCK = 1 << 20
# An asker may be silent this long with nothing on its way.
IDLE = 120.0
# Pieces that an asker may have asked for and not got yet.
_QUEUE = 1024
# An asker whose wishes are all on their way to others waits this long for one of them, and is looked after this often.
_PASSED_OVER = 1.0
_LOOK = 0.02


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

    def given(self, piece: int, listener: Callable[[Have], None]) -> None:
        """It is no longer: it was sent, or will not be."""

    def on_its_way(self, piece: int, listener: Callable[[Have], None]) -> bool:
        """Tell whether this piece is being sent to an asker other than the one behind `listener`."""


async def serve(
    source: Source,
    end: HolderStream,
    *,
    asker: str,
    disk: Executor,
    bandwidth: RateLimiter,
    on_sent: Callable[[int], None] = lambda size: None,
) -> None:
    """Serve until the asker ends the stream.

    Raises:
        Interrupted: if the asker is idle, or does not take what it asked for.
        PeerError: if the file cannot be read any more, or the asker asks nonsense.
    """
    await _Service(source, end, asker, disk, bandwidth, on_sent).run()


class _Read(NamedTuple):
    """A block that is being read."""

    piece: int
    offset: int
    data: asyncio.Future[bytes]


class _Service:
    def __init__(
        self,
        source: Source,
        end: HolderStream,
        asker: str,
        disk: Executor,
        bandwidth: RateLimiter,
        on_sent: Callable[[int], None],
    ) -> None:
        self._source = source
        self._end = end
        self._asker = asker
        self._disk = disk
        self._bandwidth = bandwidth
        self._on_sent = on_sent
        # Pieces asked for, in order.
        self._queue: dict[int, None] = {}
        self._block_length = FIRST_BLOCK
        # Pieces gained, and given to others, since the asker was told: each once, or one asker who asks for the same
        # piece again and again could make this more than another believes.
        self._gained: dict[int, None] = {}
        self._given: dict[int, None] = {}
        self._wake = asyncio.Event()
        self._over = False
        # The piece that is being read, and where its next block begins; 0: at the next piece.
        self._piece = 0
        self._at = 0
        # Pieces that are being read or sent.
        self._giving: set[int] = set()
        # Since when there is nothing in the queue but what is on its way to others; 0: there is.
        self._waiting = 0.0

    async def run(self) -> None:
        unsubscribe = self._source.subscribe(self._hear)
        hearing = asyncio.create_task(self._listen())
        ahead: _Read | None = None
        try:
            await self._send(PieceResponse(have=self._source.have()))
            while True:
                if self._gained or self._given:
                    await self._send(PieceResponse(have=self._merge_news()))
                ahead = ahead or self._read_next()
                if ahead is not None:
                    block = Block(ahead.piece, ahead.offset, await ahead.data)
                    ahead = self._read_next()
                    await self._send_block(block)
                elif self._over and not self._queue:
                    break
                else:
                    await self._rest()
            # What ended the wishes: nothing, or an error worth telling.
            await hearing
        finally:
            unsubscribe()
            for piece in self._giving:
                self._source.given(piece, self._hear)
            if ahead is not None and not ahead.data.cancel() and not ahead.data.cancelled():
                # Read, and nobody wants it any more: a failure of it is no news.
                ahead.data.exception()
            hearing.cancel()
            with suppress(asyncio.CancelledError, PeerError):
                await hearing

    async def _rest(self) -> None:
        self._wake.clear()
        if self._queue:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK)
            return
        try:
            async with asyncio.timeout(IDLE):
                await self._wake.wait()
        except TimeoutError:
            raise Interrupted(f"nothing was asked for {IDLE:.0f} s: open a new stream when you need more") from None

    async def _listen(self) -> None:
        try:
            async for wish in self._end.requests():
                self._note(wish)
                self._wake.set()
        finally:
            self._over = True
            self._wake.set()

    def _note(self, wish: PieceRequest) -> None:
        if wish.block_length:
            self._block_length = max(4096, min(wish.block_length, MOST_BLOCK))
        if len(wish.pieces) > _QUEUE or len(wish.cancel) > _QUEUE:
            raise BadUsage(f"more than {_QUEUE} pieces were asked for or cancelled at once")
        for piece in wish.cancel:
            self._queue.pop(piece, None)
        for piece in wish.pieces:
            if piece >= self._source.manifest.pieces:
                raise BadUsage(f"the file has no piece {piece}")
            if len(self._queue) >= _QUEUE:
                raise BadUsage(f"more than {_QUEUE} pieces were asked for and not taken")
            self._queue[piece] = None

    def _hear(self, have: Have) -> None:
        self._gained.update(dict.fromkeys(have.gained))
        self._given.update(dict.fromkeys(have.in_flight))
        self._wake.set()

    def _merge_news(self) -> Have:
        have = Have(gained=tuple(self._gained), in_flight=tuple(self._given))
        self._gained.clear()
        self._given.clear()
        return have

    def _read_next(self) -> _Read | None:
        """Begin to read the next block; None if there is nothing to send just now."""
        if self._at == 0:
            piece = self._choose()
            if piece is None:
                return None
            self._piece = piece
            self._giving.add(piece)
            self._source.give(piece, self._hear)
        length = self._source.manifest.length(self._piece)
        offset = self._at
        size = min(length - offset, self._bandwidth.max_block(self._block_length))
        self._at = (offset + size) % length
        loop = asyncio.get_running_loop()
        return _Read(
            self._piece, offset, loop.run_in_executor(self._disk, self._source.read, self._piece, offset, size)
        )

    def _choose(self) -> int | None:
        """Take a piece from the queue: the first, but what is on its way to another asker is passed over for a while.

        It will be had from that one soon. This asker hears so, and takes its wish back: but news come late on a link
        that is full, and a crowd of eight would have a fifth of the file sent twice meanwhile.
        """
        now = asyncio.get_running_loop().time()
        piece = next((piece for piece in self._queue if not self._source.on_its_way(piece, self._hear)), None)
        if piece is None and self._queue:
            self._waiting = self._waiting or now
            if now < self._waiting + _PASSED_OVER:
                return None
            piece = next(iter(self._queue))
        self._waiting = 0.0
        if piece is not None:
            del self._queue[piece]
        return piece

    async def _send_block(self, block: Block) -> None:
        await self._bandwidth.acquire(len(block.data), self._asker)
        await self._send(PieceResponse(blocks=(block,)))
        if block.offset + len(block.data) == self._source.manifest.length(block.number):
            self._giving.discard(block.number)
            self._source.given(block.number, self._hear)
        self._on_sent(len(block.data))

    async def _send(self, news: PieceResponse) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._end.send(news)
        except TimeoutError:
            raise Interrupted(f"nothing was taken for {SEND_TIMEOUT:.0f} s: try again") from None
