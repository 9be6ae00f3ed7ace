"""Which source takes over a piece that another source is late with. Pure, and changes nothing.

A source with nothing left to request would be idle until the slowest source has sent its last piece. So it takes over a
piece that it would deliver much earlier. The endgame of BitTorrent (Cohen 2003, "Incentives Build Robustness in
BitTorrent") requests every missing piece from every peer. Here one second source is asked, and only if that saves time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from daemon.swarm.source import SourceState, SourceStatus, requests_for

# An idle source takes over a piece if it needs at most this share of the time that the late source still needs. Rates
# are estimates, and a piece that is sent twice for a small gain is a loss.
_MAX_TIME_SHARE = 0.6
# It must also save this many seconds: more than the requests themselves need to travel.
_MIN_SAVED_SECONDS = 0.1


class Takeover(NamedTuple):
    """A piece to request from the source `idle` because the source `late` is late with it.

    A source is late with a piece if it needs more than `_MIN_SAVED_SECONDS` until the piece has arrived.
    """

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
    """Find an idle source and a piece that it should take over; the piece with the most seconds left is first.

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
    """Return the pieces that may be requested from a second source, the one with the most seconds left first."""
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
