"""Which piece to request next, and from which source. Pure: no I/O, and the time is an argument.

Rules:
- Rarest first (`source.RarityLevels`). Among equally rare pieces the one after the last requested of that source wins,
  so that disks read on. Each source starts at a random piece, so that two downloads seldom want the same one.
- A piece goes to the source with the shortest queue in seconds, by its measured rate.
- Each source may have one or two requests at any time: a slow source never uses up the requests of a fast one.
- A complete source is asked for the pieces that no partial source has. A piece that it is sending to another requester
  (`source.InFlightElsewhere`) is not requested until it is late, and a request that has not started is cancelled.
  Simulated swarms of 8 finish at 1.01 times the time that the seeder needs to send the file once, of 30 at 1.07.
  Without this rule they finish at 2.5 times and more.
- A source that failed is retried later, one that is idle loses its requests until it sends again, one that sent corrupt
  data is dropped.
- When no piece is left to request, an idle source takes over a late piece (`endgame`).

Invariants: each missing piece is either free, requested, or being verified; its rarity level is the number of partial
sources that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from daemon.storage.bitmap import mask_of
from daemon.swarm.endgame import find_takeover
from daemon.swarm.source import RarityLevels, SourceState, SourceStatus, requests_for

# Pieces requested and not yet verified, beside `_MIN_QUEUE` of each source: what a SIGKILL can cost.
MAX_IN_FLIGHT = 8
# A source may have this many requests at any time, so that it does not wait for a request between two pieces. Until its
# rate is known it gets no more.
_MIN_QUEUE = 2
# A source gets work for this many seconds. More would only wait there while another source could send it.
_QUEUE_MAX_SECONDS = 1.0
# A source that sends nothing for this many seconds loses its requests to other sources.
SOURCE_IDLE_TIMEOUT = 5.0
# A piece may take _PIECE_TIMEOUT seconds, and the time of its size at MIN_RATE, the slowest accepted rate in bytes per
# second.
_PIECE_TIMEOUT, MIN_RATE = 10.0, 64 << 10
# A partial file is announced if it has more pieces than this, or takes a while. Shorter files ignore what is in flight
# to other requesters, because no other peer could be asked for those pieces.
PARTIAL_MIN_PIECES = 16
# Above this rate, in bytes per second, half of MAX_IN_FLIGHT lasts longer than a request travels.
_FAST_RATE = 100 << 20


class Assignment(NamedTuple):
    """A piece to request from a source."""

    source: str
    piece: int
    # The most bytes in one block.
    block_length: int
    # The source whose request this one replaces, because it has not started the piece; "" if there is none.
    replaces: str = ""


class Cancellation(NamedTuple):
    """A request to cancel: this source need not send this piece."""

    source: str
    piece: int


class SourceInfo(NamedTuple):
    """A snapshot of one source."""

    source: str
    state: SourceStatus
    # The reason of a state other than ACTIVE.
    reason: str
    # Bytes per second while it had something to send; 0 if unknown.
    rate: float
    # All bytes that it has sent.
    bytes: int


class Picker:
    """The pieces and sources of one download. Sources are named by address, pieces by number; sets have bit i for i."""

    def __init__(
        self,
        pieces: int,
        have: Iterable[int],
        length: Callable[[int], int],
        *,
        choose: Callable[[int], int],
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        """Create a picker without sources.

        Args:
            pieces: The number of pieces.
            have: The numbers of the verified pieces.
            length: Returns the bytes of a piece.
            choose: Returns a random number below its argument.
            max_in_flight: Pieces requested and not yet verified, beside one or two of each source.
        """
        self._pieces = pieces
        self._length = length
        self._choose = choose
        self._max_in_flight = max_in_flight
        self._missing = (1 << pieces) - 1
        for piece in have:
            self._missing &= ~(1 << piece)
        # Missing pieces that are neither requested nor being verified.
        self._free = self._missing
        self._rarity = RarityLevels(pieces)
        self._sources: dict[str, SourceState] = {}

    # ---------------------------------------------------------------------------------------------------------- state

    @property
    def complete(self) -> bool:
        """Whether every piece is verified."""
        return not self._missing

    @property
    def missing_count(self) -> int:
        """The number of pieces that are not verified."""
        return self._missing.bit_count()

    @property
    def in_flight(self) -> int:
        """The number of pieces that are requested or being verified."""
        return (self._missing & ~self._free).bit_count()

    @property
    def free(self) -> int:
        """The set of missing pieces that are neither requested nor being verified."""
        return self._free

    @property
    def rarity(self) -> RarityLevels:
        """The rarity of the pieces among partial sources. Read-only."""
        return self._rarity

    def is_missing(self, piece: int) -> bool:
        """Return whether a piece is not verified yet."""
        return bool(self._missing >> piece & 1)

    def sources(self) -> list[SourceInfo]:
        """Return a snapshot of all sources, in the order in which they were added."""
        return [SourceInfo(name, s.state, s.reason, s.rate, s.received_bytes) for name, s in self._sources.items()]

    def state(self, source: str) -> SourceStatus | None:
        """Return the status of a source; None if it was never added."""
        known = self._sources.get(source)
        return known.state if known else None

    def requested(self, source: str) -> list[int]:
        """Return the pieces requested from a source, in order of request."""
        known = self._sources.get(source)
        return list(known.requested) if known else []

    def is_useful(self, source: str) -> bool:
        """Return whether a source has a missing piece."""
        known = self._sources.get(source)
        return bool(known and known.pieces & self._missing)

    def may_connect(self, source: str, now: float) -> bool:
        """Return whether a source that is not connected may be tried now."""
        known = self._sources.get(source)
        return known is None or (known.state is SourceStatus.WAITING and now >= known.retry_at)

    # --------------------------------------------------------------------------------------------------------- events

    def add_source(self, source: str, now: float) -> None:
        """Activate a source that answered. A dropped source stays dropped."""
        known = self._sources.get(source)
        if known is None:
            self._sources[source] = SourceState(last_progress=now, next_index=self._choose(max(1, self._pieces)))
        elif known.state is not SourceStatus.DROPPED:
            known.state, known.reason, known.last_progress = SourceStatus.ACTIVE, "", now

    def set_pieces(self, source: str, pieces: int, *, complete: bool) -> None:
        """Replace the set of pieces that a source has."""
        known = self._sources[source]
        self._uncount_pieces(known)
        known.complete = complete
        known.pieces = pieces & ((1 << self._pieces) - 1)
        if not complete:
            self._rarity.add(known.pieces & self._missing)

    def add_pieces(self, source: str, pieces: Iterable[int]) -> None:
        """Add pieces that a source gained. Numbers that are no piece of the file are ignored."""
        known = self._sources[source]
        new = mask_of(pieces, self._pieces) & ~known.pieces
        known.pieces |= new
        if not known.complete:
            self._rarity.add(new & self._missing)

    def on_data(self, source: str, size: int, now: float) -> None:
        """Count `size` bytes that a source sent. A stalled source becomes active again."""
        self._sources[source].on_data(size, now)

    def on_received(self, source: str, piece: int, now: float) -> None:
        """Record that all of a piece arrived. No other source is asked for it while it is verified."""
        self._sources[source].on_received(piece, self._length(piece), now)
        self._free &= ~(1 << piece)

    def on_verified(self, source: str, piece: int, now: float) -> list[Cancellation]:
        """Record a verified piece; return the requests for it at other sources."""
        known = self._sources[source]
        if piece in known.requested:
            self.on_received(source, piece, now)
        known.verifying.discard(piece)
        known.failures = 0
        self._missing &= ~(1 << piece)
        self._free &= ~(1 << piece)
        cancellations = []
        for name, other in self._sources.items():
            if piece in other.requested:
                del other.requested[piece]
                cancellations.append(Cancellation(name, piece))
        return cancellations

    def on_in_flight_elsewhere(self, source: str, pieces: Iterable[int], now: float) -> list[Cancellation]:
        """Record pieces that a source is sending to other requesters, which will announce them soon.

        Returns:
            The requests for them at this source that it cannot have started.
        """
        if self._pieces <= PARTIAL_MIN_PIECES:
            return []
        known = self._sources[source]
        named = mask_of(pieces, self._pieces) & self._missing
        known.in_flight_elsewhere.add(named, self._length(0), known.rate, now)
        spared = [piece for piece in known.not_started() if named >> piece & 1]
        self._release(known, spared)
        return [Cancellation(source, piece) for piece in spared]

    def on_failed(self, source: str, reason: str, now: float) -> None:
        """Record that a stream broke or was refused: its requests are free again, and it is retried later."""
        known = self._sources.setdefault(source, SourceState())
        self._release_all(known)
        known.partial_bytes = 0
        if known.state is not SourceStatus.DROPPED:
            known.back_off(reason, now)

    def on_closed(self, source: str, now: float) -> None:
        """Record that a source closed its stream in good order: retried later, but no failure."""
        self.on_failed(source, "closed the stream", now)
        known = self._sources[source]
        if known.state is SourceStatus.WAITING:
            known.failures -= 1

    def drop(self, source: str, reason: str, corrupt: int | None = None) -> None:
        """Never ask a source again. `corrupt` is the piece that it sent and that did not verify."""
        known = self._sources[source]
        if corrupt is not None:
            known.verifying.discard(corrupt)
            self._mark_free(corrupt)
        self._release_all(known)
        known.state, known.reason = SourceStatus.DROPPED, reason

    def reassign_stalled(self, now: float) -> list[Cancellation]:
        """Free the requests at sources that are idle or late; return them.

        A piece that no other active source has stays requested: slow is better than never.
        """
        cancellations = []
        for name, known in self._sources.items():
            if not known.requested or known.state is not SourceStatus.ACTIVE:
                continue
            head = next(iter(known.requested))
            idle = now - known.last_progress
            late = now - known.piece_started - _PIECE_TIMEOUT - self._length(head) / MIN_RATE
            if idle < SOURCE_IDLE_TIMEOUT and late < 0:
                continue
            elsewhere = 0
            for other in self._sources.values():
                if other is not known and other.state is SourceStatus.ACTIVE:
                    elsewhere |= other.pieces
            lost = [piece for piece in known.requested if elsewhere >> piece & 1]
            if not lost:
                continue
            known.state = SourceStatus.STALLED
            known.reason = f"sent nothing for {idle:.0f} s" if idle >= SOURCE_IDLE_TIMEOUT else "too slow for its piece"
            self._release(known, lost)
            cancellations += [Cancellation(name, piece) for piece in lost]
        return cancellations

    # --------------------------------------------------------------------------------------------------------- choice

    def should_request(self) -> bool:
        """Return whether to request more now.

        Fast sources are asked for several pieces at a time, because each message costs the same.
        """
        rate = sum(source.rate for source in self._sources.values())
        if rate <= _FAST_RATE:
            return True
        # Requests at slow sources must not let the fast ones wait.
        fast = sum(len(source.requested) for source in self._sources.values() if 8 * source.rate > rate)
        return fast <= self._max_in_flight // 2

    def pick(self, now: float) -> Assignment | None:
        """Choose the next piece and its source, and record the request; None if nothing should be requested now."""
        full = self.in_flight >= self._max_in_flight
        fallback: tuple[str, SourceState, int] | None = None
        for _, name, known in self._sources_by_queue():
            if full and len(known.requested) >= _MIN_QUEUE:
                continue
            candidates = known.pieces & self._free
            if known.complete:
                known.in_flight_elsewhere.expire(now)
                candidates &= ~known.in_flight_elsewhere.pieces
                unshared = candidates & self._rarity.unshared
                if candidates and not unshared and fallback is None:
                    fallback = name, known, candidates
                candidates = unshared
            if candidates:
                return self._assign_rarest(candidates, name, known, now)
        if fallback is not None:
            name, known, candidates = fallback
            return self._assign_rarest(candidates, name, known, now)
        return self._assign_takeover(now)

    def _sources_by_queue(self) -> list[tuple[float, str, SourceState]]:
        """Return the sources that may get a request, the shortest queue in seconds first; untried sources lead."""
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
        """Request the rarest candidate: the one after the last request, or a random one if the source has a swarm.

        Requesters of one seeder would otherwise all want the same piece next.
        """
        start = self._choose(self._pieces) if known.in_flight_elsewhere.pieces else known.next_index
        return self._assign(name, known, self._rarity.rarest(candidates, start), now)

    def _assign_takeover(self, now: float) -> Assignment | None:
        found = find_takeover(self._sources, self._free, self._length, now)
        if found is None:
            return None
        assignment = self._assign(found.idle, self._sources[found.idle], found.piece, now)
        if found.started:
            return assignment
        late = self._sources[found.late]
        del late.requested[found.piece]
        late.was_preempted = True
        return assignment._replace(replaces=found.late)

    def _assign(self, name: str, known: SourceState, piece: int, now: float) -> Assignment:
        known.on_request(piece, now)
        self._free &= ~(1 << piece)
        return Assignment(name, piece, known.block_length)

    # ------------------------------------------------------------------------------------------------------- internal

    def _release_all(self, known: SourceState) -> None:
        """Free all requests at a source and forget its pieces."""
        self._release(known, list(known.requested))
        self._uncount_pieces(known)
        known.pieces = 0

    def _release(self, known: SourceState, pieces: list[int]) -> None:
        for piece in pieces:
            del known.requested[piece]
            self._mark_free(piece)

    def _mark_free(self, piece: int) -> None:
        if self._missing >> piece & 1 and not requests_for(self._sources.values(), piece):
            self._free |= 1 << piece

    def _uncount_pieces(self, known: SourceState) -> None:
        if not known.complete:
            self._rarity.remove(known.pieces & self._missing)
