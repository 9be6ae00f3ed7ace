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

    whole: bool = False
    # All that it has, in its first news; None in later ones.
    pieces: int | None = None
    gained: Sequence[int] = ()
    # Being sent to somebody else.
    given: Sequence[int] = ()


class Wish(NamedTuple):
    """What an asker wants sent, and what no longer."""

    pieces: Sequence[int] = ()
    # Data in one block, at most; 0: as before.
    block_length: int = 0
    cancel: Sequence[int] = ()


class Unsent:
    """Wishes that wait to be sent, as one: each piece in it once, however often it was asked for and cancelled."""

    # Pieces in one message, at most: no holder bears with many more.
    MOST = 512

    def __init__(self) -> None:
        self._pieces: dict[int, None] = {}
        self._cancel: dict[int, None] = {}
        self._block_length = 0

    def __len__(self) -> int:
        return len(self._pieces) + len(self._cancel)

    def add(self, wish: Wish) -> None:
        """Put one more behind the others."""
        for piece in wish.cancel:
            self._pieces.pop(piece, None)
            self._cancel[piece] = None
        self._pieces.update(dict.fromkeys(wish.pieces))
        self._block_length = wish.block_length or self._block_length

    def take(self) -> Wish:
        """Return what to send next."""
        cancel = tuple(islice(self._cancel, self.MOST))
        # What was cancelled and asked for again is asked for after its cancellation.
        pieces = () if len(self._cancel) > self.MOST else tuple(islice(self._pieces, self.MOST))
        for waiting, taken in ((self._pieces, pieces), (self._cancel, cancel)):
            for piece in taken:
                del waiting[piece]
        return Wish(pieces, self._block_length, cancel)


class News(NamedTuple):
    """What a holder sends at once."""

    blocks: Sequence[Block] = ()
    have: Have | None = None


class AskerEnd(Protocol):
    """Where a swarm asks one holder."""

    def ask(self, wish: Wish) -> None:
        """Send a wish, without waiting."""

    def news(self) -> AsyncIterator[News]:
        """Yield what the holder sends, until it ends the stream. Raises PeerError if the stream breaks."""

    async def close(self) -> None:
        """End the stream."""


class HolderEnd(Protocol):
    """Where a piece server hears one asker."""

    def wishes(self) -> AsyncIterator[Wish]:
        """Yield what the asker wants, until it ends the stream."""

    async def send(self, news: News) -> None:
        """Send, waiting until the asker takes it."""
