"""Who has which pieces, and which are asked of whom: what is so in one download, and what happens. Pure.

It makes no choice: `picker` does, on top of it. What it keeps true whatever happens: a missing piece is either free, or
some holder is to send it, or has sent it and it is being verified; and it is on the level of `rarity` that the partial
holders' words put it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from daemon.storage.bitmap import mask_of
from daemon.swarm.availability import Levels
from daemon.swarm.source import KnownHolder, State, copies


class Cancel(NamedTuple):
    """Tell this holder that the piece is no longer wanted from it."""

    holder: str
    piece: int


class Ledger:
    """What is so in one download. Holders are named by strings, pieces by number; sets have bit i for piece i."""

    def __init__(
        self, pieces: int, have: Iterable[int], length: Callable[[int], int], choose: Callable[[int], int]
    ) -> None:
        """`have` are verified already, `length` gives a piece's bytes, `choose(n)` a number below n by chance."""
        self._pieces = pieces
        self._length = length
        self._choose = choose
        self._missing = (1 << pieces) - 1
        for piece in have:
            self._missing &= ~(1 << piece)
        # Missing pieces that nobody is asked for.
        self._free = self._missing
        self._levels = Levels(pieces)
        self._holders: dict[str, KnownHolder] = {}

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

    def state(self, holder: str) -> State | None:
        """Return what a holder is good for; None if it was never here."""
        known = self._holders.get(holder)
        return known.state if known else None

    def wanted_from(self, holder: str) -> bool:
        """Tell whether this holder has something that is missing."""
        known = self._holders.get(holder)
        return bool(known and known.has & self._missing)

    def may_dial(self, holder: str, now: float) -> bool:
        """Tell whether a holder that is not connected may be tried."""
        known = self._holders.get(holder)
        return known is None or (known.state is State.WAITING and now >= known.not_before)

    # -------------------------------------------------------------------------------------------------- what happens

    def add(self, holder: str, now: float) -> None:
        """A holder answered: it may be asked as soon as it says what it has. One that was dropped stays so."""
        known = self._holders.get(holder)
        if known is None:
            self._holders[holder] = KnownHolder(last_heard=now, cursor=self._choose(max(1, self._pieces)))
        elif known.state is not State.DROPPED:
            known.state, known.why, known.last_heard = State.ACTIVE, "", now

    def has(self, holder: str, pieces: int, *, whole: bool) -> None:
        """A holder said which pieces it has: a set, replacing what it said before."""
        known = self._holders[holder]
        self._forget_pieces(known)
        known.whole = whole
        known.has = pieces & ((1 << self._pieces) - 1)
        if not whole:
            self._levels.up(known.has & self._missing)

    def gained(self, holder: str, pieces: Iterable[int]) -> None:
        """A holder has some more pieces."""
        known = self._holders[holder]
        new = mask_of(pieces, self._pieces) & ~known.has
        known.has |= new
        if not known.whole:
            self._levels.up(new & self._missing)

    def heard(self, holder: str, size: int, now: float) -> None:
        """A holder sent `size` bytes of data. One that was stalled is good again."""
        self._holders[holder].heard(size, now)

    def received(self, holder: str, piece: int, now: float) -> None:
        """All of a piece is here, to be verified: whatever becomes of its holder, nobody else is asked for it."""
        self._holders[holder].received(piece, self._length(piece), now)
        self._free &= ~(1 << piece)

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
        known = self._holders.setdefault(holder, KnownHolder())
        self._lose(known)
        known.ahead = 0
        if known.state is not State.DROPPED:
            known.back_off(why, now)

    def left(self, holder: str, now: float) -> None:
        """A holder ended its stream in good order: no failure, but it has nothing to send just now."""
        self.failed(holder, "ended the stream", now)
        known = self._holders[holder]
        if known.state is State.WAITING:
            known.failures -= 1

    def drop(self, holder: str, why: str, bad: int | None = None) -> None:
        """A holder sent what did not verify, the piece `bad`: it is out."""
        known = self._holders[holder]
        if bad is not None:
            known.settling.discard(bad)
            self._free_again(bad)
        self._lose(known)
        known.state, known.why = State.DROPPED, why

    # --------------------------------------------------------------------------------------------------- small change

    def _lose(self, known: KnownHolder) -> None:
        """It has nothing for us any more: what it was asked for is free again."""
        self._take_back(known, list(known.asked))
        self._forget_pieces(known)
        known.has = 0

    def _take_back(self, known: KnownHolder, pieces: list[int]) -> None:
        """Want some of the pieces that it was asked for no longer from this holder."""
        for piece in pieces:
            del known.asked[piece]
            self._free_again(piece)

    def _free_again(self, piece: int) -> None:
        if self._missing >> piece & 1 and not copies(self._holders.values(), piece):
            self._free |= 1 << piece

    def _forget_pieces(self, known: KnownHolder) -> None:
        if not known.whole:
            self._levels.down(known.has & self._missing)
