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
from daemon.swarm.endgame import take_over
from daemon.swarm.piece_ledger import Cancel, Ledger
from daemon.swarm.source import KnownHolder, State

# Pieces asked for and not yet verified, beside one or two of each holder: what a SIGKILL can cost.
WINDOW = 8
# A holder may be asked for this many at any time, so that it need not wait for a wish between two; and until its rate
# is known for no more.
_PROBE = 2
# A holder is given work for this many seconds: more would only lie there while others could send it.
_QUEUE_SECONDS = 1.0
# A holder silent for this long, with pieces asked of it, loses them to others.
SILENCE = 5.0
# A piece may take this many seconds, and its size at the slowest rate that is put up with, in bytes per second.
_PATIENCE, SLOWEST = 10.0, 64 << 10
# No announcement for what is over at once: a file in part is announced when it is longer than this, or takes a while.
# Shorter files know no promises, for nobody could be asked for the pieces instead.
PARTIAL_PIECES = 16
# Above this rate, in bytes per second, half a window lasts longer than a wish is on its way.
_FAST = 100 << 20


class Ask(NamedTuple):
    """Ask this holder for this piece."""

    holder: str
    piece: int
    # Data in one block, at most.
    block_length: int
    # Who was asked before, has not begun it, and need not send it any more; empty: nobody.
    instead_of: str = ""


class HolderView(NamedTuple):
    """A holder as it is shown to people."""

    holder: str
    state: State
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
        window: int = WINDOW,
    ) -> None:
        """`have` are verified already, `length` gives a piece's bytes, `choose(n)` a number below n by chance."""
        super().__init__(pieces, have, length, choose)
        self._window = window

    def holders(self) -> list[HolderView]:
        """Return the holders as they stand."""
        return [HolderView(name, h.state, h.why, h.rate, h.total) for name, h in self._holders.items()]

    # ------------------------------------------------------------------------------------------- what to ask no longer

    def given(self, holder: str, pieces: Iterable[int], now: float) -> list[Cancel]:
        """A holder is sending these to somebody else, from whom they will be had soon.

        Return which of them it need not send to us: those that it was asked for and cannot have begun.
        """
        if self._pieces <= PARTIAL_PIECES:
            return []
        known = self._holders[holder]
        named = mask_of(pieces, self._pieces) & self._missing
        known.promises.add(named, self._length(0), known.rate, now)
        spared = [piece for piece in known.not_begun() if named >> piece & 1]
        self._take_back(known, spared)
        return [Cancel(holder, piece) for piece in spared]

    def overdue(self, now: float) -> list[Cancel]:
        """Take pieces away from holders that are silent or late; return what they need not send any more.

        The only holder that has a piece keeps it: slow is better than never.
        """
        cancels = []
        for name, known in self._holders.items():
            if not known.asked or known.state is not State.ACTIVE:
                continue
            head = next(iter(known.asked))
            silent = now - known.last_heard
            late = now - known.began - _PATIENCE - self._length(head) / SLOWEST
            if silent < SILENCE and late < 0:
                continue
            others = 0
            for other in self._holders.values():
                if other is not known and other.state is State.ACTIVE:
                    others |= other.has
            lost = [piece for piece in known.asked if others >> piece & 1]
            if not lost:
                continue
            known.state = State.STALLED
            known.why = f"sent nothing for {silent:.0f} s" if silent >= SILENCE else "too slow for its piece"
            self._take_back(known, lost)
            cancels += [Cancel(name, piece) for piece in lost]
        return cancels

    # ------------------------------------------------------------------------------------------------ what to ask next

    def due(self) -> bool:
        """Tell whether to ask for more now: of fast holders several pieces at a time, for each wish costs as much as
        one.
        """
        rate = sum(holder.rate for holder in self._holders.values())
        if rate <= _FAST:
            return True
        # What slow ones still owe is no reason to let the fast ones wait.
        fast = sum(len(holder.asked) for holder in self._holders.values() if 8 * holder.rate > rate)
        return fast <= self._window // 2

    def next(self, now: float) -> Ask | None:
        """Choose the next piece and its holder, and note it as asked; None if nothing should be asked now."""
        full = self.in_flight >= self._window
        common: tuple[str, KnownHolder, int] | None = None
        for _, name, known in self._by_queue():
            if full and len(known.asked) >= _PROBE:
                continue
            candidates = known.has & self._free
            if known.whole:
                known.promises.forget(now)
                candidates &= ~known.promises.pieces
                rare = candidates & self._levels.unshared
                if candidates and not rare and common is None:
                    common = name, known, candidates
                candidates = rare
            if candidates:
                return self._ask_one_of(candidates, name, known, now)
        if common is not None:
            name, known, candidates = common
            return self._ask_one_of(candidates, name, known, now)
        return self._take_over(now)

    def _by_queue(self) -> list[tuple[float, str, KnownHolder]]:
        """Return the holders that may be asked, the shortest queue in seconds first; an untried one before all."""
        able = []
        for name, known in self._holders.items():
            if known.state is not State.ACTIVE or not known.has & self._free:
                continue
            queued = sum(map(self._length, known.asked))
            if not known.rate:
                if len(known.asked) < _PROBE:
                    able.append((float(len(known.asked)), name, known))
            elif len(known.asked) < _PROBE or queued < known.rate * _QUEUE_SECONDS:
                able.append(((queued + self._length(0)) / known.rate, name, known))
        able.sort(key=lambda row: row[0])
        return able

    def _ask_one_of(self, candidates: int, name: str, known: KnownHolder, now: float) -> Ask:
        """Ask for the rarest: the one after the last; anywhere in a crowd, whose askers would march in step."""
        start = self._choose(self._pieces) if known.promises.pieces else known.cursor
        return self._ask(name, known, self._levels.rarest(candidates, start), now)

    def _take_over(self, now: float) -> Ask | None:
        found = take_over(self._holders, self._free, self._length, now)
        if found is None:
            return None
        ask = self._ask(found.idle, self._holders[found.idle], found.piece, now)
        if found.begun:
            return ask
        late = self._holders[found.late]
        del late.asked[found.piece]
        late.relieved = True
        return ask._replace(instead_of=found.late)

    def _ask(self, name: str, known: KnownHolder, piece: int, now: float) -> Ask:
        known.ask(piece, now)
        self._free &= ~(1 << piece)
        return Ask(name, piece, known.block_length)
