"""Sends pieces of one file to one requester: the holder's side of a download, and the caller's side of a push.

The next block is read while the one before is sent, so that disk and network overlap. It never reads further ahead:
memory is two blocks for each stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import NamedTuple, Protocol

from common.control_messages import Hint
from daemon.errors import BadUsage, Interrupted, PeerError
from daemon.peers.limits import SEND_TIMEOUT, RateLimiter
from daemon.protocol.frames import Block
from daemon.protocol.stream_io import StreamEnded
from daemon.protocol.transfer_messages import Have, HolderStream, PieceRequest, PieceResponse
from daemon.storage.manifest import Manifest

# Bytes in one block, until the requester asks for another length; and at most.
DEFAULT_BLOCK_LENGTH = 64 << 10
MAX_BLOCK_LENGTH = 1 << 20
_MIN_BLOCK_LENGTH = 4096
# Seconds that a requester with an empty queue may be silent.
IDLE_TIMEOUT = 120.0
# Pieces that a requester may have requested and not received.
_MAX_QUEUE = 1024
# A request for pieces that are all in flight to other requesters is deferred for this many seconds, and checked again
# every _DEFER_POLL seconds.
_DEFER_SECONDS = 1.0
_DEFER_POLL = 0.02


class ServedFile(Protocol):
    """A file to serve, complete or partial."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the file."""

    def have(self) -> Have:
        """Return which pieces are present now."""

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """Return `length` bytes of a piece, from `offset` bytes after its start. Called in a thread.

        Raises:
            PeerError: if the piece is missing, or the file changed.
        """

    def subscribe(self, listener: Callable[[Have], None]) -> Callable[[], None]:
        """Call `listener` with pieces gained or in flight to other requesters; return the function that ends this."""

    def begin_send(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Report to all other listeners that a piece is in flight to the requester of `listener`."""

    def end_send(self, piece: int, listener: Callable[[Have], None]) -> None:
        """Record that a piece was sent, or will not be."""

    def is_being_sent(self, piece: int, listener: Callable[[Have], None]) -> bool:
        """Return whether a piece is being sent to a requester other than the one of `listener`."""


class _PendingRead(NamedTuple):
    """A block that a thread is reading."""

    piece: int
    offset: int
    data: asyncio.Future[bytes]


class PieceSender:
    """Serves one stream. Create it, then `run` it once."""

    def __init__(
        self,
        file: ServedFile,
        stream: HolderStream,
        *,
        requester: str,
        disk: Executor,
        limiter: RateLimiter,
        on_sent: Sequence[Callable[[int], None]] = (),
    ) -> None:
        """Prepare to serve a stream.

        Args:
            file: The file to serve; the caller closes it.
            stream: The stream to the requester.
            requester: Identifies the requester in the upload limit.
            disk: The threads that read.
            limiter: The upload limit of this peer.
            on_sent: Each is called with the bytes of a block that was sent.
        """
        self._file = file
        self._stream = stream
        self._requester = requester
        self._disk = disk
        self._limiter = limiter
        self._on_sent = on_sent
        # Requested pieces, in order.
        self._queue: dict[int, None] = {}
        self._block_length = DEFAULT_BLOCK_LENGTH
        # Pieces gained, and in flight to other requesters, since the last message. Each is in it once, so that another
        # requester that requests the same piece again and again cannot make it grow.
        self._gained: dict[int, None] = {}
        self._in_flight: dict[int, None] = {}
        self._wake = asyncio.Event()
        self._requests_ended = False
        # The piece that is being read, and the offset of its next block. At offset 0 no piece is started: the next one
        # of the queue is.
        self._piece = 0
        self._offset = 0
        # The block that is read while the one before is sent.
        self._ahead: _PendingRead | None = None
        # Pieces that are being read or sent.
        self._sending: set[int] = set()
        # Since when all queued pieces are in flight to other requesters; 0 if they are not.
        self._deferred_since = 0.0

    async def run(self) -> None:
        """Serve until the requester ends the stream.

        Raises:
            Interrupted: if the requester is idle, or does not receive what it requested.
            PeerError: if the file cannot be read, or a request is invalid.
        """
        unsubscribe = self._file.subscribe(self._on_have)
        requests = asyncio.create_task(self._read_requests())
        try:
            with suppress(StreamEnded):
                await self._send_requested()
            # Raises the error that ended the requests, if one did.
            await requests
        finally:
            unsubscribe()
            for piece in self._sending:
                self._file.end_send(piece, self._on_have)
            ahead = self._ahead
            if ahead is not None and not ahead.data.cancel() and not ahead.data.cancelled():
                # The block is not needed any longer: mark its error, if any, as handled.
                ahead.data.exception()
            requests.cancel()
            with suppress(asyncio.CancelledError, PeerError):
                await requests

    async def _send_requested(self) -> None:
        """Send what is requested until the requests end."""
        await self._send(PieceResponse(have=self._file.have()))
        while True:
            if self._gained or self._in_flight:
                await self._send(PieceResponse(have=self._pop_have()))
            ahead = self._ahead = self._ahead or self._read_next()
            if ahead is not None:
                block = Block(ahead.piece, ahead.offset, await ahead.data)
                self._ahead = self._read_next()
                await self._send_block(block)
            elif self._requests_ended and not self._queue:
                return
            else:
                await self._wait()

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
            raise Interrupted(f"no request for {IDLE_TIMEOUT:.0f} s: open a new stream to request more") from None

    async def _read_requests(self) -> None:
        try:
            async for request in self._stream.requests():
                self._on_request(request)
                self._wake.set()
        finally:
            self._requests_ended = True
            self._wake.set()

    def _on_request(self, request: PieceRequest) -> None:
        if request.block_length:
            self._block_length = max(_MIN_BLOCK_LENGTH, min(request.block_length, MAX_BLOCK_LENGTH))
        if len(request.pieces) > _MAX_QUEUE or len(request.cancel) > _MAX_QUEUE:
            raise BadUsage(f"more than {_MAX_QUEUE} pieces were requested or cancelled at once")
        for piece in request.cancel:
            self._queue.pop(piece, None)
        for piece in request.pieces:
            if piece >= self._file.manifest.piece_count:
                raise BadUsage(f"the file has no piece {piece}")
            if len(self._queue) >= _MAX_QUEUE:
                raise BadUsage(f"more than {_MAX_QUEUE} pieces were requested and not received")
            self._queue[piece] = None

    def _on_have(self, have: Have) -> None:
        self._gained.update(dict.fromkeys(have.gained))
        self._in_flight.update(dict.fromkeys(have.in_flight))
        self._wake.set()

    def _pop_have(self) -> Have:
        have = Have(gained=tuple(self._gained), in_flight=tuple(self._in_flight))
        self._gained.clear()
        self._in_flight.clear()
        return have

    def _read_next(self) -> _PendingRead | None:
        """Start to read the next block; return None if there is nothing to send now."""
        if self._offset == 0:
            piece = self._next_piece()
            if piece is None:
                return None
            self._piece = piece
            self._sending.add(piece)
            self._file.begin_send(piece, self._on_have)
        length = self._file.manifest.length(self._piece)
        offset = self._offset
        size = min(length - offset, self._limiter.max_block(self._block_length))
        self._offset = (offset + size) % length
        loop = asyncio.get_running_loop()
        return _PendingRead(
            self._piece, offset, loop.run_in_executor(self._disk, self._file.read, self._piece, offset, size)
        )

    def _next_piece(self) -> int | None:
        """Remove a piece from the queue: the first one that is not in flight to another requester, if there is one.

        Another requester receives a piece in flight, and will serve it soon. Ours cancels its request when it gets our
        `Have`, but on a busy link that is late. Without deferring, a swarm of eight received a fifth of the file twice.
        """
        now = asyncio.get_running_loop().time()
        piece = next((piece for piece in self._queue if not self._file.is_being_sent(piece, self._on_have)), None)
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
        size = len(block.data)
        await self._limiter.acquire(size, self._requester)
        await self._send(PieceResponse(blocks=(block,)))
        if block.offset + size == self._file.manifest.length(block.number):
            self._sending.discard(block.number)
            self._file.end_send(block.number, self._on_have)
        for count in self._on_sent:
            count(size)

    async def _send(self, response: PieceResponse) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._stream.send(response)
        except TimeoutError:
            raise Interrupted(f"the requester did not read for {SEND_TIMEOUT:.0f} s", hint=Hint.RESUME) from None
