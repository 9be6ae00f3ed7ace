"""The sources of a download: pieces, queue and rate of each, and the rarity of each piece. Pure, makes no choice.

The rate covers only the time in which the source had something to send. Bytes and seconds both decay, so old
measurements count little.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

# Time constant of the measured rate, in seconds: twice `piece_picker._QUEUE_MAX_SECONDS`, the work queued at a source.
_RATE_TIME_CONSTANT = 2.0
# Seconds until a source that failed is tried again. Each failure in a row doubles the first value. The maximum is the
# interval of peer discovery.
_BACKOFF_FIRST, _BACKOFF_MAX = 0.5, 10.0
# A block is the data that a source sends in this many seconds. Small blocks on a slow stream let other messages pass
# between two of them.
_BLOCK_SECONDS = 1 / 16
# Limits of a block, in bytes: `piece_sender.DEFAULT_BLOCK_LENGTH` and `piece_sender.MAX_BLOCK_LENGTH`.
_BLOCK_MIN, _BLOCK_MAX = 64 << 10, 1 << 20

# A record of `InFlightElsewhere` lasts as long as sending takes, and this many seconds more for the messages to travel.
# While the rate of the source is unknown, it is also the assumed time of a piece.
_MESSAGE_SECONDS = 0.1
# The time of sending in such a record, in times of one piece: the piece itself, and half of one until the new holder
# announces it.
_RECORD_PIECES = 1.5
# The longest life of such a record, in seconds. The other requester may be gone.
_RECORD_MAX_SECONDS = 30.0
# The number of records of one source; newer ones replace the oldest. A hostile source can make each cost one bit for
# every piece, 8 KiB at most.
_MAX_RECORDS = 256
# Pieces of this many sources or more share the last level, so hostile sources cannot make the levels grow. A download
# connects to `download.MAX_CONNECTIONS` (24) sources, so the count of honest sources stays exact.
MAX_LEVELS = 64


class SourceStatus(Enum):
    """What the picker does with a source."""

    ACTIVE = "active"
    # Idle or late: not asked until it sends data.
    STALLED = "stalled"
    # Failed: not connected until `SourceState.retry_at`.
    WAITING = "waiting"
    # Sent corrupt data: never asked again.
    DROPPED = "dropped"


class InFlightElsewhere:
    """The pieces that one source is sending to other requesters, as sets (bit i for piece i).

    Many requesters at one complete source should not request the same piece from it. So a source reports which pieces
    it begins to send (`Have.in_flight`), and the other requesters leave those pieces alone for a while: they will get
    them from that requester. A record expires by itself, because that requester may be gone.
    """

    __slots__ = ("_expiries", "pieces")

    def __init__(self) -> None:
        # The union of all records, including those that expired since the last call of `expire`.
        self.pieces = 0
        # (time, pieces) of each record, in the order in which they were added.
        self._expiries: deque[tuple[float, int]] = deque(maxlen=_MAX_RECORDS)

    def __len__(self) -> int:
        return len(self._expiries)

    def add(self, pieces: int, piece_length: int, rate: float, now: float) -> None:
        """Record pieces that the source sends to another requester.

        Args:
            pieces: The set of pieces.
            piece_length: Bytes in one piece.
            rate: Bytes per second of the source; 0 if unknown.
            now: Seconds on the clock of the download.
        """
        piece_seconds = piece_length / rate if rate else _MESSAGE_SECONDS
        self._expiries.append(
            (now + min(_MESSAGE_SECONDS + _RECORD_PIECES * piece_seconds, _RECORD_MAX_SECONDS), pieces)
        )
        self.pieces |= pieces

    def expire(self, now: float) -> None:
        """Remove the records that have expired. A piece that a newer record names stays."""
        expiries = self._expiries
        if expiries and expiries[0][0] <= now:
            while expiries and expiries[0][0] <= now:
                expiries.popleft()
            self.pieces = 0
            for _, pieces in expiries:
                self.pieces |= pieces


@dataclass(slots=True)
class SourceState:
    """One source of one download.

    Times are seconds on the clock of the download; sets have bit i for piece i.
    """

    # The pieces that the source has.
    pieces: int = 0
    complete: bool = False
    state: SourceStatus = SourceStatus.ACTIVE
    # The reason of a state other than ACTIVE, for the user.
    reason: str = ""
    # Requested pieces, in order of request, with the time of the request.
    requested: OrderedDict[int, float] = field(default_factory=OrderedDict)
    # Pieces that arrived and are being verified.
    verifying: set[int] = field(default_factory=set)
    # The piece after the last requested one.
    next_index: int = 0
    # When it last sent data, or got a request while idle.
    last_progress: float = 0.0
    # When the piece that it sends now was started.
    piece_started: float = 0.0
    # The measured rate is rate_bytes / rate_seconds; both decay.
    rate_bytes: float = 0.0
    rate_seconds: float = 0.0
    # All bytes that it has sent.
    received_bytes: int = 0
    # Bytes received of incomplete pieces: above 0 once the first requested piece has started.
    partial_bytes: int = 0
    # Another source took over a piece, and this one has sent nothing since: its rate is out of date.
    was_preempted: bool = False
    # Failures in a row, and when it may be tried again.
    failures: int = 0
    retry_at: float = 0.0
    in_flight_elsewhere: InFlightElsewhere = field(default_factory=InFlightElsewhere)

    @property
    def rate(self) -> float:
        """Bytes per second while it had something to send; 0 if unknown."""
        return self.rate_bytes / self.rate_seconds if self.rate_seconds > 0 else 0.0

    @property
    def block_length(self) -> int:
        """The most bytes that it should send in one block: a power of two."""
        length = max(_BLOCK_MIN, min(_BLOCK_MAX, int(self.rate * _BLOCK_SECONDS)))
        return 1 << (length.bit_length() - 1)

    def on_request(self, piece: int, now: float) -> None:
        """Append a piece to its queue."""
        if not self.requested:
            self.last_progress = self.piece_started = now
        self.requested[piece] = now
        self.next_index = piece + 1

    def not_started(self) -> list[int]:
        """Return the requested pieces that no data has arrived for."""
        return list(self.requested)[1 if self.partial_bytes > 0 else 0 :]

    def on_data(self, size: int, now: float) -> None:
        """Count `size` bytes that it sent. A stalled source becomes active again."""
        elapsed = max(now - self.last_progress, 1e-6)
        fade = math.exp(-elapsed / _RATE_TIME_CONSTANT)
        self.rate_bytes = self.rate_bytes * fade + size
        self.rate_seconds = self.rate_seconds * fade + elapsed
        self.received_bytes += size
        self.partial_bytes += size
        self.last_progress = now
        self.was_preempted = False
        if self.state is SourceStatus.STALLED:
            self.state, self.reason = SourceStatus.ACTIVE, ""

    def on_received(self, piece: int, length: int, now: float) -> None:
        """Record that all `length` bytes of a piece have arrived; verification and its next piece start."""
        self.requested.pop(piece, None)
        self.verifying.add(piece)
        self.partial_bytes = max(0, self.partial_bytes - length)
        self.piece_started = now

    def back_off(self, reason: str, now: float) -> None:
        """Record a failure: no retry until `retry_at`, which is further away after each failure in a row."""
        self.failures += 1
        self.state, self.reason = SourceStatus.WAITING, reason
        self.retry_at = now + min(_BACKOFF_FIRST * 2 ** (self.failures - 1), _BACKOFF_MAX)


def requests_for(sources: Iterable[SourceState], piece: int) -> int:
    """Return how many sources are asked for a piece, or have sent it and it is being verified."""
    return sum(piece in source.requested or piece in source.verifying for source in sources)


class RarityLevels:
    """The pieces of one file by the number of partial sources that have them. Iterates over levels, rarest first.

    Rarest first comes from BitTorrent (Cohen 2003, "Incentives Build Robustness in BitTorrent"). A piece that few
    sources have is requested first, because one more peer then has it before those sources leave.

    Level n is the set of the pieces that n partial sources have, so every piece is on exactly one level. Complete
    sources have all pieces and do not distinguish them; they are not counted.
    """

    __slots__ = ("_levels",)

    def __init__(self, pieces: int) -> None:
        """Create levels for `pieces` pieces that no partial source has."""
        self._levels = [(1 << pieces) - 1]

    def __iter__(self) -> Iterator[int]:
        return iter(self._levels)

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def unshared(self) -> int:
        """The set of the pieces that no partial source has."""
        return self._levels[0]

    def add(self, pieces: int) -> None:
        """Count one more source for each piece of the set `pieces`."""
        levels = self._levels
        if len(levels) < MAX_LEVELS and levels[-1] & pieces:
            levels.append(0)
        # From the top, or a piece would be moved twice.
        for n in range(len(levels) - 2, -1, -1):
            moved = levels[n] & pieces
            if moved:
                levels[n] ^= moved
                levels[n + 1] |= moved

    def remove(self, pieces: int) -> None:
        """Count one source fewer for each piece of the set `pieces`. Pieces at 0 stay there."""
        levels = self._levels
        # From the bottom, or a piece would be moved twice.
        for n in range(1, len(levels)):
            moved = levels[n] & pieces
            if moved:
                levels[n] ^= moved
                levels[n - 1] |= moved

    def rarest(self, candidates: int, start: int) -> int:
        """Return the rarest piece of a set.

        Args:
            candidates: The set; not empty.
            start: Among equally rare pieces the first one from this number on wins; after the last piece comes the
                first again.
        """
        for level in self._levels:
            rare = candidates & level
            if rare:
                after = rare >> start
                return start + _lowest(after) if after else _lowest(rare)
        raise AssertionError("every piece is on a level")


def _lowest(pieces: int) -> int:
    return (pieces & -pieces).bit_length() - 1
