"""The rules by which `piece_picker` chooses: rarest first, and takeovers in the endgame. Pure.

A set of pieces is a Python integer, bit i for piece i (as in `storage.bitmap`). So one source moves up by a few
operations on whole sets, and a choice among 65,536 pieces costs microseconds.

Both rules come from BitTorrent (Cohen 2003, "Incentives Build Robustness in BitTorrent"). A piece that few sources have
is requested first, because one more peer then has it before those sources leave. Near the end, a source with nothing
left to request would be idle until the slowest source has sent its last piece. BitTorrent then requests every missing
piece from every peer. Here one second source is asked, and only if that saves time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from daemon.swarm.source import SourceState, SourceStatus, requests_for

# Pieces of this many sources or more share the last level, so hostile sources cannot make the levels grow. A download
# connects to `download.MAX_CONNECTIONS` (24) sources, so the count of honest sources stays exact.
MAX_LEVELS = 64
# An idle source takes over a piece if it needs at most this share of the time that the late source still needs. Rates
# are estimates, and a piece that is sent twice for a small gain is a loss.
_MAX_TIME_SHARE = 0.6
# It must also save this many seconds: more than the requests themselves need to travel.
_MIN_SAVED_SECONDS = 0.1


class RarityLevels:
    """The pieces of one file by the number of partial sources that have them. Iterates over levels, rarest first.

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


class Takeover(NamedTuple):
    """A piece to request from the source `idle` because the source `late` is late with it."""

    idle: str
    piece: int
    late: str
    # The late source is sending it already: then both may send it, and the first to finish wins. If not, its request
    # can be cancelled.
    started: bool


class _LatePiece(NamedTuple):
    """A requested piece that another source may take over."""

    seconds_left: float
    source: str
    piece: int
    started: bool


def find_takeover(
    sources: Mapping[str, SourceState], free: int, length: Callable[[int], int], now: float
) -> Takeover | None:
    """Find an idle source and a piece that it should take over, the latest piece first.

    Args:
        sources: All sources, by address.
        free: The set of missing pieces that are not requested. A piece that is on its way is requested twice only if
            this set is empty.
        length: Returns the bytes of a piece.
        now: Seconds on the clock of the download.

    Returns:
        None if no takeover saves enough time.
    """
    late = _late_pieces(sources, free, length, now)
    if not late:
        return None
    wanted = 0
    for each in late:
        wanted |= 1 << each.piece
    for name, idle in sources.items():
        if idle.state is not SourceStatus.ACTIVE or idle.requested or idle.pieces & free or not idle.pieces & wanted:
            continue
        if idle.was_preempted:
            # Otherwise an idle source and a slow one would take the last piece from each other for ever.
            continue
        for seconds_left, slow, piece, started in late:
            seconds = length(piece) / idle.rate if idle.rate else seconds_left / 2
            faster = seconds < seconds_left * _MAX_TIME_SHARE and seconds < seconds_left - _MIN_SAVED_SECONDS
            if idle.pieces >> piece & 1 and faster:
                return Takeover(name, piece, slow, started)
    return None


def _late_pieces(
    sources: Mapping[str, SourceState], free: int, length: Callable[[int], int], now: float
) -> list[_LatePiece]:
    """Return the pieces that may be requested from a second source, the latest first."""
    late = []
    for name, source in sources.items():
        ahead = -source.partial_bytes
        for place, piece in enumerate(source.requested):
            ahead += length(piece)
            started = place == 0 and source.partial_bytes > 0
            seconds_left = _seconds_left(source, ahead, now)
            if (
                seconds_left > _MIN_SAVED_SECONDS
                and not (started and free)
                and requests_for(sources.values(), piece) == 1
            ):
                late.append(_LatePiece(seconds_left, name, piece, started))
    late.sort(reverse=True)
    return late


def _seconds_left(source: SourceState, ahead: int, now: float) -> float:
    """Return the seconds until a source will have sent `ahead` bytes of its queue.

    At least the time of its silence. If its rate is unknown, twice the time of its silence.
    """
    if source.state is not SourceStatus.ACTIVE:
        return math.inf
    waited = now - source.last_progress
    return max(ahead / source.rate if source.rate else 2 * waited, waited)
