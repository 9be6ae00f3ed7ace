"""A swarm of simulated peers around the real picker: no network, no disk, and a clock that jumps from event to event.

Each peer sends at its own rate, in blocks, to one asker after another; news travel for LATENCY seconds. What the swarm
module does around the picker (asking, looking for holders, taking pieces from the silent) is done here in the same way.
"""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.swarm.piece_picker import Picker
from daemon.swarm.source import SourceStatus

PIECE = 1 << 20
BLOCK = 256 << 10
LATENCY = 0.002
TICK = 0.25
LOOKS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
LOOK_EVERY = 10.0
CONNECTIONS = 24
ANSWER = 30


@dataclass(eq=False)
class Peer:
    """A peer: a seeder has no picker."""

    name: str
    # Bytes per second that it sends.
    rate: float
    pieces: int
    picker: Picker | None = None
    # Seconds after which it leaves, and what it does wrong.
    frozen: bool = False
    gone: bool = False
    joined: float = 0.0
    done: float | None = None
    has: set[int] = field(default_factory=set)
    # Holder's side: what each asker wants, in order; the asker's block that is on its way.
    queues: "dict[Peer, deque[tuple[int, int]]]" = field(default_factory=dict)
    sending: bool = False
    # Asker's side.
    holders: "dict[str, Peer]" = field(default_factory=dict)
    received: Counter[int] = field(default_factory=Counter)
    sent: int = 0

    @property
    def whole(self) -> bool:
        return len(self.has) == self.pieces


