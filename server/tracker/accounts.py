"""Users and sessions in SQLite: what must survive a restart. Passwords and tokens are stored as digests only."""

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

# Seconds without a request after which a session ends.
SESSION_IDLE_TIMEOUT = 30 * 86400.0
# Seconds between two writes of the time of a session's last request, so that not every ping is a write.
LAST_SEEN_RESOLUTION = 3600.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL, since REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    token_digest TEXT PRIMARY KEY, peer_id TEXT NOT NULL UNIQUE, user TEXT NOT NULL REFERENCES users(name),
    url TEXT NOT NULL, loopback INTEGER NOT NULL, since REAL NOT NULL, seen REAL NOT NULL
) WITHOUT ROWID;
"""


def token_digest(token: str) -> str:
    """Return the stored form of a token (SHA-256, hex). A token has 256 random bits, so a fast digest suffices."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class Accounts:
    """Users and sessions. Thread-safe. All sessions are in memory too, so a request with a token needs no query."""

    def __init__(self, path: Path, master_key: bytes, now: float) -> None:
        """Open the database; create it if it does not exist.

        Args:
            path: the SQLite file.
            master_key: secret from which ticket keys are derived.
            now: server_time; sessions idle for longer than SESSION_IDLE_TIMEOUT end.

        Raises:
            StateError: the file cannot be used.
        """
        self._master_key = master_key
        self._lock = threading.RLock()
        self._by_token: dict[str, Session] = {}
        self._by_address: dict[str, set[Session]] = {}
        self._by_user: dict[str, set[Session]] = {}
        self._last_seen: dict[str, float] = {}
        try:
            self._db = self._open(path, now)
        except OSError as error:
            raise StateError(f"{path} cannot be used: {error.strerror}") from error
        except sqlite3.OperationalError as error:
            raise StateError(f"{path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StateError(
                f"{path} is damaged ({error}): restore it from a backup, or remove it and all users register again"
            ) from error

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def password_hash(self, user: str) -> str | None:
        """Return the stored hash of a user's password; None for an unknown user."""
        with self._lock:
            row = self._db.execute("SELECT password FROM users WHERE name = ?", (user,)).fetchone()
        return str(row[0]) if row else None

    def register(self, user: str, password_hash: str, now: float) -> bool:
        """Create an account; False if the user exists. `now` is server_time."""
        with self._lock:
            done = self._db.execute("INSERT OR IGNORE INTO users VALUES (?, ?, ?)", (user, password_hash, now))
            return done.rowcount == 1

    def set_password(self, user: str, password_hash: str) -> None:
        """Replace the stored hash of a user's password."""
        with self._lock:
            self._db.execute("UPDATE users SET password = ? WHERE name = ?", (password_hash, user))

    def open_session(self, token: str, peer_id: str, user: str, address: str, loopback: bool, now: float) -> Session:
        """Store a new session.

        Args:
            token: opens the session; only its digest is stored.
            peer_id: 32 hex digits, new for each session.
            user: a registered user.
            address: `host:port` of the pserver.
            loopback: whether the address is a loopback address.
            now: server_time.
        """
        session = self._session(token_digest(token), peer_id, user, address, loopback, now)
        with self._lock:
            self._db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session.token_digest, peer_id, user, address, int(loopback), now, now),
            )
            self._add(session, now)
        return session

    def end_session(self, session: Session) -> None:
        """Delete a session; nothing happens if it has ended."""
        with self._lock:
            self._db.execute("DELETE FROM sessions WHERE token_digest = ?", (session.token_digest,))
            self._remove(session)

    def replace_session(self, session: Session) -> None:
        """Replace a session by an equal one, so that requests that looked it up before fail in `check_session`."""
        with self._lock:
            seen = self._last_seen.get(session.token_digest)
            if seen is not None:
                self._remove(session)
                self._add(replace(session), seen)

    def check_session(self, session: Session) -> None:
        """Check that a session, looked up earlier in the request, is still the present one.

        Raises:
            NotLoggedIn: the session has ended since.
            SendIndex: the pserver has stopped cleanly since.
        """
        current = self._by_token.get(session.token_digest)
        if current is None:
            raise NotLoggedIn("the session has ended: log in again")
        if current is not session:
            raise SendIndex("the peer left the index since: send the complete index with PUT /index")

    def session_of(self, token: str, now: float) -> Session | None:
        """Return the session that a token opens; None if there is none. `now` is server_time."""
        session = self._by_token.get(token_digest(token))
        if session is None:
            return None
        seen = self._last_seen.get(session.token_digest, 0.0)
        if now - seen > LAST_SEEN_RESOLUTION:
            if now - seen > SESSION_IDLE_TIMEOUT:
                self.end_session(session)
                return None
            with self._lock:
                self._last_seen[session.token_digest] = now
                self._db.execute("UPDATE sessions SET seen = ? WHERE token_digest = ?", (now, session.token_digest))
        return session

    def sessions_at(self, address: str) -> list[Session]:
        """Return the sessions of pservers at an address."""
        with self._lock:
            return list(self._by_address.get(address, ()))

    def sessions_of(self, user: str) -> list[Session]:
        """Return the sessions of a user."""
        with self._lock:
            return list(self._by_user.get(user, ()))

    def _open(self, path: Path, now: float) -> sqlite3.Connection:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.close(descriptor)
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;" + _SCHEMA)
        db.execute("DELETE FROM sessions WHERE seen < ?", (now - SESSION_IDLE_TIMEOUT,))
        rows = db.execute("SELECT token_digest, peer_id, user, url, loopback, since, seen FROM sessions")
        for token_digest, peer_id, user, address, loopback, since, seen in rows:
            self._add(self._session(token_digest, peer_id, user, address, bool(loopback), since), seen)
        return db

    def _session(self, digest: str, peer_id: str, user: str, address: str, loopback: bool, since: float) -> Session:
        key = derive_key(self._master_key, peer_id, digest)
        return Session(peer_id, user, address, loopback, digest, key, since)

    def _add(self, session: Session, seen: float) -> None:
        self._by_token[session.token_digest] = session
        self._by_address.setdefault(session.address, set()).add(session)
        self._by_user.setdefault(session.user, set()).add(session)
        self._last_seen[session.token_digest] = seen

    def _remove(self, session: Session) -> None:
        # replace_session may have replaced it since the caller looked it up.
        present = self._by_token.pop(session.token_digest, session)
        for sessions, key in ((self._by_address, present.address), (self._by_user, present.user)):
            sessions.get(key, set()).discard(present)
            if not sessions.get(key):
                sessions.pop(key, None)
        self._last_seen.pop(session.token_digest, None)
