"""Pieces put together from the blocks that one holder sends: only what it was asked for, in order, and not in crumbs.

Pure: whoever asks and hears is the swarm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.errors import BadUsage
from daemon.protocol.frames import Block

# A piece may come in blocks of this many bytes on average, not smaller: each costs as much to keep as a large one.
_MIN_AVERAGE_BLOCK = 1024

PieceData = list[bytes | memoryview]


@dataclass(slots=True)
class _ExpectedPiece:
    """A piece that the holder may send, so many times (it was asked again after a cancellation), and what has come."""

    times: int = 0
    blocks: list[Block] = field(default_factory=list)


class PieceAssembler:
    """What one holder owes. `length` gives a piece's bytes."""

    def __init__(self, length: Callable[[int], int]) -> None:
        self._length = length
        # Pieces asked for and not yet sent, cancelled ones included.
        self._expected: dict[int, _ExpectedPiece] = {}
        # The piece that has begun and is not whole.
        self._started: int | None = None

    def expect(self, piece: int) -> None:
        """The holder was asked for a piece."""
        self._expected.setdefault(piece, _ExpectedPiece()).times += 1

    def add_block(self, block: Block) -> PieceData | None:
        """Take a block; return its piece, as the data of its blocks, when that is whole.

        Raises:
            BadUsage: if it is no part of a piece that is owed, or not the next, or another piece has begun and is not
                whole.
        """
        owed = self._expected.get(block.number)
        if owed is None:
            raise BadUsage("it sent a piece that nobody asked for")
        if self._started not in (None, block.number):
            # Or it could leave every piece of the file begun, and in memory: what is cancelled counts in no budget.
            raise BadUsage("it began a piece before another was whole")
        blocks, length = owed.blocks, self._length(block.number)
        at = blocks[-1].offset + len(blocks[-1].data) if blocks else 0
        if block.offset == 0 and at and owed.times > 1:
            # Asked again after a cancellation: the holder starts over.
            owed.times -= 1
            blocks.clear()
            at = 0
        if block.offset != at or not block.data or at + len(block.data) > length:
            raise BadUsage("it sent a block that does not fit its piece")
        if len(blocks) > length // _MIN_AVERAGE_BLOCK + 16:
            raise BadUsage("it sends its pieces in crumbs")
        blocks.append(block)
        self._started = block.number
        if at + len(block.data) < length:
            return None
        self._started = None
        owed.times -= 1
        owed.blocks = []
        if not owed.times:
            del self._expected[block.number]
        return [each.data for each in blocks]
