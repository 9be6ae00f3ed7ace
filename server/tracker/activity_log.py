"""The last events, placements and fetches, for the dashboard. Bounded and in memory; decides nothing."""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import NamedTuple

from tracker.index import Index
from tracker.models import IndexEntry, Session, UploadTarget

HOURS_PER_DAY = 24
# Characters stored of a text from outside.
MAX_DETAIL_LENGTH = 200
# Fetches recorded of one announcement, and holders named for each: what the dashboard can show.
MAX_LISTED = 20
# Pairs of a peer and an id that it queried, the latest: enough for what the dashboard shows.
MAX_QUERIED = 10_000
# Too frequent to list; a placement is recorded with more details than its event has. An unknown user is no error, and
# the name may be a password that was typed into the wrong field.
_UNLISTED_EVENTS = frozenset({"reindexed", "placed", "unknown_user"})


class Placement(NamedTuple):
    """A receiver that the tracker chose for a copy. `at` is server_time; `uploader` and `receiver` are addresses."""

    at: float
    name: str
    uploader: str
    receiver: str
    why: str


class Fetch(NamedTuple):
    """Content that a peer queried and then announced, complete or partial.

    `at` is server_time; `requester` and `holders` are addresses. The holders had the content before.
    """

    at: float
    name: str
    id: bytes
    size: int
    requester: str
    holders: Sequence[str]
    complete: bool


class LoggedEvent(NamedTuple):
    """An event of tracker.events, its details as short texts. `at` is server_time."""

    at: float
    event: str
    details: Mapping[str, str]


class ActivityLog:
    """The latest placements, fetches and events, oldest first, and counts of events per hour. Thread-safe."""

    def __init__(self, server_time: Callable[[], float], length: int = 100) -> None:
        """Create an empty log.

        Args:
            server_time: the tracker's clock, in Unix seconds.
            length: entries stored of placements, of fetches, and of each kind of event.
        """
        self._server_time = server_time
        self._length = length
        self._lock = threading.Lock()
        self._placements: deque[Placement] = deque(maxlen=length)
        self._fetches: deque[Fetch] = deque(maxlen=length)
        # By peer id; the peer that queried last is the last.
        self._queried: OrderedDict[str, set[bytes]] = OrderedDict()
        self._queried_count = 0
        # One queue per kind: many events of one kind do not push out the others.
        self._events: dict[str, deque[LoggedEvent]] = {}
        self._hourly_counts: Counter[tuple[str, int]] = Counter()

    def add_placements(self, uploader: str, targets: Sequence[UploadTarget]) -> None:
        """Record that the tracker chose receivers for the peer at the address `uploader`."""
        now = self._server_time()
        last = [Placement(now, each.name, uploader, each.address, each.why) for each in targets[-self._length :]]
        with self._lock:
            self._placements.extend(last)

    def note_queried(self, peer_id: str, ids: Set[bytes]) -> None:
        """Record that a peer queried the holders of ids. Of MAX_QUERIED the oldest are dropped, peer by peer."""
        with self._lock:
            own = self._queried.setdefault(peer_id, set())
            self._queried.move_to_end(peer_id)
            if len(own) + len(ids) > MAX_QUERIED:
                self._queried_count -= len(own)
                own.clear()
            before = len(own)
            own |= ids
            self._queried_count += len(own) - before
            while self._queried_count > MAX_QUERIED:
                _, dropped = self._queried.popitem(last=False)
                self._queried_count -= len(dropped)

    def queried_by(self, peer_id: str) -> Set[bytes]:
        """Return the ids that a peer queried, as far as they are recorded."""
        return self._queried.get(peer_id, frozenset())

    def add_fetches(self, fetches: Sequence[Fetch]) -> None:
        """Record what `detect_fetches` found."""
        with self._lock:
            self._fetches.extend(fetches)

    def on_event(self, event: str, details: Mapping[str, object]) -> None:
        """Record an event; a listener of tracker.events."""
        if event in _UNLISTED_EVENTS:
            return
        now = self._server_time()
        hour = int(now // 3600)
        entry = LoggedEvent(now, event, {key: str(value)[:MAX_DETAIL_LENGTH] for key, value in details.items()})
        with self._lock:
            if not self._hourly_counts[event, hour]:
                for old in [key for key in self._hourly_counts if key[1] <= hour - HOURS_PER_DAY]:
                    del self._hourly_counts[old]
            self._hourly_counts[event, hour] += 1
            self._events.setdefault(event, deque(maxlen=self._length)).append(entry)

    def placements(self) -> list[Placement]:
        """Return the latest placements, oldest first."""
        with self._lock:
            return list(self._placements)

    def fetches(self) -> list[Fetch]:
        """Return the latest fetches, oldest first."""
        with self._lock:
            return list(self._fetches)

    def events(self) -> list[LoggedEvent]:
        """Return the latest events of all kinds, oldest first."""
        with self._lock:
            return sorted((event for kind in self._events.values() for event in kind), key=lambda event: event.at)

    def count_last_day(self) -> Counter[str]:
        """Count the events of the last 24 hours by kind, to the hour."""
        since = int(self._server_time() // 3600) - HOURS_PER_DAY
        with self._lock:
            counts: Counter[str] = Counter()
            for (event, hour), count in self._hourly_counts.items():
                if hour > since:
                    counts[event] += count
            return counts


def detect_fetches(
    index: Index, queried: Set[bytes], session: Session, files: Collection[IndexEntry], now: float
) -> list[Fetch]:
    """Find in an announcement what the peer has downloaded: transfers go from peer to peer, unseen by the tracker.

    Must be called before the index applies the announcement, while it still shows what the peer had.

    Args:
        index: the index before the announcement.
        queried: ids whose holders the peer has queried.
        session: the peer that announces.
        files: the announced entries.
        now: server_time.

    Returns:
        At most MAX_LISTED entries that the peer had queried, and that are new or newly complete.
    """
    requested = [each for each in files if each[1] in queried] if queried else []
    if not requested:
        return []
    before = index.holders((session.peer_id, each[1]) for each in requested)
    new = [
        each
        for each, holder in zip(requested, before, strict=True)
        if holder is None or (each[3] and not holder.complete)
    ][:MAX_LISTED]
    holders = index.some_holders([each[1] for each in new], MAX_LISTED)
    return [
        Fetch(now, *each[:3], session.address, [h.session.address for h in some if h.session != session], each[3])
        for each, some in zip(new, holders, strict=True)
    ]
