"""The two ends of a stream of pieces, as the swarm and the piece server see them: who asks, and who has.

A download's asker is the caller; a push's asker is the called. Both pairs of ends look alike from here on, so one
swarm and one piece server do for both. Never knows gRPC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from daemon.protocol.frames import Block


class Have(NamedTuple):
    """News of what a holder has. Sets of pieces are integers, bit i for piece i."""

    complete: bool = False
    # All that it has, in its first news; None in later ones.
    pieces: int | None = None
    gained: Sequence[int] = ()
    # Being sent to somebody else.
    in_flight: Sequence[int] = ()


class PieceRequest(NamedTuple):
    """What an asker wants sent, and what no longer."""

    pieces: Sequence[int] = ()
    # Data in one block, at most; 0: as before.
    block_length: int = 0
    cancel: Sequence[int] = ()


class PendingRequests:
    """Wishes that wait to be sent, as one: each piece in it once, however often it was asked for and cancelled."""

    # Pieces in one message, at most: no holder bears with many more.
    MAX_PIECES = 512

    def __init__(self) -> None:
        self._pieces: dict[int, None] = {}
        self._cancel: dict[int, None] = {}
        self._block_length = 0

    def __len__(self) -> int:
        return len(self._pieces) + len(self._cancel)

    def add(self, wish: PieceRequest) -> None:
        """Put one more behind the others."""
        for piece in wish.cancel:
            self._pieces.pop(piece, None)
            self._cancel[piece] = None
        self._pieces.update(dict.fromkeys(wish.pieces))
        self._block_length = wish.block_length or self._block_length

    def pop(self) -> PieceRequest:
        """Return what to send next."""
        cancel = tuple(islice(self._cancel, self.MAX_PIECES))
        # What was cancelled and asked for again is asked for after its cancellation.
        pieces = () if len(self._cancel) > self.MAX_PIECES else tuple(islice(self._pieces, self.MAX_PIECES))
        for waiting, taken in ((self._pieces, pieces), (self._cancel, cancel)):
            for piece in taken:
                del waiting[piece]
        return PieceRequest(pieces, self._block_length, cancel)


class PieceResponse(NamedTuple):
    """What a holder sends at once."""

    blocks: Sequence[Block] = ()
    have: Have | None = None


class RequesterStream(Protocol):
    """Where a swarm asks one holder."""

    def request(self, wish: PieceRequest) -> None:
        """Send a wish, without waiting."""

    def responses(self) -> AsyncIterator[PieceResponse]:
        """Yield what the holder sends, until it ends the stream. Raises PeerError if the stream breaks."""

    async def close(self) -> None:
        """End the stream."""


class HolderStream(Protocol):
    """Where a piece server hears one asker."""

    def requests(self) -> AsyncIterator[PieceRequest]:
        """Yield what the asker wants, until it ends the stream."""

    async def send(self, news: PieceResponse) -> None:
        """Send, waiting until the asker takes it."""
