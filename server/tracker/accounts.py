"""Users and login sessions, in SQLite: what must outlive a restart. No password and no token as it is, only digests."""

import hashlib
import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

from tracker.errors import NotLoggedIn, SendIndex
from tracker.models import Session
from tracker.state_dir import StateError
from tracker.tickets import derive_key

# A session that nobody used for so long has ended.
SESSION_IDLE_TIMEOUT = 30 * 86400.0
# How old the stored time of last use may grow: a write per session and hour, not per ping.
LAST_SEEN_RESOLUTION = 3600.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL, since REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    token_digest TEXT PRIMARY KEY, peer_id TEXT NOT NULL UNIQUE, user TEXT NOT NULL REFERENCES users(name),
    url TEXT NOT NULL, loopback INTEGER NOT NULL, since REAL NOT NULL, seen REAL NOT NULL
) WITHOUT ROWID;
"""


def token_digest(token: str) -> str:
    """What is kept of a token. A token is 256 random bits: a fast digest is enough."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class Accounts:
    """Every session is also in memory: a request with a token costs no query."""

    def __init__(self, path: Path, master: bytes, now: float) -> None:
        """Raises StateError if the file cannot be used."""
        self._master = master
        self._lock = threading.RLock()
        self._by_token: dict[str, Session] = {}
        self._by_url: dict[str, set[Session]] = {}
        self._by_user: dict[str, set[Session]] = {}
        self._seen: dict[str, float] = {}
        try:
            self._db = self._open(path, now)
        except OSError as error:
            raise StateError(f"{path} cannot be used: {error.strerror}") from error
        except sqlite3.OperationalError as error:
            raise StateError(f"{path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StateError(
                f"{path} is damaged ({error}): put a copy in its place, or remove it and everybody registers again"
            ) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def password_hash(self, user: str) -> str | None:
        """The stored hash; None for an unknown user."""
        with self._lock:
            row = self._db.execute("SELECT password FROM users WHERE name = ?", (user,)).fetchone()
        return str(row[0]) if row else None

    def register(self, user: str, password_hash: str, now: float) -> bool:
        """Make the account; False if somebody else just did."""
        with self._lock:
            done = self._db.execute("INSERT OR IGNORE INTO users VALUES (?, ?, ?)", (user, password_hash, now))
            return done.rowcount == 1

    def set_password(self, user: str, password_hash: str) -> None:
        with self._lock:
            self._db.execute("UPDATE users SET password = ? WHERE name = ?", (password_hash, user))

    def open_session(self, token: str, peer_id: str, user: str, address: str, loopback: bool, now: float) -> Session:
        session = self._session(token_digest(token), peer_id, user, address, loopback, now)
        with self._lock:
            self._db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session.token_digest, peer_id, user, address, int(loopback), now, now),
            )
            self._keep(session, now)
        return session

    def end_session(self, session: Session) -> None:
        with self._lock:
            self._db.execute("DELETE FROM sessions WHERE token_digest = ?", (session.token_digest,))
            self._drop(session)

    def replace_session(self, session: Session) -> None:
        """Go on with the session as if it had just been opened: requests that looked it up before fail at `check`."""
        with self._lock:
            seen = self._seen.get(session.token_digest)
            if seen is not None:
                self._drop(session)
                self._keep(replace(session), seen)

    def check_session(self, session: Session) -> None:
        """Whether a request that looked its session up earlier still speaks for the peer.

        Raises:
            NotLoggedIn: the session has ended meanwhile.
            SendIndex: the peer has stopped cleanly meanwhile.
        """
        current = self._by_token.get(session.token_digest)
        if current is None:
            raise NotLoggedIn("the session has ended: log in again")
        if current is not session:
            raise SendIndex("the peer left the index meanwhile: send the whole list with PUT /index")

    def session_of(self, token: str, now: float) -> Session | None:
        """The session that the token opens, if it has not ended."""
        session = self._by_token.get(token_digest(token))
        if session is None:
            return None
        seen = self._seen.get(session.token_digest, 0.0)
        if now - seen > LAST_SEEN_RESOLUTION:
            if now - seen > SESSION_IDLE_TIMEOUT:
                self.end_session(session)
                return None
            with self._lock:
                self._seen[session.token_digest] = now
                self._db.execute("UPDATE sessions SET seen = ? WHERE token_digest = ?", (now, session.token_digest))
        return session

    def sessions_at(self, address: str) -> list[Session]:
        with self._lock:
            return list(self._by_url.get(address, ()))

    def sessions_of(self, user: str) -> list[Session]:
        with self._lock:
            return list(self._by_user.get(user, ()))

    def _open(self, path: Path, now: float) -> sqlite3.Connection:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.close(descriptor)
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;" + _SCHEMA)
        db.execute("DELETE FROM sessions WHERE seen < ?", (now - SESSION_IDLE_TIMEOUT,))
        rows = db.execute("SELECT token_digest, peer_id, user, url, loopback, since, seen FROM sessions")
        for token_digest, peer_id, user, url, loopback, since, seen in rows:
            self._keep(self._session(token_digest, peer_id, user, url, bool(loopback), since), seen)
        return db

    def _session(self, digest: str, peer_id: str, user: str, url: str, loopback: bool, since: float) -> Session:
        key = derive_key(self._master, peer_id, digest)
        return Session(peer_id, user, url, loopback, digest, key, since)

    def _keep(self, session: Session, seen: float) -> None:
        self._by_token[session.token_digest] = session
        self._by_url.setdefault(session.address, set()).add(session)
        self._by_user.setdefault(session.user, set()).add(session)
        self._seen[session.token_digest] = seen

    def _drop(self, session: Session) -> None:
        # It may have been renewed since the caller looked it up.
        kept = self._by_token.pop(session.token_digest, session)
        for among, key in ((self._by_url, kept.address), (self._by_user, kept.user)):
            among.get(key, set()).discard(kept)
            if not among.get(key):
                among.pop(key, None)
        self._seen.pop(session.token_digest, None)
