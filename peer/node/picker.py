"""Which piece to ask of which holder next: pure, no I/O, and no clock but the one it is handed.

Rarest first among what is known; of equally rare pieces the one after the last asked of that holder, from a random
start, so that disks read on and two askers seldom want the same. A piece goes to the holder with the shortest queue
in seconds (by its measured rate). A holder that failed backs off, one that went silent loses its pieces until it sends
again, one that sent a bad piece is out.

A crowd at one seeder must not ask it for anything twice. So a whole holder is asked for what no partial holder has;
and what it is sending to somebody else (it says so: "given") is left alone, even if it was asked for and not begun,
until that somebody has it or is late. Simulated crowds of 8 end at 1.01 times the time that the seeder needs to send
the file once, of 30 at 1.07; without this at 2.5 and more.

Each holder may have a piece or two asked of it whatever the others do: the slow do not take the window from the fast,
nor the fast from the slow. When nothing
is left to ask, an idle holder is asked for a piece that another is late with (endgame), if that saves time.

Sets of pieces are Python integers, bit i for piece i: a choice among 65,536 pieces costs microseconds. Rarest first
and endgame are BitTorrent's (Cohen 2003, "Incentives Build Robustness in BitTorrent").
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

# Pieces asked for and not yet verified, beside one or two of each holder: what a SIGKILL can cost.
WINDOW = 8
# A holder may be asked for this many at any time, and until its rate is known for no more.
_PROBE = 2
# A holder is given work for this many seconds.
_QUEUE_SECONDS = 1.0
# A holder silent for this long, with pieces asked of it, loses them to others.
SILENCE = 5.0
# A piece may take this long, and its size at the slowest rate that is put up with.
_PATIENCE = 10.0
_SLOWEST = 64 << 10
# Failures double the time until a holder is asked again, up to this.
_BACKOFF_FIRST, _BACKOFF_MOST = 0.5, 10.0
# So many holders of a piece are told apart; what more have is all equally common. A liar cannot make it grow.
_LEVELS = 64
# No announcement for what is over at once: a file in part is announced when it is long, or takes a while.
PARTIAL_PIECES = 16
# A piece that a whole holder is sending to another asker is left to come from that one: for so many seconds, and as
# long as it takes to send so many pieces, but not longer than the last.
_PROMISE, _PROMISE_PIECES, _PROMISE_MOST = 0.1, 1.5, 30.0
_PROMISES = 4096
# Rates forget with this time constant, in seconds.
_RATE_MEMORY = 2.0
# Above this rate, in bytes per second, half a window lasts longer than a wish is on its way.
_FAST = 100 << 20
# An idle holder takes over a piece if it would have it in this part of the time that the other still needs.
_TAKE_OVER = 0.6
# ... and if that saves so many seconds.
_WORTH = 0.1


class State(Enum):
    """What a holder is good for."""

    ACTIVE = "active"
    # Silent or late: not asked until it sends something.
    STALLED = "stalled"
    # Failed: not asked until its time has come.
    WAITING = "waiting"
    # Sent what did not verify, or is gone for good.
    DROPPED = "dropped"


class Ask(NamedTuple):
    """Ask this holder for this piece."""

    holder: str
    piece: int
    # Data in one block, at most.
    block_length: int
    # Who was asked before, has not begun it, and need not send it any more; empty: nobody.
    instead_of: str = ""


class Cancel(NamedTuple):
    """Tell this holder that the piece is no longer wanted from it."""

    holder: str
    piece: int


@dataclass(slots=True)
class _Holder:
    """What is known of one holder."""

    has: int
    whole: bool
    state: State = State.ACTIVE
    why: str = ""
    # Pieces asked for, in order, with the time of asking.
    asked: OrderedDict[int, float] = field(default_factory=OrderedDict)
    # Pieces that are here and not verified yet.
    settling: set[int] = field(default_factory=set)
    cursor: int = 0
    # When it last sent a byte, or was asked while idle; when its present piece began.
    heard: float = 0.0
    began: float = 0.0
    # The measured rate is bytes / seconds; both fade.
    bytes: float = 0.0
    seconds: float = 0.0
    total: int = 0
    # Bytes heard of pieces that are not verified yet: above 0 when the first of those asked for has begun.
    ahead: int = 0
    # A piece was taken over from it, and it has sent nothing since: its rate is of another time.
    relieved: bool = False
    failures: int = 0
    not_before: float = 0.0
    # Pieces that it is sending to others, and until when that is a reason not to ask it for them.
    promised: int = 0
    promises: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_PROMISES))

    @property
    def rate(self) -> float:
        """Bytes per second while it had something to send; 0 if unknown."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    def forget_promises(self, now: float) -> None:
        """Piece by piece: one that was promised anew meanwhile is kept."""
        if self.promises and self.promises[0][0] <= now:
            while self.promises and self.promises[0][0] <= now:
                self.promises.popleft()
            self.promised = 0
            for _, pieces in self.promises:
                self.promised |= pieces


