"""Users and sessions: what must survive a restart. Passwords and tokens are stored as digests only."""

import hashlib
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from tracker.account_store.store import AccountStore, StoredSession
from tracker.errors import NotLoggedIn, SendIndex, TrackerError
from tracker.last_seen import LastSeenWriter
from tracker.models import Session
from tracker.tickets import derive_key

# Seconds without a request after which a session ends.
SESSION_IDLE_TIMEOUT = 30 * 86400.0
# Seconds between two writes of the time of a session's last request, so that not every ping is a write.
LAST_SEEN_RESOLUTION = 3600.0


def token_digest(token: str) -> str:
    """Return the stored form of a token (SHA-256, hex). A token has 256 random bits, so a fast digest suffices."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class Accounts:
    """Users and sessions. Thread-safe. All sessions are in memory too, so a request with a token needs no query.

    Methods that change accounts raise DiskFull, Busy or StorageFault if the database fails; nothing is changed then.
    """

    def __init__(self, store: AccountStore, master_key: bytes, now: float) -> None:
        """Load the sessions.

        Args:
            store: the database. `close` closes it.
            master_key: secret from which ticket keys are derived.
            now: server_time; sessions idle for longer than SESSION_IDLE_TIMEOUT end.
        """
        self._store = store
        self._master_key = master_key
        # Guards the four dictionaries. Never held during a query, so that a ping never waits for the disk.
        self._lock = threading.RLock()
        self._by_token: dict[str, Session] = {}
        self._by_address: dict[str, set[Session]] = {}
        self._by_user: dict[str, set[Session]] = {}
        self._last_seen: dict[str, float] = {}
        used_since = now - SESSION_IDLE_TIMEOUT
        # On a full disk the rows stay, which changes nothing: they are not loaded.
        with suppress(TrackerError):
            store.delete_unused_sessions(used_since)
        for row in store.sessions(used_since):
            self._add(self._session(row), row.last_seen)
        self._writer = LastSeenWriter(store.save_last_seen)

    def close(self) -> None:
        """Close the database."""
        self._writer.close()
        self._store.close()

    def password_hash(self, user: str) -> str | None:
        """Return the stored hash of a user's password; None for an unknown user."""
        return self._store.password_hash(user)

    def register(self, user: str, password_hash: str, now: float) -> bool:
        """Create an account; False if the user exists. `now` is server_time."""
        return self._store.add_user(user, password_hash, now)

    def set_password(self, user: str, password_hash: str) -> None:
        """Replace the stored hash of a user's password."""
        self._store.set_password(user, password_hash)

    def open_session(
        self,
        token: str,
        peer_id: str,
        user: str,
        address: str,
        loopback: bool,
        now: float,
        replaced: Collection[Session] = (),
    ) -> Session:
        """Store a new session, and end others in the same step.

        Args:
            token: opens the session; only its digest is stored.
            peer_id: 32 hex digits, new for each session.
            user: a registered user.
            address: `host:port` of the pserver.
            loopback: whether the address is a loopback address.
            now: server_time.
            replaced: the sessions to end.
        """
        row = StoredSession(token_digest(token), peer_id, user, address, loopback, now, now)
        session = self._session(row)
        self._store.add_session(row, [each.token_digest for each in replaced])
        with self._lock:
            for each in replaced:
                self._remove(each)
            self._add(session, now)
        return session

    def end_session(self, session: Session) -> None:
        """Delete a session; nothing happens if it has ended."""
        self._store.delete_session(session.token_digest)
        with self._lock:
            self._remove(session)

    def replace_session(self, session: Session) -> None:
        """Replace a session by an equal one, so that requests that looked it up before fail in `check_session`."""
        with self._lock:
            present = self._by_token.get(session.token_digest)
            if present is not None:
                self._swap(present, replace(present))

    def move_session(
        self, session: Session, address: str, loopback: bool, replaced: Collection[Session] = ()
    ) -> Session:
        """Give a session another address, and end others in the same step.

        Args:
            session: the session.
            address: `host:port` of the pserver from now on.
            loopback: whether the address is a loopback address.
            replaced: the sessions to end.

        Returns:
            The session in its new form. A request that looked it up before fails in `check_session`.

        Raises:
            NotLoggedIn: the session has ended since the caller looked it up.
        """
        self._store.move_session(session.token_digest, address, loopback, [each.token_digest for each in replaced])
        with self._lock:
            for each in replaced:
                self._remove(each)
            present = self._by_token.get(session.token_digest)
            if present is None:
                raise NotLoggedIn("the session has ended: log in again")
            moved = replace(present, address=address, loopback=loopback)
            self._swap(present, moved)
        return moved

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
            with self._lock:
                if now - seen > SESSION_IDLE_TIMEOUT:
                    # The next start deletes the row.
                    self._remove(session)
                    return None
                if session.token_digest in self._last_seen:
                    self._last_seen[session.token_digest] = now
            self._writer.note(session.token_digest, now)
        return session

    def sessions_at(self, address: str) -> list[Session]:
        """Return the sessions of pservers at an address."""
        with self._lock:
            return list(self._by_address.get(address, ()))

    def sessions_of(self, user: str) -> list[Session]:
        """Return the sessions of a user."""
        with self._lock:
            return list(self._by_user.get(user, ()))

    def _session(self, row: StoredSession) -> Session:
        key = derive_key(self._master_key, row.peer_id, row.token_digest)
        return Session(row.peer_id, row.user, row.address, row.loopback, row.token_digest, key, row.created)

    def _add(self, session: Session, seen: float) -> None:
        self._by_token[session.token_digest] = session
        self._by_address.setdefault(session.address, set()).add(session)
        self._by_user.setdefault(session.user, set()).add(session)
        self._last_seen[session.token_digest] = seen

    def _swap(self, present: Session, fresh: Session) -> None:
        seen = self._last_seen[present.token_digest]
        self._remove(present)
        self._add(fresh, seen)

    def _remove(self, session: Session) -> None:
        # replace_session may have replaced it since the caller looked it up.
        present = self._by_token.pop(session.token_digest, session)
        for sessions, key in ((self._by_address, present.address), (self._by_user, present.user)):
            sessions.get(key, set()).discard(present)
            if not sessions.get(key):
                sessions.pop(key, None)
        self._last_seen.pop(session.token_digest, None)
