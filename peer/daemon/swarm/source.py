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

from daemon.swarm.in_flight_elsewhere import Promises

# Rates forget with this time constant, in seconds: twice the work that a holder is given at a time (`picker`).
_RATE_MEMORY = 2.0
# Seconds until a holder that failed is asked again. Each failure in a row doubles them, up to the second: so often do
# downloads look for holders (`seeking`).
_BACKOFF_FIRST, _BACKOFF_MOST = 0.5, 10.0
# A block is what is sent in this part of a second: small on a slow stream, so that news of pieces need not wait long
# behind one. It has from 64 KiB, with which a piece server begins anyway, to 1 MiB, the most that it sends in one.
_BLOCK_SECONDS = 1 / 16
_BLOCK_LEAST, _BLOCK_MOST = 64 << 10, 1 << 20


class State(Enum):
    """What a holder is good for."""

    ACTIVE = "active"
    # Silent or late: not asked until it sends something.
    STALLED = "stalled"
    # Failed: not asked until its time has come.
    WAITING = "waiting"
    # Sent what did not verify, or is gone for good.
    DROPPED = "dropped"


@dataclass(slots=True)
class KnownHolder:
    """One holder, as far as one download knows it.

    Times are in seconds, by the asker's clock; sets have bit i for piece i.
    """

    # The pieces that it has.
    has: int = 0
    whole: bool = False
    state: State = State.ACTIVE
    # Why it is in another state than ACTIVE, for people.
    why: str = ""
    # Pieces asked for, in order, with the time of asking.
    asked: OrderedDict[int, float] = field(default_factory=OrderedDict)
    # Pieces that are here and not verified yet.
    settling: set[int] = field(default_factory=set)
    # The piece after the last asked for.
    cursor: int = 0
    # When it last sent a byte, or was asked while idle.
    last_heard: float = 0.0
    # When its present piece began.
    began: float = 0.0
    # The measured rate is bytes / seconds; both fade.
    bytes: float = 0.0
    seconds: float = 0.0
    # Bytes that it ever sent.
    total: int = 0
    # Bytes heard of pieces that are not whole yet: above 0 when the first of those asked for has begun.
    ahead: int = 0
    # A piece was taken over from it, and it has sent nothing since: its rate is of another time.
    relieved: bool = False
    # Failures in a row, and when it may be tried again.
    failures: int = 0
    not_before: float = 0.0
    # What it is sending to others.
    promises: Promises = field(default_factory=Promises)

    @property
    def rate(self) -> float:
        """Bytes per second while it had something to send; 0 if unknown."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def block_length(self) -> int:
        """Data in one block that is asked of it, at most: a power of two."""
        length = max(_BLOCK_LEAST, min(_BLOCK_MOST, int(self.rate * _BLOCK_SECONDS)))
        return 1 << (length.bit_length() - 1)

    def ask(self, piece: int, now: float) -> None:
        """It is asked for a piece, after the others."""
        if not self.asked:
            self.last_heard = self.began = now
        self.asked[piece] = now
        self.cursor = piece + 1

    def not_begun(self) -> list[int]:
        """Return the pieces that it was asked for and has sent nothing of."""
        return list(self.asked)[1 if self.ahead > 0 else 0 :]

    def heard(self, size: int, now: float) -> None:
        """It sent `size` bytes of data. If it was stalled, it is good again."""
        elapsed = max(now - self.last_heard, 1e-6)
        fade = math.exp(-elapsed / _RATE_MEMORY)
        self.bytes = self.bytes * fade + size
        self.seconds = self.seconds * fade + elapsed
        self.total += size
        self.ahead += size
        self.last_heard = now
        self.relieved = False
        if self.state is State.STALLED:
            self.state, self.why = State.ACTIVE, ""

    def received(self, piece: int, length: int, now: float) -> None:
        """All `length` bytes of a piece are here, to be verified; its next begins."""
        self.asked.pop(piece, None)
        self.settling.add(piece)
        self.ahead = max(0, self.ahead - length)
        self.began = now

    def back_off(self, why: str, now: float) -> None:
        """It failed: it rests for a while, longer each time."""
        self.failures += 1
        self.state, self.why = State.WAITING, why
        self.not_before = now + min(_BACKOFF_FIRST * 2 ** (self.failures - 1), _BACKOFF_MOST)


def copies(holders: Iterable[KnownHolder], piece: int) -> int:
    """Return how many of them are to send a piece, or have sent it and it is not verified yet."""
    return sum(piece in holder.asked or piece in holder.settling for holder in holders)
