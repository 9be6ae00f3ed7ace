"""The two ends of a stream of pieces, as the swarm and the piece server see them: who asks, and who has.

A download's asker is the caller; a push's asker is the called. Both pairs of ends look alike from here on, so one
swarm and one piece server do for both. Never knows gRPC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from node.language.frames import Block


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

    def then(self, later: Wish) -> Wish:
        """Return one wish for this and a later one."""
        kept = [piece for piece in self.pieces if piece not in later.cancel]
        return Wish((*kept, *later.pieces), later.block_length or self.block_length, (*self.cancel, *later.cancel))


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
