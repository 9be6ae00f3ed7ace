"""What a holder is sending to others, and until when that is a reason not to ask it for the same: pure.

A crowd at one seeder must not have it send anything twice. So a holder says which pieces it begins to send to somebody
("given" in a `Have`), and the others leave those alone for a while: they will come from that somebody. A promise ends
by itself, for that somebody may be gone.
"""

from __future__ import annotations

from collections import deque

# Seconds that a promise lasts beside the time of sending: news go to and fro meanwhile. Also the time that a piece is
# thought to take while the holder's rate is unknown.
_MESSAGE_SECONDS = 0.1
# It lasts as long as the holder needs for so many pieces: this one, and then some until word of it has come round.
_PIECE_TIMES = 1.5
# Not longer than this, in seconds: a slow holder keeps nobody waiting for one who is gone.
_MAX_SECONDS = 30.0
# Promises kept of one holder, the latest. A liar can make each cost a bit for every piece of the file, 8 KiB at most.
_MAX_RECORDS = 256


class InFlightElsewhere:
    """The promises of one holder, as sets of pieces (bit i for piece i)."""

    __slots__ = ("_until", "pieces")

    def __init__(self) -> None:
        # All that is promised, what has ended since the last `forget` included.
        self.pieces = 0
        # When each promise ends, in the order in which they were made.
        self._until: deque[tuple[float, int]] = deque(maxlen=_MAX_RECORDS)

    def add(self, pieces: int, piece_length: int, rate: float, now: float) -> None:
        """The holder is sending these now: pieces of `piece_length` bytes, at `rate` bytes per second (0: unknown)."""
        piece_seconds = piece_length / rate if rate else _MESSAGE_SECONDS
        self._until.append((now + min(_MESSAGE_SECONDS + _PIECE_TIMES * piece_seconds, _MAX_SECONDS), pieces))
        self.pieces |= pieces

    def expire(self, now: float) -> None:
        """Let go of what has ended; a piece that was promised anew meanwhile is kept."""
        until = self._until
        if until and until[0][0] <= now:
            while until and until[0][0] <= now:
                until.popleft()
            self.pieces = 0
            for _, pieces in until:
                self.pieces |= pieces
