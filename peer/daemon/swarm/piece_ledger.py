"""Who has which pieces, and which are asked of whom: what is so in one download, and what happens. Pure.

It makes no choice: `picker` does, on top of it. What it keeps true whatever happens: a missing piece is either free, or
some holder is to send it, or has sent it and it is being verified; and it is on the level of `rarity` that the partial
holders' words put it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from daemon.storage.bitmap import mask_of
from daemon.swarm.availability import RarityLevels
from daemon.swarm.source import SourceState, SourceStatus, requests_for


class Cancellation(NamedTuple):
    """Tell this holder that the piece is no longer wanted from it."""

    source: str
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
        self._rarity = RarityLevels(pieces)
        self._sources: dict[str, SourceState] = {}

    # ------------------------------------------------------------------------------------------------ what there is

    @property
    def complete(self) -> bool:
        """Every piece is verified."""
        return not self._missing

    @property
    def missing_count(self) -> int:
        """How many pieces are not verified."""
        return self._missing.bit_count()

    @property
    def in_flight(self) -> int:
        """How many pieces are asked for."""
        return (self._missing & ~self._free).bit_count()

    def is_missing(self, piece: int) -> bool:
        """Tell whether a piece is not verified yet."""
        return bool(self._missing >> piece & 1)

    def state(self, holder: str) -> SourceStatus | None:
        """Return what a holder is good for; None if it was never here."""
        known = self._sources.get(holder)
        return known.state if known else None

    def is_useful(self, holder: str) -> bool:
        """Tell whether this holder has something that is missing."""
        known = self._sources.get(holder)
        return bool(known and known.pieces & self._missing)

    def may_connect(self, holder: str, now: float) -> bool:
        """Tell whether a holder that is not connected may be tried."""
        known = self._sources.get(holder)
        return known is None or (known.state is SourceStatus.WAITING and now >= known.retry_at)

    # -------------------------------------------------------------------------------------------------- what happens

    def add_source(self, holder: str, now: float) -> None:
        """A holder answered: it may be asked as soon as it says what it has. One that was dropped stays so."""
        known = self._sources.get(holder)
        if known is None:
            self._sources[holder] = SourceState(last_progress=now, next_index=self._choose(max(1, self._pieces)))
        elif known.state is not SourceStatus.DROPPED:
            known.state, known.why, known.last_progress = SourceStatus.ACTIVE, "", now

    def set_pieces(self, holder: str, pieces: int, *, whole: bool) -> None:
        """A holder said which pieces it has: a set, replacing what it said before."""
        known = self._sources[holder]
        self._uncount_pieces(known)
        known.complete = whole
        known.pieces = pieces & ((1 << self._pieces) - 1)
        if not whole:
            self._rarity.add(known.pieces & self._missing)

    def add_pieces(self, holder: str, pieces: Iterable[int]) -> None:
        """A holder has some more pieces."""
        known = self._sources[holder]
        new = mask_of(pieces, self._pieces) & ~known.pieces
        known.pieces |= new
        if not known.complete:
            self._rarity.add(new & self._missing)

    def on_data(self, holder: str, size: int, now: float) -> None:
        """A holder sent `size` bytes of data. One that was stalled is good again."""
        self._sources[holder].on_data(size, now)

    def on_received(self, holder: str, piece: int, now: float) -> None:
        """All of a piece is here, to be verified: whatever becomes of its holder, nobody else is asked for it."""
        self._sources[holder].on_received(piece, self._length(piece), now)
        self._free &= ~(1 << piece)

    def on_verified(self, holder: str, piece: int, now: float) -> list[Cancellation]:
        """A piece is verified. Return who else need not send it any more."""
        known = self._sources[holder]
        if piece in known.requested:
            self.on_received(holder, piece, now)
        known.verifying.discard(piece)
        known.failures = 0
        self._missing &= ~(1 << piece)
        self._free &= ~(1 << piece)
        cancels = []
        for name, other in self._sources.items():
            if piece in other.requested:
                del other.requested[piece]
                cancels.append(Cancellation(name, piece))
        return cancels

    def on_failed(self, holder: str, why: str, now: float) -> None:
        """A holder's stream broke, or it refused: its pieces go to others, and it rests for a while."""
        known = self._sources.setdefault(holder, SourceState())
        self._release_all(known)
        known.partial_bytes = 0
        if known.state is not SourceStatus.DROPPED:
            known.back_off(why, now)

    def on_closed(self, holder: str, now: float) -> None:
        """A holder ended its stream in good order: no failure, but it has nothing to send just now."""
        self.on_failed(holder, "ended the stream", now)
        known = self._sources[holder]
        if known.state is SourceStatus.WAITING:
            known.failures -= 1

    def drop(self, holder: str, why: str, bad: int | None = None) -> None:
        """A holder sent what did not verify, the piece `bad`: it is out."""
        known = self._sources[holder]
        if bad is not None:
            known.verifying.discard(bad)
            self._mark_free(bad)
        self._release_all(known)
        known.state, known.why = SourceStatus.DROPPED, why

    # --------------------------------------------------------------------------------------------------- small change

    def _release_all(self, known: SourceState) -> None:
        """It has nothing for us any more: what it was asked for is free again."""
        self._release(known, list(known.requested))
        self._uncount_pieces(known)
        known.pieces = 0

    def _release(self, known: SourceState, pieces: list[int]) -> None:
        """Want some of the pieces that it was asked for no longer from this holder."""
        for piece in pieces:
            del known.requested[piece]
            self._mark_free(piece)

    def _mark_free(self, piece: int) -> None:
        if self._missing >> piece & 1 and not requests_for(self._sources.values(), piece):
            self._free |= 1 << piece

    def _uncount_pieces(self, known: SourceState) -> None:
        if not known.complete:
            self._rarity.remove(known.pieces & self._missing)
