"""Who looks at the page: sessions of browsers, in memory. They are no peers' sessions and open no REST route."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tracker.accounts import token_digest

# A page left open polls, and stays; a closed one ends after so long.
IDLE_TIMEOUT = 12 * 3600.0
# Whoever has not given a password for so long gives it again, whatever polls.
MAX_AGE = 7 * 86400.0
MAX_PER_USER = 50
MAX_SESSIONS = 10_000


@dataclass(slots=True)
class _Browser:
    user: str
    since: float
    seen: float


class BrowserSessions:
    """Tokens of browsers, kept as digests. All end with the tracker, those of a user when its password changes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._browsers: OrderedDict[str, _Browser] = OrderedDict()

    def open(self, user: str) -> str:
        """A new session; its token. The longest unseen make room."""
        token = secrets.token_urlsafe(32)
        now = self._now()
        with self._lock:
            mine = [key for key, browser in self._browsers.items() if browser.user == user]
            for key in mine[: max(0, len(mine) - MAX_PER_USER + 1)]:
                del self._browsers[key]
            while len(self._browsers) >= MAX_SESSIONS:
                self._browsers.popitem(last=False)
            self._browsers[token_digest(token)] = _Browser(user, now, now)
        return token

    def user_of(self, token: str) -> str | None:
        """Whose session the token opens; None if it has ended or never was."""
        if not token:
            return None
        key, now = token_digest(token), self._now()
        with self._lock:
            browser = self._browsers.get(key)
            if browser is None:
                return None
            if now - browser.seen > IDLE_TIMEOUT or now - browser.since > MAX_AGE:
                del self._browsers[key]
                return None
            browser.seen = now
            self._browsers.move_to_end(key)
            return browser.user

    def close(self, token: str) -> None:
        with self._lock:
            self._browsers.pop(token_digest(token), None)

    def on_event(self, event: str, details: Mapping[str, object]) -> None:
        """A listener of tracker.events: a changed password ends the sessions that the old one opened."""
        if event == "password_changed":
            with self._lock:
                for key in [key for key, browser in self._browsers.items() if browser.user == details.get("user")]:
                    del self._browsers[key]
