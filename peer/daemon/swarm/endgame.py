"""Who takes over a piece that another holder is late with: pure, and changes nothing.

A holder that nothing is left to ask for would stand idle until the slowest has sent its last. So it takes over what it
would have much earlier. BitTorrent's endgame (Cohen 2003, "Incentives Build Robustness in BitTorrent") asks everybody
for everything that is missing; here one other is asked, and only where that saves time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from daemon.swarm.source import SourceState, SourceStatus, requests_for

# An idle holder takes over a piece if it would have it in this part of the time that the other still needs: rates are
# measured, not known, and a piece sent twice for little is a loss.
_MAX_TIME_SHARE = 0.6
# ... and if that saves so many seconds: more than the wishes themselves need to travel.
_MIN_SAVED_SECONDS = 0.1


class Takeover(NamedTuple):
    """This idle holder should be asked for the piece that the late one was asked for."""

    idle: str
    piece: int
    late: str
    # The late one is sending it already: then both may, and the first to end wins. If not, it need not begin.
    started: bool


def find_takeover(
    holders: Mapping[str, SourceState], free: int, length: Callable[[int], int], now: float
) -> Takeover | None:
    """Find an idle holder and a piece that another was asked for and is late with; the latest piece first.

    `free` is the set of the pieces that nobody is asked for, `length` gives a piece's bytes. One that is on its way is
    asked for twice only when nothing is free: then it is the end that is late.
    """
    late = _late_pieces(holders, free, length, now)
    if not late:
        return None
    wanted = 0
    for _, _, piece, _ in late:
        wanted |= 1 << piece
    for name, known in holders.items():
        if (
            known.state is not SourceStatus.ACTIVE
            or known.requested
            or known.pieces & free
            or not known.pieces & wanted
        ):
            continue
        if known.was_preempted:
            # Or a silent holder and a slow one would take the last piece from each other for ever.
            continue
        for rest, slow, piece, begun in late:
            mine = length(piece) / known.rate if known.rate else rest / 2
            if known.pieces >> piece & 1 and mine < rest * _MAX_TIME_SHARE and mine < rest - _MIN_SAVED_SECONDS:
                return Takeover(name, piece, slow, begun)
    return None


def _late_pieces(
    holders: Mapping[str, SourceState], free: int, length: Callable[[int], int], now: float
) -> list[tuple[float, str, int, bool]]:
    """Return the pieces that may be asked of another, the latest first: seconds left, holder, piece, whether begun."""
    late = []
    for name, known in holders.items():
        ahead = -known.partial_bytes
        for place, piece in enumerate(known.requested):
            ahead += length(piece)
            begun = place == 0 and known.partial_bytes > 0
            rest = _seconds_left(known, ahead, now)
            if rest > _MIN_SAVED_SECONDS and not (begun and free) and requests_for(holders.values(), piece) == 1:
                late.append((rest, name, piece, begun))
    late.sort(reverse=True)
    return late


def _seconds_left(known: SourceState, ahead: int, now: float) -> float:
    """Return the seconds until a holder will have sent `ahead` bytes of its queue.

    At least as many as it has been silent for; of one whose rate is unknown, twice as many.
    """
    if known.state is not SourceStatus.ACTIVE:
        return math.inf
    waited = now - known.last_progress
    return max(ahead / known.rate if known.rate else 2 * waited, waited)
