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

DEFAULT_BLOCK_LENGTH = 64 << 10
MAX_BLOCK_LENGTH = 1 << 20
# An asker may be silent this long with nothing on its way.
IDLE_TIMEOUT = 120.0
# Pieces that an asker may have asked for and not got yet.
_MAX_QUEUE = 1024
# An asker whose wishes are all on their way to others waits this long for one of them, and is looked after this often.
_DEFER_SECONDS = 1.0
_DEFER_POLL = 0.02


class ServedFile(Protocol):
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

    def begin_send(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Tell the other listeners that this piece is on its way to the asker behind `listener`."""

    def end_send(self, piece: int, listener: Callable[[Have], None]) -> None:
        """It is no longer: it was sent, or will not be."""

    def is_being_sent(self, piece: int, listener: Callable[[Have], None]) -> bool:
        """Tell whether this piece is being sent to an asker other than the one behind `listener`."""


async def send_pieces(
    source: ServedFile,
    stream: HolderStream,
    *,
    requester: str,
    disk: Executor,
    bandwidth: RateLimiter,
    on_sent: Callable[[int], None] = lambda size: None,
) -> None:
    """Serve until the asker ends the stream.

    Raises:
        Interrupted: if the asker is idle, or does not take what it asked for.
        PeerError: if the file cannot be read any more, or the asker asks nonsense.
    """
    await PieceSender(source, stream, requester, disk, bandwidth, on_sent).run()


class _PendingRead(NamedTuple):
    """A block that is being read."""

    piece: int
    offset: int
    data: asyncio.Future[bytes]


class PieceSender:
    def __init__(
        self,
        source: ServedFile,
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
        self._block_length = DEFAULT_BLOCK_LENGTH
        # Pieces gained, and given to others, since the asker was told: each once, or one asker who asks for the same
        # piece again and again could make this more than another believes.
        self._gained: dict[int, None] = {}
        self._in_flight: dict[int, None] = {}
        self._wake = asyncio.Event()
        self._requests_ended = False
        # The piece that is being read, and where its next block begins; 0: at the next piece.
        self._piece = 0
        self._offset = 0
        # Pieces that are being read or sent.
        self._sending: set[int] = set()
        # Since when there is nothing in the queue but what is on its way to others; 0: there is.
        self._deferred_since = 0.0

    async def run(self) -> None:
        unsubscribe = self._source.subscribe(self._on_have)
        hearing = asyncio.create_task(self._read_requests())
        ahead: _PendingRead | None = None
        try:
            await self._send(PieceResponse(have=self._source.have()))
            while True:
                if self._gained or self._in_flight:
                    await self._send(PieceResponse(have=self._merge_news()))
                ahead = ahead or self._read_next()
                if ahead is not None:
                    block = Block(ahead.piece, ahead.offset, await ahead.data)
                    ahead = self._read_next()
                    await self._send_block(block)
                elif self._requests_ended and not self._queue:
                    break
                else:
                    await self._wait()
            # What ended the wishes: nothing, or an error worth telling.
            await hearing
        finally:
            unsubscribe()
            for piece in self._sending:
                self._source.end_send(piece, self._on_have)
            if ahead is not None and not ahead.data.cancel() and not ahead.data.cancelled():
                # Read, and nobody wants it any more: a failure of it is no news.
                ahead.data.exception()
            hearing.cancel()
            with suppress(asyncio.CancelledError, PeerError):
                await hearing

    async def _wait(self) -> None:
        self._wake.clear()
        if self._queue:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _DEFER_POLL)
            return
        try:
            async with asyncio.timeout(IDLE_TIMEOUT):
                await self._wake.wait()
        except TimeoutError:
            raise Interrupted(
                f"nothing was asked for {IDLE_TIMEOUT:.0f} s: open a new stream when you need more"
            ) from None

    async def _read_requests(self) -> None:
        try:
            async for wish in self._end.requests():
                self._on_request(wish)
                self._wake.set()
        finally:
            self._requests_ended = True
            self._wake.set()

    def _on_request(self, wish: PieceRequest) -> None:
        if wish.block_length:
            self._block_length = max(4096, min(wish.block_length, MAX_BLOCK_LENGTH))
        if len(wish.pieces) > _MAX_QUEUE or len(wish.cancel) > _MAX_QUEUE:
            raise BadUsage(f"more than {_MAX_QUEUE} pieces were asked for or cancelled at once")
        for piece in wish.cancel:
            self._queue.pop(piece, None)
        for piece in wish.pieces:
            if piece >= self._source.manifest.piece_count:
                raise BadUsage(f"the file has no piece {piece}")
            if len(self._queue) >= _MAX_QUEUE:
                raise BadUsage(f"more than {_MAX_QUEUE} pieces were asked for and not taken")
            self._queue[piece] = None

    def _on_have(self, have: Have) -> None:
        self._gained.update(dict.fromkeys(have.gained))
        self._in_flight.update(dict.fromkeys(have.in_flight))
        self._wake.set()

    def _merge_news(self) -> Have:
        have = Have(gained=tuple(self._gained), in_flight=tuple(self._in_flight))
        self._gained.clear()
        self._in_flight.clear()
        return have

    def _read_next(self) -> _PendingRead | None:
        """Begin to read the next block; None if there is nothing to send just now."""
        if self._offset == 0:
            piece = self._choose()
            if piece is None:
                return None
            self._piece = piece
            self._sending.add(piece)
            self._source.begin_send(piece, self._on_have)
        length = self._source.manifest.length(self._piece)
        offset = self._offset
        size = min(length - offset, self._bandwidth.max_block(self._block_length))
        self._offset = (offset + size) % length
        loop = asyncio.get_running_loop()
        return _PendingRead(
            self._piece, offset, loop.run_in_executor(self._disk, self._source.read, self._piece, offset, size)
        )

    def _choose(self) -> int | None:
        """Take a piece from the queue: the first, but what is on its way to another asker is passed over for a while.

        It will be had from that one soon. This asker hears so, and takes its wish back: but news come late on a link
        that is full, and a crowd of eight would have a fifth of the file sent twice meanwhile.
        """
        now = asyncio.get_running_loop().time()
        piece = next((piece for piece in self._queue if not self._source.is_being_sent(piece, self._on_have)), None)
        if piece is None and self._queue:
            self._deferred_since = self._deferred_since or now
            if now < self._deferred_since + _DEFER_SECONDS:
                return None
            piece = next(iter(self._queue))
        self._deferred_since = 0.0
        if piece is not None:
            del self._queue[piece]
        return piece

    async def _send_block(self, block: Block) -> None:
        await self._bandwidth.acquire(len(block.data), self._asker)
        await self._send(PieceResponse(blocks=(block,)))
        if block.offset + len(block.data) == self._source.manifest.length(block.number):
            self._sending.discard(block.number)
            self._source.end_send(block.number, self._on_have)
        self._on_sent(len(block.data))

    async def _send(self, news: PieceResponse) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._end.send(news)
        except TimeoutError:
            raise Interrupted(f"nothing was taken for {SEND_TIMEOUT:.0f} s: try again") from None
