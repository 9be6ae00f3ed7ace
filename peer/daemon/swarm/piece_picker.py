"""Which piece to ask of which holder next: pure, no I/O, and no clock but the one it is handed.

What there is to choose from is in the `ledger`; how common pieces are, in `rarity`; who takes over what is late, in
`endgame`. Here they are joined.

Rarest first among what is known; of equally rare pieces the one after the last asked of that holder, from a random
start, so that disks read on and two askers seldom want the same. A piece goes to the holder with the shortest queue
in seconds (by its measured rate). A holder that failed backs off, one that went silent loses its pieces until it sends
again, one that sent a bad piece is out.

A crowd at one seeder must not ask it for anything twice. So a whole holder is asked for what no partial holder has;
and what it is sending to somebody else (`promises`) is left alone, even if it was asked for and not begun, until that
somebody has it or is late. Simulated crowds of 8 end at 1.01 times the time that the seeder needs to send the file
once, of 30 at 1.07; without this at 2.5 and more.

Each holder may have a piece or two asked of it whatever the others do: the slow do not take the window from the fast,
nor the fast from the slow. When nothing is left to ask, an idle holder is asked for a piece that another is late with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from daemon.storage.bitmap import mask_of
from daemon.swarm.endgame import find_takeover
from daemon.swarm.piece_ledger import Cancellation, Ledger
from daemon.swarm.source import SourceState, SourceStatus

# Pieces asked for and not yet verified, beside one or two of each holder: what a SIGKILL can cost.
MAX_IN_FLIGHT = 8
# A holder may be asked for this many at any time, so that it need not wait for a wish between two; and until its rate
# is known for no more.
_MIN_QUEUE = 2
# A holder is given work for this many seconds: more would only lie there while others could send it.
_QUEUE_MAX_SECONDS = 1.0
# A holder silent for this long, with pieces asked of it, loses them to others.
SOURCE_IDLE_TIMEOUT = 5.0
# A piece may take this many seconds, and its size at the slowest rate that is put up with, in bytes per second.
_PIECE_TIMEOUT, MIN_RATE = 10.0, 64 << 10
# No announcement for what is over at once: a file in part is announced when it is longer than this, or takes a while.
# Shorter files know no promises, for nobody could be asked for the pieces instead.
PARTIAL_MIN_PIECES = 16
# Above this rate, in bytes per second, half a window lasts longer than a wish is on its way.
_FAST_RATE = 100 << 20


class Assignment(NamedTuple):
    """Ask this holder for this piece."""

    source: str
    piece: int
    # Data in one block, at most.
    block_length: int
    # Who was asked before, has not begun it, and need not send it any more; empty: nobody.
    replaces: str = ""


class SourceInfo(NamedTuple):
    """A holder as it is shown to people."""

    source: str
    state: SourceStatus
    why: str
    # Bytes per second; 0 if unknown.
    rate: float
    bytes: int


class Picker(Ledger):
    """The choices of one download, and the ledger that they are made from."""

    def __init__(
        self,
        pieces: int,
        have: Iterable[int],
        length: Callable[[int], int],
        *,
        choose: Callable[[int], int],
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        """`have` are verified already, `length` gives a piece's bytes, `choose(n)` a number below n by chance."""
        super().__init__(pieces, have, length, choose)
        self._window = max_in_flight

    def sources(self) -> list[SourceInfo]:
        """Return the holders as they stand."""
        return [SourceInfo(name, h.state, h.why, h.rate, h.received_bytes) for name, h in self._sources.items()]

    # ------------------------------------------------------------------------------------------- what to ask no longer

    def on_in_flight_elsewhere(self, holder: str, pieces: Iterable[int], now: float) -> list[Cancellation]:
        """A holder is sending these to somebody else, from whom they will be had soon.

        Return which of them it need not send to us: those that it was asked for and cannot have begun.
        """
        if self._pieces <= PARTIAL_MIN_PIECES:
            return []
        known = self._sources[holder]
        named = mask_of(pieces, self._pieces) & self._missing
        known.in_flight_elsewhere.add(named, self._length(0), known.rate, now)
        spared = [piece for piece in known.not_started() if named >> piece & 1]
        self._release(known, spared)
        return [Cancellation(holder, piece) for piece in spared]

    def reassign_stalled(self, now: float) -> list[Cancellation]:
        """Take pieces away from holders that are silent or late; return what they need not send any more.

        The only holder that has a piece keeps it: slow is better than never.
        """
        cancels = []
        for name, known in self._sources.items():
            if not known.requested or known.state is not SourceStatus.ACTIVE:
                continue
            head = next(iter(known.requested))
            silent = now - known.last_progress
            late = now - known.piece_started - _PIECE_TIMEOUT - self._length(head) / MIN_RATE
            if silent < SOURCE_IDLE_TIMEOUT and late < 0:
                continue
            others = 0
            for other in self._sources.values():
                if other is not known and other.state is SourceStatus.ACTIVE:
                    others |= other.pieces
            lost = [piece for piece in known.requested if others >> piece & 1]
            if not lost:
                continue
            known.state = SourceStatus.STALLED
            known.why = (
                f"sent nothing for {silent:.0f} s" if silent >= SOURCE_IDLE_TIMEOUT else "too slow for its piece"
            )
            self._release(known, lost)
            cancels += [Cancellation(name, piece) for piece in lost]
        return cancels

    # ------------------------------------------------------------------------------------------------ what to ask next

    def should_request(self) -> bool:
        """Tell whether to ask for more now: of fast holders several pieces at a time, for each wish costs as much as
        one.
        """
        rate = sum(holder.rate for holder in self._sources.values())
        if rate <= _FAST_RATE:
            return True
        # What slow ones still owe is no reason to let the fast ones wait.
        fast = sum(len(holder.requested) for holder in self._sources.values() if 8 * holder.rate > rate)
        return fast <= self._window // 2

    def pick(self, now: float) -> Assignment | None:
        """Choose the next piece and its holder, and note it as asked; None if nothing should be asked now."""
        full = self.in_flight >= self._window
        common: tuple[str, SourceState, int] | None = None
        for _, name, known in self._sources_by_queue():
            if full and len(known.requested) >= _MIN_QUEUE:
                continue
            candidates = known.pieces & self._free
            if known.complete:
                known.in_flight_elsewhere.expire(now)
                candidates &= ~known.in_flight_elsewhere.pieces
                rare = candidates & self._rarity.unshared
                if candidates and not rare and common is None:
                    common = name, known, candidates
                candidates = rare
            if candidates:
                return self._assign_rarest(candidates, name, known, now)
        if common is not None:
            name, known, candidates = common
            return self._assign_rarest(candidates, name, known, now)
        return self._assign_takeover(now)

    def _sources_by_queue(self) -> list[tuple[float, str, SourceState]]:
        """Return the holders that may be asked, the shortest queue in seconds first; an untried one before all."""
        able = []
        for name, known in self._sources.items():
            if known.state is not SourceStatus.ACTIVE or not known.pieces & self._free:
                continue
            queued = sum(map(self._length, known.requested))
            if not known.rate:
                if len(known.requested) < _MIN_QUEUE:
                    able.append((float(len(known.requested)), name, known))
            elif len(known.requested) < _MIN_QUEUE or queued < known.rate * _QUEUE_MAX_SECONDS:
                able.append(((queued + self._length(0)) / known.rate, name, known))
        able.sort(key=lambda row: row[0])
        return able

    def _assign_rarest(self, candidates: int, name: str, known: SourceState, now: float) -> Assignment:
        """Ask for the rarest: the one after the last; anywhere in a crowd, whose askers would march in step."""
        start = self._choose(self._pieces) if known.in_flight_elsewhere.pieces else known.next_index
        return self._assign(name, known, self._rarity.rarest(candidates, start), now)

    def _assign_takeover(self, now: float) -> Assignment | None:
        found = find_takeover(self._sources, self._free, self._length, now)
        if found is None:
            return None
        ask = self._assign(found.idle, self._sources[found.idle], found.piece, now)
        if found.started:
            return ask
        late = self._sources[found.late]
        del late.requested[found.piece]
        late.was_preempted = True
        return ask._replace(replaces=found.late)

    def _assign(self, name: str, known: SourceState, piece: int, now: float) -> Assignment:
        known.on_request(piece, now)
        self._free &= ~(1 << piece)
        return Assignment(name, piece, known.block_length)
