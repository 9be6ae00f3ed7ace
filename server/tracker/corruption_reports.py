"""What downloaders say of holders that served wrong bytes: doubts, never verdicts. In memory, no I/O.

A report does two things. For the user who made it the holder comes last for those contents until the holder's session
ends: that can harm nobody else. For everybody it comes last too, and is asked to hash the file again; that doubt ends
when the holder announces the file anew, or has kept it for RECHECK_TIME after it was asked, and none is accepted again
for PEACE. So however many accounts accuse an honest holder, it is only asked last, for a while, and hashes a file at
most once an hour; a holder that finds its copy damaged withdraws it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass

RECHECK_TIMEOUT = 120.0
REPORT_COOLDOWN = 3600.0
MAX_REPORTS = 50_000
MAX_RECHECKS_PER_PING = 100
# Contents that one session may be remembered to have had tickets for; only those can it report.
MAX_TICKETED_IDS = 5000


@dataclass(slots=True)
class _Suspicion:
    raised: float
    # When the holder was asked to hash again; None until it pings.
    asked: float | None = None
    cleared: bool = False


class CorruptionReports:
    """Doubts by (holder, contents), and by (user, holder, contents)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._doubts: OrderedDict[tuple[str, bytes], _Suspicion] = OrderedDict()
        self._by_user: OrderedDict[tuple[str, str, bytes], None] = OrderedDict()
        self._to_recheck: dict[str, list[bytes]] = {}
        self._asked: dict[str, OrderedDict[bytes, None]] = {}

    def note_tickets(self, asker_id: str, file_id: bytes) -> None:
        """The asker was given tickets for these contents."""
        with self._lock:
            asked = self._asked.get(asker_id)
            if asked is None:
                asked = self._asked[asker_id] = OrderedDict()
            asked[file_id] = None
            asked.move_to_end(file_id)
            if len(asked) > MAX_TICKETED_IDS:
                asked.popitem(last=False)

    def has_tickets(self, asker_id: str) -> bool:
        """Whether the asker was given tickets at all."""
        return asker_id in self._asked

    def may_report(self, asker_id: str, file_id: bytes) -> bool:
        """Whether the asker was given tickets for these contents."""
        return file_id in self._asked.get(asker_id, ())

    def report_corrupt(self, user: str, holder_id: str, file_id: bytes) -> None:
        """A user says that the holder's bytes did not verify."""
        with self._lock:
            now = self._now()
            self._by_user[user, holder_id, file_id] = None
            doubt = self._doubts.get((holder_id, file_id))
            if doubt is None or now - doubt.raised > REPORT_COOLDOWN:
                self._doubts[holder_id, file_id] = _Suspicion(now)
                self._doubts.move_to_end((holder_id, file_id))
                waiting = self._to_recheck.setdefault(holder_id, [])
                if file_id not in waiting:
                    waiting.append(file_id)
            self._trim()

    def pop_rechecks(self, holder_id: str) -> list[bytes]:
        """What the holder should hash again; each is told once."""
        if holder_id not in self._to_recheck:
            return []
        with self._lock:
            waiting = self._to_recheck.pop(holder_id, [])
            told, later = waiting[:MAX_RECHECKS_PER_PING], waiting[MAX_RECHECKS_PER_PING:]
            if later:
                self._to_recheck[holder_id] = later
            for file_id in told:
                doubt = self._doubts.get((holder_id, file_id))
                if doubt is not None:
                    doubt.asked = self._now()
            return told

    def on_announced(self, holder_id: str, file_ids: Container[bytes]) -> None:
        """The holder announced these contents anew: if it was asked to check them, it has."""
        if not self._doubts:
            return
        with self._lock:
            for (accused, file_id), doubt in self._doubts.items():
                if accused == holder_id and doubt.asked is not None and file_id in file_ids:
                    doubt.cleared = True

    def forget(self, holder_id: str) -> None:
        """The session ended."""
        with self._lock:
            self._asked.pop(holder_id, None)
            self._to_recheck.pop(holder_id, None)
            for key in [key for key in self._doubts if key[0] == holder_id]:
                del self._doubts[key]
            for by_user in [key for key in self._by_user if key[1] == holder_id]:
                del self._by_user[by_user]

    def suspect_check(self, user: str, file_id: bytes) -> Callable[[str], bool]:
        """Judge of holders of these contents, by peer id, for one user."""
        if not self._doubts and not self._by_user:
            return _nobody

        def is_doubted(holder_id: str) -> bool:
            if (user, holder_id, file_id) in self._by_user:
                return True
            doubt = self._doubts.get((holder_id, file_id))
            if doubt is None or doubt.cleared:
                return False
            return doubt.asked is None or self._now() - doubt.asked < RECHECK_TIMEOUT

        return is_doubted

    def _trim(self) -> None:
        while len(self._doubts) > MAX_REPORTS:
            (holder_id, file_id), _ = self._doubts.popitem(last=False)
            waiting = self._to_recheck.get(holder_id, [])
            if file_id in waiting:
                waiting.remove(file_id)
        while len(self._by_user) > MAX_REPORTS:
            self._by_user.popitem(last=False)


def _nobody(_holder_id: str) -> bool:
    return False