class Simulation:
    """The swarm of one file. Add peers, then `run`."""

    def __init__(self, pieces: int, seed: int) -> None:
        self.pieces = pieces
        self.rng = random.Random(seed)
        self.now = 0.0
        self.peers: list[Peer] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def seeder(self, rate: float) -> Peer:
        """Add a peer that has all of it."""
        peer = Peer(f"seeder{len(self.peers)}", rate, self.pieces, has=set(range(self.pieces)), done=0.0)
        self.peers.append(peer)
        return peer

    def downloader(self, rate: float, at: float = 0.0) -> Peer:
        """Add a peer that wants it, from a moment on."""
        picker = Picker(self.pieces, (), lambda piece: PIECE, choose=self.rng.randrange)
        peer = Peer(f"peer{len(self.peers)}", rate, self.pieces, picker, joined=at)
        self.peers.append(peer)
        for look in LOOKS:
            self.at(at + look, lambda: self._look(peer))
        self.at(at + TICK, lambda: self._tick(peer))
        self.at(at + LOOKS[-1] + LOOK_EVERY, lambda: self._look_again(peer))
        return peer

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (moment, next(self._order), action))

    def later(self, action: Callable[[], None]) -> None:
        """Have something happen when news have travelled."""
        self.at(self.now + LATENCY, action)

    def leave(self, peer: Peer) -> None:
        """A peer's process dies: everybody's stream to it breaks."""
        peer.gone = True
        peer.queues.clear()
        for other in self.peers:
            if other.holders.pop(peer.name, None) is not None and other.picker is not None:
                other.picker.on_failed(peer.name, "gone", self.now)
                self._pump(other)

    def freeze(self, peer: Peer) -> None:
        """A peer sends nothing any more, and says nothing."""
        peer.frozen = True

    def run(self, most: float = 3600.0) -> float:
        """Go on until every peer that is there has the file; return when the last one had it."""
        while any(peer.done is None and not peer.gone and not peer.frozen for peer in self.peers):
            if not self._events or self.now > most:
                raise AssertionError(f"no end in sight at {self.now:.1f} s: {self._stuck()}")
            self.now, _, action = heapq.heappop(self._events)
            action()
        return max(peer.done or 0.0 for peer in self.peers if not peer.gone)

    def fetched(self) -> Counter[str]:
        """How many pieces each downloader received, those that came twice included."""
        return Counter({peer.name: peer.received.total() for peer in self.peers if peer.picker is not None})

    def _stuck(self) -> str:
        return ", ".join(
            f"{peer.name} lacks {peer.picker.missing_count}"
            for peer in self.peers
            if peer.picker is not None and peer.done is None and not peer.gone
        )

    # ------------------------------------------------------------------------------------------------------- the asker

    def _look(self, peer: Peer) -> None:
        if peer.gone or peer.done is not None:
            return
        found = [p for p in self.peers if p is not peer and p.has and not p.gone and p.joined <= self.now]
        self.rng.shuffle(found)
        found.sort(key=lambda p: not p.whole)
        for holder in found[:ANSWER]:
            self._dial(peer, holder)

    def _look_again(self, peer: Peer) -> None:
        if not peer.gone and peer.done is None:
            self._look(peer)
            self.at(self.now + LOOK_EVERY, lambda: self._look_again(peer))

    def _dial(self, peer: Peer, holder: Peer) -> None:
        picker = peer.picker
        if picker is None or holder.name in peer.holders or len(peer.holders) >= CONNECTIONS:
            return
        if holder.frozen or not picker.may_connect(holder.name, self.now):
            return
        peer.holders[holder.name] = holder
        has = sum(1 << piece for piece in holder.has)
        whole = holder.whole

        def hear() -> None:
            if not holder.gone:
                picker.add_source(holder.name, self.now)
                picker.set_pieces(holder.name, has, complete=whole)
                # What it gained while the word travelled.
                picker.add_pieces(holder.name, holder.has)
                self._pump(peer)

        self.later(hear)

    def _tick(self, peer: Peer) -> None:
        if peer.picker is None or peer.gone or peer.done is not None:
            return
        for holder, piece in peer.picker.reassign_stalled(self.now):
            self._cancel(peer, holder, piece)
        self._pump(peer)
        self.at(self.now + TICK, lambda: self._tick(peer))

    def _pump(self, peer: Peer) -> None:
        picker = peer.picker
        if picker is None or peer.gone or picker.complete or not picker.should_request():
            return
        while (ask := picker.pick(self.now)) is not None:
            if ask.replaces:
                self._cancel(peer, ask.replaces, ask.piece)
            holder = peer.holders[ask.source]
            self.later(lambda holder=holder, piece=ask.piece: self._asked(holder, peer, piece))  # type: ignore[misc]

    def _cancel(self, peer: Peer, holder: str, piece: int) -> None:
        found = peer.holders.get(holder)
        if found is not None:
            self.later(lambda: self._cancelled(found, peer, piece))

    def _heard(self, peer: Peer, holder: Peer, piece: int, offset: int) -> None:
        """A block of a piece arrives."""
        picker = peer.picker
        if picker is None or peer.gone or holder.gone or peer.done is not None:
            return
        picker.on_data(holder.name, BLOCK, self.now)
        if offset + BLOCK >= PIECE:
            peer.received[piece] += 1
            if picker.is_missing(piece):
                for other, late in picker.on_verified(holder.name, piece, self.now):
                    self._cancel(peer, other, late)
                self._gained(peer, piece)
        self._pump(peer)

    def _gained(self, peer: Peer, piece: int) -> None:
        peer.has.add(piece)
        if peer.whole:
            peer.done = self.now
        if peer.frozen:
            return
        for other in self.peers:
            if other.picker is not None and peer.name in other.holders:
                self.later(lambda other=other: self._told(other, peer, piece))  # type: ignore[misc]

    def _told(self, other: Peer, peer: Peer, piece: int) -> None:
        if other.picker is not None and not peer.gone and other.picker.state(peer.name) is not None:
            other.picker.add_pieces(peer.name, [piece])
            self._pump(other)

    # ------------------------------------------------------------------------------------------------------ the holder

    def _asked(self, holder: Peer, asker: Peer, piece: int) -> None:
        if not holder.gone:
            holder.queues.setdefault(asker, deque()).append((piece, 0))
            self._send(holder)

    def _cancelled(self, holder: Peer, asker: Peer, piece: int) -> None:
        queue = holder.queues.get(asker, deque())
        for place, (queued, offset) in enumerate(queue):
            if queued == piece and offset == 0:
                del queue[place]
                return

    def _send(self, holder: Peer) -> None:
        """Send the next block, to the askers in turn."""
        if holder.sending or holder.gone or holder.frozen:
            return
        for asker in [asker for asker, queue in holder.queues.items() if not queue or asker.gone]:
            del holder.queues[asker]
        if not holder.queues:
            return
        asker, queue = next(iter(holder.queues.items()))
        del holder.queues[asker]
        holder.queues[asker] = queue
        piece, offset = queue[0]
        if offset == 0 and holder.done == 0.0:
            self._give(holder, asker, piece)
        queue[0] = (piece, offset + BLOCK)
        if offset + BLOCK >= PIECE:
            queue.popleft()
        holder.sending = True
        holder.sent += BLOCK

        def sent() -> None:
            holder.sending = False
            if not holder.frozen:
                self.later(lambda: self._heard(asker, holder, piece, offset))
            self._send(holder)

        self.at(self.now + BLOCK / holder.rate, sent)

    def _give(self, holder: Peer, asker: Peer, piece: int) -> None:
        """A seeder tells the others what is on its way to one of them."""
        for other in self.peers:
            if other is not asker and other.picker is not None and holder.name in other.holders:
                self.later(lambda other=other: self._promised(other, holder, piece))  # type: ignore[misc]

    def _promised(self, other: Peer, holder: Peer, piece: int) -> None:
        if other.picker is not None and other.picker.state(holder.name) is not None:
            for name, late in other.picker.on_in_flight_elsewhere(holder.name, [piece], self.now):
                self._cancel(other, name, late)
            self._pump(other)


def state_of(peer: Peer, holder: Peer) -> SourceStatus | None:
    """What a peer thinks of a holder."""
    return peer.picker.state(holder.name) if peer.picker is not None else None
