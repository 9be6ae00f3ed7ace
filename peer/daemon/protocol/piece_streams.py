"""The two ends of a stream of pieces: the requester's and the holder's. Independent of gRPC.

In a download the requester calls the holder; in a push the holder calls the requester. Both use these protocols, so one
downloader and one piece sender serve both directions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from daemon.protocol.frames import Block


class Have(NamedTuple):
    """What a holder has, or has gained. A set of pieces is an integer with bit i for piece i."""

    complete: bool = False
    # The pieces that it has, in its first message; None in later ones.
    pieces: int | None = None
    # Pieces that it has gained since the last message.
    gained: Sequence[int] = ()
    # Pieces that it is sending to another requester.
    in_flight: Sequence[int] = ()


class PieceRequest(NamedTuple):
    """Pieces that a requester wants, and pieces that it no longer wants."""

    pieces: Sequence[int] = ()
    # The most bytes of one block; 0 for no change.
    block_length: int = 0
    cancel: Sequence[int] = ()


class PendingRequests:
    """Requests that wait to be sent, merged: each piece once, however often it was requested and cancelled."""

    # The most pieces of one message. A holder refuses many more.
    MAX_PIECES = 512

    def __init__(self) -> None:
        self._pieces: dict[int, None] = {}
        self._cancel: dict[int, None] = {}
        self._block_length = 0

    def __len__(self) -> int:
        return len(self._pieces) + len(self._cancel)

    def add(self, request: PieceRequest) -> None:
        """Append a request."""
        for piece in request.cancel:
            self._pieces.pop(piece, None)
            self._cancel[piece] = None
        self._pieces.update(dict.fromkeys(request.pieces))
        self._block_length = request.block_length or self._block_length

    def pop(self) -> PieceRequest:
        """Remove and return the next message."""
        cancel = tuple(islice(self._cancel, self.MAX_PIECES))
        # A piece that was cancelled and requested again must be requested after its cancellation.
        pieces = () if len(self._cancel) > self.MAX_PIECES else tuple(islice(self._pieces, self.MAX_PIECES))
        for pending, popped in ((self._pieces, pieces), (self._cancel, cancel)):
            for piece in popped:
                del pending[piece]
        return PieceRequest(pieces, self._block_length, cancel)


class PieceResponse(NamedTuple):
    """One message of a holder: blocks, and what it has."""

    blocks: Sequence[Block] = ()
    have: Have | None = None


class RequesterStream(Protocol):
    """The requester's end of a stream."""

    def request(self, request: PieceRequest) -> None:
        """Queue a request and return at once."""

    def responses(self) -> AsyncIterator[PieceResponse]:
        """Yield what the holder sends until it ends the stream. Raises PeerError if the stream fails."""

    async def close(self) -> None:
        """Close the stream."""


class HolderStream(Protocol):
    """The holder's end of a stream."""

    def requests(self) -> AsyncIterator[PieceRequest]:
        """Yield what the requester requests until it ends the stream."""

    async def send(self, response: PieceResponse) -> None:
        """Send a response; returns when the stream accepts the next one."""
