"""Browser sessions of the dashboard, in memory. They are not sessions of peers and open no REST route."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tracker.accounts import token_digest

# Seconds without a request after which a session ends. An open page polls, so its session stays.
IDLE_TIMEOUT = 12 * 3600.0
# Seconds after which the password is needed again, however often the page polls.
MAX_AGE = 7 * 86400.0
MAX_PER_USER = 50
MAX_SESSIONS = 10_000


@dataclass(slots=True)
class _Session:
    user: str
    opened: float
    last_seen: float


class BrowserSessions:
    """Sessions by the digest of their token. All end with the tracker, those of a user with its password."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        # Longest unseen first.
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def open(self, user: str) -> str:
        """Start a session and return its token. At a limit the session that was unseen for longest ends."""
        token = secrets.token_urlsafe(32)
        now = self._now()
        with self._lock:
            own = self._keys_of(user)
            for key in own[: max(0, len(own) - MAX_PER_USER + 1)]:
                del self._sessions[key]
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.popitem(last=False)
            self._sessions[token_digest(token)] = _Session(user, now, now)
        return token

    def user_of(self, token: str) -> str | None:
        """Return the user of a session; None if it has ended or never existed."""
        if not token:
            return None
        key, now = token_digest(token), self._now()
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            if now - session.last_seen > IDLE_TIMEOUT or now - session.opened > MAX_AGE:
                del self._sessions[key]
                return None
            session.last_seen = now
            self._sessions.move_to_end(key)
            return session.user

    def close(self, token: str) -> None:
        """End a session, if the token has one."""
        with self._lock:
            self._sessions.pop(token_digest(token), None)

    def on_event(self, event: str, details: Mapping[str, object]) -> None:
        """End the sessions of a user whose password has changed; a listener of tracker.events."""
        if event == "password_changed":
            with self._lock:
                for key in self._keys_of(str(details.get("user"))):
                    del self._sessions[key]

    def _keys_of(self, user: str) -> list[str]:
        return [key for key, session in self._sessions.items() if session.user == user]
