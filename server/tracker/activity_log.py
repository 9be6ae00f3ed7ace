"""The last events worth showing to people: bounded, in memory. Decides nothing."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

HOURS_PER_DAY = 24
# Texts from outside are kept to a length: a hundred of them are in memory.
_KEPT = 200
# Too frequent to be worth a line each; placements are noted with more than an event tells.
_DULL = frozenset({"reindexed", "placed"})


class Placement(NamedTuple):
    """A copy that the tracker found a place for. `at` is server_time."""

    at: float
    name: str
    id: bytes
    size: int
    uploader: str
    receiver: str
    why: str


class Fetch(NamedTuple):
    """Contents that a peer was given tickets for and then announced, in part or whole; `holders` had them before."""

    at: float
    name: str
    id: bytes
    size: int
    requester: str
    holders: Sequence[str]
    complete: bool


class LoggedEvent(NamedTuple):
    """An event of tracker.events, its details as short texts."""

    at: float
    event: str
    details: Mapping[str, str]


class ActivityLog:
    """The latest placements, fetches and happenings of each kind, newest last; and how often each happened lately."""

    def __init__(self, server_time: Callable[[], float], length: int = 100) -> None:
        self._server_time = server_time
        self._length = length
        self._lock = threading.Lock()
        self._placements: deque[Placement] = deque(maxlen=length)
        self._fetches: deque[Fetch] = deque(maxlen=length)
        # Kinds apart, so that a flood of one does not wash away another.
        self._happenings: dict[str, deque[LoggedEvent]] = {}
        self._hours: Counter[tuple[str, int]] = Counter()

    def add_placement(self, placement: Placement) -> None:
        with self._lock:
            self._placements.append(placement)

    def add_fetches(self, fetches: Sequence[Fetch]) -> None:
        with self._lock:
            self._fetches.extend(fetches)

    def on_event(self, event: str, details: Mapping[str, object]) -> None:
        """Note an event; called by tracker.events."""
        if event in _DULL:
            return
        now = self._server_time()
        hour = int(now // 3600)
        kept = LoggedEvent(now, event, {key: str(value)[:_KEPT] for key, value in details.items()})
        with self._lock:
            if not self._hours[event, hour]:
                for old in [key for key in self._hours if key[1] <= hour - HOURS_PER_DAY]:
                    del self._hours[old]
            self._hours[event, hour] += 1
            self._happenings.setdefault(event, deque(maxlen=self._length)).append(kept)

    def placements(self) -> list[Placement]:
        with self._lock:
            return list(self._placements)

    def fetches(self) -> list[Fetch]:
        with self._lock:
            return list(self._fetches)

    def events(self) -> list[LoggedEvent]:
        """Those kept, of all kinds, newest last."""
        with self._lock:
            return sorted((h for kind in self._happenings.values() for h in kind), key=lambda h: h.at)

    def count_last_day(self) -> Counter[str]:
        """How often each event happened in the last 24 hours, to the hour."""
        since = int(self._server_time() // 3600) - HOURS_PER_DAY
        with self._lock:
            counts: Counter[str] = Counter()
            for (event, hour), count in self._hours.items():
                if hour > since:
                    counts[event] += count
            return counts
