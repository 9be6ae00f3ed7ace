"""A swarm of simulated peers around the real picker: no network, no disk, and a clock that jumps from event to event.

Each peer sends at its own rate, in blocks, to its requesters in turn. Messages travel for LATENCY seconds. The work of
`daemon.swarm.download` around the picker (requests, queries, timers) is done here in the same way.
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
QUERY_TIMES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
QUERY_INTERVAL = 10.0
CONNECTIONS = 24
MAX_HOLDERS = 30


@dataclass(eq=False)
class Peer:
    """A peer: a seeder has no picker."""

    name: str
    # Bytes per second that it sends.
    rate: float
    pieces: int
    picker: Picker | None = None
    # A frozen peer sends nothing; a gone one has left.
    frozen: bool = False
    gone: bool = False
    joined: float = 0.0
    done: float | None = None
    has: set[int] = field(default_factory=set)
    # As a holder: the pieces requested by each requester, in order, with the offset of the next block.
    queues: "dict[Peer, deque[tuple[int, int]]]" = field(default_factory=dict)
    sending: bool = False
    # As a requester.
    holders: "dict[str, Peer]" = field(default_factory=dict)
    received: Counter[int] = field(default_factory=Counter)
    sent: int = 0

    @property
    def complete(self) -> bool:
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
        """Add a peer that has the complete file."""
        peer = Peer(f"seeder{len(self.peers)}", rate, self.pieces, has=set(range(self.pieces)), done=0.0)
        self.peers.append(peer)
        return peer

    def downloader(self, rate: float, at: float = 0.0) -> Peer:
        """Add a peer that downloads the file, from the time `at` on."""
        picker = Picker(self.pieces, (), lambda piece: PIECE, choose=self.rng.randrange)
        peer = Peer(f"peer{len(self.peers)}", rate, self.pieces, picker, joined=at)
        self.peers.append(peer)
        for seconds in QUERY_TIMES:
            self.at(at + seconds, lambda: self._query(peer))
        self.at(at + TICK, lambda: self._tick(peer))
        self.at(at + QUERY_TIMES[-1] + QUERY_INTERVAL, lambda: self._query_again(peer))
        return peer

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Run `action` at a time."""
        heapq.heappush(self._events, (moment, next(self._order), action))

    def later(self, action: Callable[[], None]) -> None:
        """Run `action` after the travel time of a message."""
        self.at(self.now + LATENCY, action)

    def leave(self, peer: Peer) -> None:
        """Kill a peer: all streams to it break."""
        peer.gone = True
        peer.queues.clear()
        for other in self.peers:
            if other.holders.pop(peer.name, None) is not None and other.picker is not None:
                other.picker.on_failed(peer.name, "gone", self.now)
                self._request_pieces(other)

    def freeze(self, peer: Peer) -> None:
        """Stop all messages of a peer; its streams stay open."""
        peer.frozen = True

    def run(self, limit: float = 3600.0) -> float:
        """Run until every peer that is left has the file; return the time at which the last one had it."""
        while any(peer.done is None and not peer.gone and not peer.frozen for peer in self.peers):
            if not self._events or self.now > limit:
                raise AssertionError(f"not finished at {self.now:.1f} s: {self._stuck()}")
            self.now, _, action = heapq.heappop(self._events)
            action()
        return max(peer.done or 0.0 for peer in self.peers if not peer.gone)

    def fetched(self) -> Counter[str]:
        """The number of pieces that each downloader received, including duplicates."""
        return Counter({peer.name: peer.received.total() for peer in self.peers if peer.picker is not None})

    def _stuck(self) -> str:
        return ", ".join(
            f"{peer.name} lacks {peer.picker.missing_count}"
            for peer in self.peers
            if peer.picker is not None and peer.done is None and not peer.gone
        )

    # ------------------------------------------------------------------------------------------------------- requester

    def _query(self, peer: Peer) -> None:
        if peer.gone or peer.done is not None:
            return
        found = [p for p in self.peers if p is not peer and p.has and not p.gone and p.joined <= self.now]
        self.rng.shuffle(found)
        found.sort(key=lambda p: not p.complete)
        for holder in found[:MAX_HOLDERS]:
            self._dial(peer, holder)

    def _query_again(self, peer: Peer) -> None:
        if not peer.gone and peer.done is None:
            self._query(peer)
            self.at(self.now + QUERY_INTERVAL, lambda: self._query_again(peer))

    def _dial(self, peer: Peer, holder: Peer) -> None:
        picker = peer.picker
        if picker is None or holder.name in peer.holders or len(peer.holders) >= CONNECTIONS:
            return
        if holder.frozen or not picker.may_connect(holder.name, self.now):
            return
        peer.holders[holder.name] = holder
        has = sum(1 << piece for piece in holder.has)
        complete = holder.complete

        def on_answer() -> None:
            if not holder.gone:
                picker.add_source(holder.name, self.now)
                picker.set_pieces(holder.name, has, complete=complete)
                # What it gained while the message travelled.
                picker.add_pieces(holder.name, holder.has)
                self._request_pieces(peer)

        self.later(on_answer)

    def _tick(self, peer: Peer) -> None:
        if peer.picker is None or peer.gone or peer.done is not None:
            return
        for holder, piece in peer.picker.reassign_stalled(self.now):
            self._cancel(peer, holder, piece)
        self._request_pieces(peer)
        self.at(self.now + TICK, lambda: self._tick(peer))

    def _request_pieces(self, peer: Peer) -> None:
        picker = peer.picker
        if picker is None or peer.gone or picker.complete or not picker.should_request():
            return
        while (assignment := picker.pick(self.now)) is not None:
            if assignment.replaces:
                self._cancel(peer, assignment.replaces, assignment.piece)
            holder = peer.holders[assignment.source]
            self.later(lambda holder=holder, piece=assignment.piece: self._on_request(holder, peer, piece))  # type: ignore[misc]

    def _cancel(self, peer: Peer, holder: str, piece: int) -> None:
        found = peer.holders.get(holder)
        if found is not None:
            self.later(lambda: self._on_cancel(found, peer, piece))

    def _on_block(self, peer: Peer, holder: Peer, piece: int, offset: int) -> None:
        """A block of a piece arrived."""
        picker = peer.picker
        if picker is None or peer.gone or holder.gone or peer.done is not None:
            return
        picker.on_data(holder.name, BLOCK, self.now)
        if offset + BLOCK >= PIECE:
            peer.received[piece] += 1
            if picker.is_missing(piece):
                for other, late in picker.on_verified(holder.name, piece, self.now):
                    self._cancel(peer, other, late)
                self._on_verified(peer, piece)
        self._request_pieces(peer)

    def _on_verified(self, peer: Peer, piece: int) -> None:
        peer.has.add(piece)
        if peer.complete:
            peer.done = self.now
        if peer.frozen:
            return
        for other in self.peers:
            if other.picker is not None and peer.name in other.holders:
                self.later(lambda other=other: self._on_gained(other, peer, piece))  # type: ignore[misc]

    def _on_gained(self, other: Peer, peer: Peer, piece: int) -> None:
        if other.picker is not None and not peer.gone and other.picker.state(peer.name) is not None:
            other.picker.add_pieces(peer.name, [piece])
            self._request_pieces(other)

    # ------------------------------------------------------------------------------------------------------ holder

    def _on_request(self, holder: Peer, requester: Peer, piece: int) -> None:
        if not holder.gone:
            holder.queues.setdefault(requester, deque()).append((piece, 0))
            self._send(holder)

    def _on_cancel(self, holder: Peer, requester: Peer, piece: int) -> None:
        queue = holder.queues.get(requester, deque())
        for place, (queued, offset) in enumerate(queue):
            if queued == piece and offset == 0:
                del queue[place]
                return

    def _send(self, holder: Peer) -> None:
        """Send the next block, to the requesters in turn."""
        if holder.sending or holder.gone or holder.frozen:
            return
        for requester in [requester for requester, queue in holder.queues.items() if not queue or requester.gone]:
            del holder.queues[requester]
        if not holder.queues:
            return
        requester, queue = next(iter(holder.queues.items()))
        del holder.queues[requester]
        holder.queues[requester] = queue
        piece, offset = queue[0]
        if offset == 0 and holder.done == 0.0:
            self._report_in_flight(holder, requester, piece)
        queue[0] = (piece, offset + BLOCK)
        if offset + BLOCK >= PIECE:
            queue.popleft()
        holder.sending = True
        holder.sent += BLOCK

        def sent() -> None:
            holder.sending = False
            if not holder.frozen:
                self.later(lambda: self._on_block(requester, holder, piece, offset))
            self._send(holder)

        self.at(self.now + BLOCK / holder.rate, sent)

    def _report_in_flight(self, holder: Peer, requester: Peer, piece: int) -> None:
        """A seeder reports to its other requesters which piece it sends to one of them."""
        for other in self.peers:
            if other is not requester and other.picker is not None and holder.name in other.holders:
                self.later(lambda other=other: self._on_in_flight(other, holder, piece))  # type: ignore[misc]

    def _on_in_flight(self, other: Peer, holder: Peer, piece: int) -> None:
        if other.picker is not None and other.picker.state(holder.name) is not None:
            for name, late in other.picker.on_in_flight_elsewhere(holder.name, [piece], self.now):
                self._cancel(other, name, late)
            self._request_pieces(other)


def state_of(peer: Peer, holder: Peer) -> SourceStatus | None:
    """The status of a holder at a peer."""
    return peer.picker.state(holder.name) if peer.picker is not None else None
