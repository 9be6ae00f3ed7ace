"""A piece on its way: memory is reserved, its blocks are assembled, then it is verified and written.

A piece that does not verify is never written. The choice of pieces and sources is not made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Protocol

from blake3 import blake3

from daemon.errors import BadUsage
from daemon.peers.limits import MemoryBudget, RateLimiter
from daemon.protocol.frames import Block
from daemon.storage.manifest import Manifest

# The least average size of the blocks of a piece, in bytes. A smaller block costs as much memory as a large one.
_MIN_AVERAGE_BLOCK = 1024
# Pieces of one download that are verified at once. A third thread gains nothing on two cores, but overlaps with the
# other two when a write waits for the disk.
_MAX_CONCURRENT = 3

# The blocks of one piece, in order.
PieceData = list[bytes | memoryview]


class InFlightReservation:
    """The memory and bandwidth of one download, acquired before a piece is requested.

    Each piece in flight but the first uses `piece_length` bytes of the budget. The first uses none, so that no download
    starves.
    """

    def __init__(self, budget: MemoryBudget, limiter: RateLimiter, piece_length: int) -> None:
        """Create a reservation of 0 bytes.

        Args:
            budget: The memory that all downloads share.
            limiter: The download limit of this peer.
            piece_length: Bytes that one piece uses.
        """
        self._budget = budget
        self._limiter = limiter
        self._piece_length = piece_length
        self._reserved = 0
        # Whether `acquire` waits for the limits of this peer now.
        self.waiting = False

    async def acquire(self, in_flight: int) -> None:
        """Wait until one more piece may be requested while `in_flight` pieces are in flight."""
        self.waiting = True
        try:
            await self._limiter.wait()
            if in_flight > self._reserved // self._piece_length:
                await self._budget.acquire(self._piece_length)
                self._reserved += self._piece_length
        finally:
            self.waiting = False

    def charge(self) -> None:
        """Count a requested piece towards the download limit."""
        self._limiter.charge(self._piece_length)

    def release_excess(self, in_flight: int) -> None:
        """Release the memory that `in_flight` pieces do not need."""
        needed = max(0, in_flight - 1) * self._piece_length
        if self._reserved > needed:
            self._budget.release(self._reserved - needed)
            self._reserved = needed


@dataclass(slots=True)
class _ExpectedPiece:
    """A piece that the source may send."""

    # How often it may send it: more than once if it was requested again after a cancellation.
    times: int = 0
    blocks: list[Block] = field(default_factory=list)


class PieceAssembler:
    """Builds pieces from the blocks of one source: only requested pieces, in order, and not in tiny blocks."""

    def __init__(self, length: Callable[[int], int]) -> None:
        """Create an assembler that expects nothing. `length` returns the bytes of a piece."""
        self._length = length
        # Requested pieces that have not arrived, including cancelled ones.
        self._expected: dict[int, _ExpectedPiece] = {}
        # The piece that has started and is incomplete.
        self._started: int | None = None

    def expect(self, piece: int) -> None:
        """Record a request for a piece."""
        self._expected.setdefault(piece, _ExpectedPiece()).times += 1

    def add_block(self, block: Block) -> PieceData | None:
        """Add the next block of a piece.

        Returns:
            The data of the piece if this block completes it.

        Raises:
            BadUsage: if the piece was not requested, the block is not its next one, or another piece is incomplete.
        """
        expected = self._expected.get(block.number)
        if expected is None:
            raise BadUsage("sent a piece that was not requested")
        if self._started not in (None, block.number):
            # A hostile source could start every piece of the file. Cancelled pieces use memory that no budget counts.
            raise BadUsage("started a piece before the previous one was complete")
        blocks, length = expected.blocks, self._length(block.number)
        at = blocks[-1].offset + len(blocks[-1].data) if blocks else 0
        if block.offset == 0 and at and expected.times > 1:
            # Requested again after a cancellation: the source starts over.
            expected.times -= 1
            blocks.clear()
            at = 0
        if block.offset != at or not block.data or at + len(block.data) > length:
            raise BadUsage("sent a block that does not fit its piece")
        if len(blocks) > length // _MIN_AVERAGE_BLOCK + 16:
            raise BadUsage("sent too many small blocks")
        blocks.append(block)
        self._started = block.number
        if at + len(block.data) < length:
            return None
        self._started = None
        expected.times -= 1
        expected.blocks = []
        if not expected.times:
            del self._expected[block.number]
        return [each.data for each in blocks]


class PieceStore(Protocol):
    """The destination of verified pieces: a part file."""

    def store(self, piece: int, data: PieceData) -> None:
        """Write a verified piece and mark it as present. Called in a thread.

        Raises:
            DiskFull, StorageFault: if it cannot be written.
        """


class PieceVerifier:
    """Verifies and writes the pieces of one download in threads, a few at a time."""

    def __init__(self, manifest: Manifest, store: PieceStore, threads: Executor) -> None:
        self._manifest = manifest
        self._store = store
        self._threads = threads
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._writes: dict[int, Future[bool]] = {}
        # 1 for each written piece. The thread sets it before its future is done, so it is exact for a piece that has
        # no entry in `_writes`.
        self._written = bytearray(manifest.piece_count)
        self._pending = 0

    @property
    def busy(self) -> bool:
        """Whether there are pieces whose verification has not finished."""
        return self._pending > 0

    async def acquire(self) -> None:
        """Wait for a slot; `verify_and_write` releases it. While a stream waits here it receives nothing."""
        await self._slots.acquire()
        self._pending += 1

    async def verify_and_write(self, piece: int, data: PieceData) -> bool:
        """Verify a piece, write it, and release the slot. A piece that came from several sources is written once.

        Returns:
            False if the piece does not match its digest.

        Raises:
            DiskFull, StorageFault: if it cannot be written.
        """
        try:
            while (other := self._writes.get(piece)) is not None:
                await asyncio.wrap_future(other)
            if self._written[piece]:
                return True
            write = self._writes[piece] = self._threads.submit(self._verify_and_store, piece, data)
            # In a callback, not below: this task may be cancelled while the thread still writes.
            write.add_done_callback(lambda _: self._writes.pop(piece, None))
            return await asyncio.wrap_future(write)
        finally:
            self._slots.release()
            self._pending -= 1

    async def close(self) -> None:
        """Wait for the writes under way: no thread may write into a file that is published or closed."""
        writes = [asyncio.wrap_future(write) for write in list(self._writes.values()) if not write.cancel()]
        await asyncio.gather(*writes, return_exceptions=True)

    def _verify_and_store(self, piece: int, data: PieceData) -> bool:
        digest = blake3()
        for view in data:
            digest.update(view)
        if digest.digest() != self._manifest.digest(piece):
            return False
        self._store.store(piece, data)
        self._written[piece] = True
        return True