class HolderView(NamedTuple):
    """A holder as it is shown to people."""

    holder: str
    state: State
    why: str
    rate: float
    bytes: int


class Picker:
    """The choices of one download. Holders are named by strings; pieces by number."""

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
        self._length = length
        self._pieces = pieces
        self._window = window
        self._choose = choose
        self._missing = (1 << pieces) - 1
        for piece in have:
            self._missing &= ~(1 << piece)
        # Missing pieces that nobody is asked for.
        self._free = self._missing
        # How many partial holders have a piece; level[n] is the set of pieces with n of them.
        self._levels: list[int] = [(1 << pieces) - 1]
        self._holders: dict[str, _Holder] = {}

    # ------------------------------------------------------------------------------------------------ what there is

    @property
    def done(self) -> bool:
        """Every piece is verified."""
        return not self._missing

    @property
    def missing(self) -> int:
        """How many pieces are not verified."""
        return self._missing.bit_count()

    @property
    def in_flight(self) -> int:
        """How many pieces are asked for."""
        return (self._missing & ~self._free).bit_count()

    def is_missing(self, piece: int) -> bool:
        """Tell whether a piece is not verified yet."""
        return bool(self._missing >> piece & 1)

    def holders(self) -> list[HolderView]:
        """Return the holders as they stand."""
        return [HolderView(name, h.state, h.why, h.rate, h.total) for name, h in self._holders.items()]

    def state(self, holder: str) -> State | None:
        """Return what a holder is good for; None if it was never here."""
        known = self._holders.get(holder)
        return known.state if known else None

    def wanted_from(self, holder: str) -> bool:
        """Tell whether this holder has something that is missing."""
        known = self._holders.get(holder)
        return bool(known and known.has & self._missing)

    # -------------------------------------------------------------------------------------------------- what happens

    def add(self, holder: str, now: float) -> None:
        """A holder answered: it may be asked as soon as it says what it has. One that was dropped stays so."""
        known = self._holders.get(holder)
        if known is None:
            self._holders[holder] = _Holder(0, whole=False, heard=now, cursor=self._choose(max(1, self._pieces)))
        elif known.state is not State.DROPPED:
            known.state, known.why, known.heard = State.ACTIVE, "", now

    def has(self, holder: str, pieces: int, *, whole: bool) -> None:
        """A holder said which pieces it has: a set, replacing what it said before."""
        known = self._holders[holder]
        self._forget_pieces(known)
        known.whole = whole
        known.has = pieces & ((1 << self._pieces) - 1)
        if not whole:
            self._shift(known.has & self._missing, 1)

    def gained(self, holder: str, pieces: Iterable[int]) -> None:
        """A holder has some more pieces."""
        known = self._holders[holder]
        new = self._set_of(pieces) & ~known.has
        known.has |= new
        if not known.whole:
            self._shift(new, 1)

    def given(self, holder: str, pieces: Iterable[int], now: float) -> list[Cancel]:
        """A holder is sending these to somebody else, from whom they will be had soon.

        Return which of them it need not send to us: those that it was asked for and cannot have begun.
        """
        if self._pieces <= PARTIAL_PIECES:
            return []
        known = self._holders[holder]
        named = self._set_of(pieces) & self._missing
        piece_seconds = self._length(0) / known.rate if known.rate else _PROMISE
        until = now + min(_PROMISE + _PROMISE_PIECES * piece_seconds, _PROMISE_MOST)
        known.promises.append((until, named))
        known.promised |= named
        begun = 1 if known.ahead > 0 else 0
        cancels = [Cancel(holder, piece) for piece in list(known.asked)[begun:] if named >> piece & 1]
        for _, piece in cancels:
            del known.asked[piece]
            self._free_again(piece)
        return cancels

    def heard(self, holder: str, size: int, now: float) -> None:
        """A holder sent `size` bytes of data. One that was stalled is good again."""
        known = self._holders[holder]
        elapsed = max(now - known.heard, 1e-6)
        fade = math.exp(-elapsed / _RATE_MEMORY)
        known.bytes = known.bytes * fade + size
        known.seconds = known.seconds * fade + elapsed
        known.total += size
        known.ahead += size
        known.heard = now
        known.relieved = False
        if known.state is State.STALLED:
            known.state, known.why = State.ACTIVE, ""

    def received(self, holder: str, piece: int, now: float) -> None:
        """All of a piece is here, to be verified: whatever becomes of its holder, nobody else is asked for it."""
        known = self._holders[holder]
        known.asked.pop(piece, None)
        known.settling.add(piece)
        self._free &= ~(1 << piece)
        known.ahead = max(0, known.ahead - self._length(piece))
        known.began = now

    def arrived(self, holder: str, piece: int, now: float) -> list[Cancel]:
        """A piece is verified. Return who else need not send it any more."""
        known = self._holders[holder]
        if piece in known.asked:
            self.received(holder, piece, now)
        known.settling.discard(piece)
        known.failures = 0
        self._missing &= ~(1 << piece)
        self._free &= ~(1 << piece)
        cancels = []
        for name, other in self._holders.items():
            if piece in other.asked:
                del other.asked[piece]
                cancels.append(Cancel(name, piece))
        return cancels

    def failed(self, holder: str, why: str, now: float) -> None:
        """A holder's stream broke, or it refused: its pieces go to others, and it rests for a while."""
        known = self._holders.setdefault(holder, _Holder(0, whole=False))
        self._release(known)
        self._forget_pieces(known)
        known.has = known.ahead = 0
        if known.state is not State.DROPPED:
            known.failures += 1
            known.state, known.why = State.WAITING, why
            known.not_before = now + min(_BACKOFF_FIRST * 2 ** (known.failures - 1), _BACKOFF_MOST)

    def left(self, holder: str, now: float) -> None:
        """A holder ended its stream in good order: no failure, but it has nothing to send just now."""
        self.failed(holder, "ended the stream", now)
        self._holders[holder].failures -= 1

    def drop(self, holder: str, why: str, bad: int | None = None) -> None:
        """A holder sent what did not verify, the piece `bad`: it is out."""
        known = self._holders[holder]
        self._release(known)
        if bad is not None:
            known.settling.discard(bad)
            self._free_again(bad)
        self._forget_pieces(known)
        known.has = 0
        known.state, known.why = State.DROPPED, why

    def may_dial(self, holder: str, now: float) -> bool:
        """Tell whether a holder that is not connected may be tried."""
        known = self._holders.get(holder)
        return known is None or (known.state is State.WAITING and now >= known.not_before)

    # ---------------------------------------------------------------------------------------------------- the choices

    def overdue(self, now: float) -> list[Cancel]:
        """Take pieces away from holders that are silent or late; return what they need not send any more.

        The only holder that has a piece keeps it: slow is better than never.
        """
        cancels = []
        for name, known in self._holders.items():
            if not known.asked or known.state is not State.ACTIVE:
                continue
            head = next(iter(known.asked))
            silent = now - known.heard
            late = now - known.began - _PATIENCE - self._length(head) / _SLOWEST
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
            for piece in lost:
                del known.asked[piece]
                self._free_again(piece)
                cancels.append(Cancel(name, piece))
        return cancels

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
        common: tuple[str, _Holder, int] | None = None
        for _, name, known in self._by_queue():
            if full and len(known.asked) >= _PROBE:
                continue
            candidates = known.has & self._free
            if known.whole:
                known.forget_promises(now)
                candidates &= ~known.promised
                rare = candidates & self._levels[0]
                if candidates and not rare and common is None:
                    common = name, known, candidates
                candidates = rare
            if candidates:
                return self._ask(name, known, self._rarest(candidates, self._start(known)), now)
        if common is not None:
            name, known, candidates = common
            return self._ask(name, known, self._rarest(candidates, self._start(known)), now)
        return self._take_over(now)

    def _start(self, known: _Holder) -> int:
        """Where to look for the next piece: after the last; anywhere in a crowd, whose askers would march in step."""
        return self._choose(self._pieces) if known.promised else known.cursor

    def _by_queue(self) -> list[tuple[float, str, _Holder]]:
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

    def _rarest(self, candidates: int, cursor: int) -> int:
        for level in self._levels:
            rare = candidates & level
            if rare:
                after = rare >> cursor
                return cursor + _lowest(after) if after else _lowest(rare)
        raise AssertionError("every piece is on a level")

    def _take_over(self, now: float) -> Ask | None:
        """Find an idle holder and a piece that another has and is late with.

        One that is not begun is taken away. One that is on its way is asked for twice only when nothing else is left
        to ask for: then it is the end that is late.
        """
        late = self._late(now)
        if not late:
            return None
        wanted = 0
        for _, _, piece, _ in late:
            wanted |= 1 << piece
        for name, known in self._holders.items():
            if known.state is not State.ACTIVE or known.asked or known.has & self._free or not known.has & wanted:
                continue
            if known.relieved:
                # Or a silent holder and a slow one would take the last piece from each other for ever.
                continue
            for rest, slow, piece, begun in late:
                mine = self._length(piece) / known.rate if known.rate else rest / 2
                if known.has >> piece & 1 and mine < rest * _TAKE_OVER and mine < rest - _WORTH:
                    ask = self._ask(name, known, piece, now)
                    if begun:
                        return ask
                    del self._holders[slow].asked[piece]
                    self._holders[slow].relieved = True
                    return ask._replace(instead_of=slow)
        return None

    def _late(self, now: float) -> list[tuple[float, str, int, bool]]:
        """Return the pieces that may be asked of another, the latest first: seconds, holder, piece, whether begun."""
        late = []
        for name, known in self._holders.items():
            ahead = -known.ahead
            for place, piece in enumerate(known.asked):
                ahead += self._length(piece)
                begun = place == 0 and known.ahead > 0
                rest = self._rest(known, ahead, now)
                if rest > _WORTH and not (begun and self._free) and self._copies(piece) == 1:
                    late.append((rest, name, piece, begun))
        late.sort(reverse=True)
        return late

    def _rest(self, holder: _Holder, ahead: int, now: float) -> float:
        """Return the seconds until a holder will have sent `ahead` bytes of its queue."""
        if holder.state is not State.ACTIVE:
            return math.inf
        waited = now - holder.heard
        return max(ahead / holder.rate if holder.rate else 2 * waited, waited)

    def _copies(self, piece: int) -> int:
        return sum(piece in holder.asked or piece in holder.settling for holder in self._holders.values())

    def _ask(self, name: str, known: _Holder, piece: int, now: float) -> Ask:
        if not known.asked:
            known.heard = known.began = now
        known.asked[piece] = now
        known.cursor = piece + 1
        self._free &= ~(1 << piece)
        # Small on a slow stream, so that news of pieces need not wait long behind one.
        length = max(64 << 10, min(1 << 20, int(known.rate / 16)))
        return Ask(name, piece, 1 << (length.bit_length() - 1))

    # --------------------------------------------------------------------------------------------------- small change

    def _release(self, known: _Holder) -> None:
        pieces = list(known.asked)
        known.asked.clear()
        for piece in pieces:
            self._free_again(piece)

    def _free_again(self, piece: int) -> None:
        if self._missing >> piece & 1 and not self._copies(piece):
            self._free |= 1 << piece

    def _forget_pieces(self, known: _Holder) -> None:
        if not known.whole:
            self._shift(known.has & self._missing, -1)

    def _set_of(self, pieces: Iterable[int]) -> int:
        """Return pieces that a holder named as a set; numbers that are none are left out."""
        bits = bytearray((self._pieces + 7) // 8)
        for piece in pieces:
            if piece < self._pieces:
                bits[piece >> 3] |= 1 << (piece & 7)
        return int.from_bytes(bits, "little")

    def _shift(self, pieces: int, by: int) -> None:
        """Move a set of pieces one level up (1) or down (-1): all at once, whatever its size."""
        levels = self._levels
        if by > 0 and len(levels) < _LEVELS and levels[-1] & pieces:
            levels.append(0)
        top = len(levels) - 1
        # In the order in which nothing is moved twice.
        for n in range(top - 1, -1, -1) if by > 0 else range(1, top + 1):
            moved = levels[n] & pieces
            if moved:
                levels[n] ^= moved
                levels[n + by] |= moved


def _lowest(pieces: int) -> int:
    return (pieces & -pieces).bit_length() - 1
