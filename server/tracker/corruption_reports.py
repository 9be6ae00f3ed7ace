"""Reports of corrupt data: which holders are suspect for which ids. In memory, no I/O.

A report has two effects. For the reporter's user the holder comes last for that id until the holder's session ends,
which can harm no other user. For all users it comes last too, and is asked to hash the file again; this needs the
ticket by which the tracker offered the holder (tracker.service checks it). This second effect
ends when the holder announces the file anew, or RECHECK_TIMEOUT after it was asked; further reports about the pair have
it only after REPORT_COOLDOWN. So however many accounts report an honest holder, it comes last for a while and hashes a
file at most once an hour. A holder that finds its copy corrupt withdraws it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass

# Seconds for a holder to hash a file again and announce it, after which it counts as checked.
RECHECK_TIMEOUT = 120.0
# Seconds between two rechecks of one id at one holder.
REPORT_COOLDOWN = 3600.0
# Pairs of holder and id, and triples with the user, that are stored; the oldest are dropped.
MAX_REPORTS = 50_000
MAX_RECHECKS_PER_PING = 100


@dataclass(slots=True)
class _Suspicion:
    """A reported pair of holder and id; times are of the monotonic clock."""

    raised: float
    # When the holder was asked to hash the file again; None until its next ping.
    recheck_sent: float | None = None
    cleared: bool = False


class CorruptionReports:
    """Suspicions by (holder, id), and by (user, holder, id). Thread-safe."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Create without reports; `now` is a monotonic clock, in seconds."""
        self._now = now
        self._lock = threading.Lock()
        self._suspicions: OrderedDict[tuple[str, bytes], _Suspicion] = OrderedDict()
        self._by_user: OrderedDict[tuple[str, str, bytes], None] = OrderedDict()
        self._to_recheck: dict[str, list[bytes]] = {}

    def report_corrupt(self, user: str, holder_id: str, file_id: bytes, *, for_all_users: bool) -> None:
        """Record a report that a holder served corrupt data.

        Args:
            user: the reporter's user.
            holder_id: peer id of the holder.
            file_id: the id.
            for_all_users: whether the reporter has proved that the tracker offered it the holder; else the report has
                only its first effect.
        """
        with self._lock:
            self._by_user[user, holder_id, file_id] = None
            if for_all_users:
                self._suspect(holder_id, file_id)
            self._trim()

    def pop_rechecks(self, holder_id: str) -> list[bytes]:
        """Return up to MAX_RECHECKS_PER_PING ids that the holder should hash again; each is returned once."""
        if holder_id not in self._to_recheck:
            return []
        with self._lock:
            waiting = self._to_recheck.pop(holder_id, [])
            due, later = waiting[:MAX_RECHECKS_PER_PING], waiting[MAX_RECHECKS_PER_PING:]
            if later:
                self._to_recheck[holder_id] = later
            for file_id in due:
                suspicion = self._suspicions.get((holder_id, file_id))
                if suspicion is not None:
                    suspicion.recheck_sent = self._now()
            return due

    def on_announced(self, holder_id: str, file_ids: Container[bytes]) -> None:
        """Clear suspicions of ids that a holder announces after it was asked to hash them again."""
        if not self._suspicions:
            return
        with self._lock:
            for (reported, file_id), suspicion in self._suspicions.items():
                if reported == holder_id and suspicion.recheck_sent is not None and file_id in file_ids:
                    suspicion.cleared = True

    def forget(self, peer_id: str) -> None:
        """Drop all about a peer whose session has ended."""
        with self._lock:
            self._to_recheck.pop(peer_id, None)
            for key in [key for key in self._suspicions if key[0] == peer_id]:
                del self._suspicions[key]
            for by_user in [key for key in self._by_user if key[1] == peer_id]:
                del self._by_user[by_user]

    def suspect_check(self, user: str, file_id: bytes) -> Callable[[str], bool]:
        """Return a function of a peer id: whether that holder of the id is suspect for a user."""
        if not self._suspicions and not self._by_user:
            return _never

        def is_suspect(holder_id: str) -> bool:
            if (user, holder_id, file_id) in self._by_user:
                return True
            suspicion = self._suspicions.get((holder_id, file_id))
            if suspicion is None or suspicion.cleared:
                return False
            return suspicion.recheck_sent is None or self._now() - suspicion.recheck_sent < RECHECK_TIMEOUT

        return is_suspect

    def _suspect(self, holder_id: str, file_id: bytes) -> None:
        now = self._now()
        suspicion = self._suspicions.get((holder_id, file_id))
        if suspicion is None or now - suspicion.raised > REPORT_COOLDOWN:
            self._suspicions[holder_id, file_id] = _Suspicion(now)
            self._suspicions.move_to_end((holder_id, file_id))
            waiting = self._to_recheck.setdefault(holder_id, [])
            if file_id not in waiting:
                waiting.append(file_id)

    def _trim(self) -> None:
        while len(self._suspicions) > MAX_REPORTS:
            (holder_id, file_id), _ = self._suspicions.popitem(last=False)
            waiting = self._to_recheck.get(holder_id, [])
            if file_id in waiting:
                waiting.remove(file_id)
        while len(self._by_user) > MAX_REPORTS:
            self._by_user.popitem(last=False)


def _never(_holder_id: str) -> bool:
    return False
