"""What an asker knows of one holder: what it has, what was asked of it, how fast it sends. Pure, and chooses nothing.

The rate is that of the time in which the holder had something to send: bytes by seconds, both fading, so that what was
long ago counts little.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from daemon.swarm.in_flight_elsewhere import InFlightElsewhere

# Rates forget with this time constant, in seconds: twice the work that a holder is given at a time (`picker`).
_RATE_TIME_CONSTANT = 2.0
# Seconds until a holder that failed is asked again. Each failure in a row doubles them, up to the second: so often do
# downloads look for holders (`seeking`).
_BACKOFF_FIRST, _BACKOFF_MAX = 0.5, 10.0
# A block is what is sent in this part of a second: small on a slow stream, so that news of pieces need not wait long
# behind one. It has from 64 KiB, with which a piece server begins anyway, to 1 MiB, the most that it sends in one.
_BLOCK_SECONDS = 1 / 16
_BLOCK_MIN, _BLOCK_MAX = 64 << 10, 1 << 20


class SourceStatus(Enum):
    """What a holder is good for."""

    ACTIVE = "active"
    # Silent or late: not asked until it sends something.
    STALLED = "stalled"
    # Failed: not asked until its time has come.
    WAITING = "waiting"
    # Sent what did not verify, or is gone for good.
    DROPPED = "dropped"


@dataclass(slots=True)
class SourceState:
    """One holder, as far as one download knows it.

    Times are in seconds, by the asker's clock; sets have bit i for piece i.
    """

    # The pieces that it has.
    pieces: int = 0
    complete: bool = False
    state: SourceStatus = SourceStatus.ACTIVE
    # Why it is in another state than ACTIVE, for people.
    why: str = ""
    # Pieces asked for, in order, with the time of asking.
    requested: OrderedDict[int, float] = field(default_factory=OrderedDict)
    # Pieces that are here and not verified yet.
    verifying: set[int] = field(default_factory=set)
    # The piece after the last asked for.
    next_index: int = 0
    # When it last sent a byte, or was asked while idle.
    last_progress: float = 0.0
    # When its present piece began.
    piece_started: float = 0.0
    # The measured rate is bytes / seconds; both fade.
    rate_bytes: float = 0.0
    rate_seconds: float = 0.0
    # Bytes that it ever sent.
    received_bytes: int = 0
    # Bytes heard of pieces that are not whole yet: above 0 when the first of those asked for has begun.
    partial_bytes: int = 0
    # A piece was taken over from it, and it has sent nothing since: its rate is of another time.
    was_preempted: bool = False
    # Failures in a row, and when it may be tried again.
    failures: int = 0
    retry_at: float = 0.0
    # What it is sending to others.
    in_flight_elsewhere: InFlightElsewhere = field(default_factory=InFlightElsewhere)

    @property
    def rate(self) -> float:
        """Bytes per second while it had something to send; 0 if unknown."""
        return self.rate_bytes / self.rate_seconds if self.rate_seconds > 0 else 0.0

    @property
    def block_length(self) -> int:
        """Data in one block that is asked of it, at most: a power of two."""
        length = max(_BLOCK_MIN, min(_BLOCK_MAX, int(self.rate * _BLOCK_SECONDS)))
        return 1 << (length.bit_length() - 1)

    def on_request(self, piece: int, now: float) -> None:
        """It is asked for a piece, after the others."""
        if not self.requested:
            self.last_progress = self.piece_started = now
        self.requested[piece] = now
        self.next_index = piece + 1

    def not_started(self) -> list[int]:
        """Return the pieces that it was asked for and has sent nothing of."""
        return list(self.requested)[1 if self.partial_bytes > 0 else 0 :]

    def on_data(self, size: int, now: float) -> None:
        """It sent `size` bytes of data. If it was stalled, it is good again."""
        elapsed = max(now - self.last_progress, 1e-6)
        fade = math.exp(-elapsed / _RATE_TIME_CONSTANT)
        self.rate_bytes = self.rate_bytes * fade + size
        self.rate_seconds = self.rate_seconds * fade + elapsed
        self.received_bytes += size
        self.partial_bytes += size
        self.last_progress = now
        self.was_preempted = False
        if self.state is SourceStatus.STALLED:
            self.state, self.why = SourceStatus.ACTIVE, ""

    def on_received(self, piece: int, length: int, now: float) -> None:
        """All `length` bytes of a piece are here, to be verified; its next begins."""
        self.requested.pop(piece, None)
        self.verifying.add(piece)
        self.partial_bytes = max(0, self.partial_bytes - length)
        self.piece_started = now

    def back_off(self, why: str, now: float) -> None:
        """It failed: it rests for a while, longer each time."""
        self.failures += 1
        self.state, self.why = SourceStatus.WAITING, why
        self.retry_at = now + min(_BACKOFF_FIRST * 2 ** (self.failures - 1), _BACKOFF_MAX)


def requests_for(holders: Iterable[SourceState], piece: int) -> int:
    """Return how many of them are to send a piece, or have sent it and it is not verified yet."""
    return sum(piece in holder.requested or piece in holder.verifying for holder in holders)
