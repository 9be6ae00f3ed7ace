"""The online peers of the index in memory: by id, by address, by last ping. Not thread-safe; knows no clock."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from random import Random

from tracker.index_entries import PeerFiles
from tracker.models import Session


class OnlinePeers:
    """The peers that sent a ping lately."""

    def __init__(self, rng: Random) -> None:
        """Create without peers; `rng` chooses samples."""
        self._rng = rng
        # In order of last ping.
        self._peers: OrderedDict[str, PeerFiles] = OrderedDict()
        # The same peers, each at its `position`: a sample of them costs no list of all.
        self._list: list[PeerFiles] = []
        self._by_address: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._peers

    def __iter__(self) -> Iterator[PeerFiles]:
        """Iterate over the peers, the longest silent first."""
        return iter(self._peers.values())

    def get(self, peer_id: str) -> PeerFiles | None:
        """Return a peer; None if it is not online."""
        return self._peers.get(peer_id)

    def refresh(self, session: Session, now: float) -> PeerFiles:
        """Record a ping of a session's peer, which may be new."""
        peer = self._peers.get(session.peer_id)
        if peer is None:
            peer = self._peers[session.peer_id] = PeerFiles(session, now, len(self._list))
            self._list.append(peer)
            self._by_address.setdefault(session.address, set()).add(session.peer_id)
        else:
            peer.last_ping = now
            self._peers.move_to_end(session.peer_id)
        return peer

    def remove(self, peer_id: str) -> PeerFiles | None:
        """Remove a peer and return it; None if it is not online."""
        peer = self._peers.pop(peer_id, None)
        if peer is not None:
            last = self._list.pop()
            if last is not peer:
                self._list[peer.position], last.position = last, peer.position
            self._forget_address(peer)
        return peer

    def move(self, session: Session) -> None:
        """Give the peer of a session the session's address; nothing happens if it is not online."""
        peer = self._peers.get(session.peer_id)
        if peer is not None:
            self._forget_address(peer)
            peer.session = session
            self._by_address.setdefault(session.address, set()).add(session.peer_id)

    def silent_since(self, due: float) -> PeerFiles | None:
        """Return the peer whose last ping is the oldest, if it is not later than `due`."""
        peer = next(iter(self._peers.values()), None)
        return peer if peer is not None and peer.last_ping <= due else None

    def at(self, address: str) -> Collection[str]:
        """Return the ids of the peers at an address."""
        return self._by_address.get(address, ())

    def sample(self, limit: int) -> Sequence[PeerFiles]:
        """Return `limit` peers at random, or all if there are no more."""
        return self._list if len(self._list) <= limit else self._rng.sample(self._list, limit)

    def _forget_address(self, peer: PeerFiles) -> None:
        here = self._by_address[peer.session.address]
        here.discard(peer.session.peer_id)
        if not here:
            del self._by_address[peer.session.address]
