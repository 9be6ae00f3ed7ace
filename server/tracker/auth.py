"""Login and logout: accounts, sessions, addresses. Knows no HTTP."""

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tracker.accounts import Accounts
from tracker.addresses import AddressPolicy
from tracker.concurrency_limits import PerSourceLimit
from tracker.corruption_reports import CorruptionReports
from tracker.errors import AddressTaken, DiskFull, LoginRefused, NotLoggedIn, StorageFault, TooMany, UnknownUser
from tracker.events import Events
from tracker.index import Index
from tracker.login_throttle import LoginThrottle
from tracker.models import Session, Source
from tracker.passwords import Passwords

# Sessions of one account; a new login ends the oldest one that is offline.
MAX_SESSIONS_PER_USER = 1000
# Password hashes that run or wait, for one source and for all peers on the tracker's own machine. Both are below the
# queue of tracker.passwords. Registrations have a lower limit, so that they leave room for users with an account.
_HASHES_PER_SOURCE, _HASHES_LOCAL, _REGISTRATIONS_LOCAL = 2, 16, 8


class _PasswordRefusal(NamedTuple):
    """How a wrong password is reported: the event for log and dashboard, and the message for the client."""

    event: str
    message: str


_AT_LOGIN = _PasswordRefusal("login_refused", "wrong user name or password")
_AT_CHANGE = _PasswordRefusal("password_refused", "the old password is wrong")


class LoginResult(NamedTuple):
    """A session, the token that opens it, and whether the login created the account."""

    token: str
    session: Session
    registered: bool


class AuthService:
    """Checks passwords and tokens, and opens and ends sessions. Thread-safe."""

    def __init__(
        self,
        accounts: Accounts,
        index: Index,
        reports: CorruptionReports,
        passwords: Passwords,
        throttle: LoginThrottle,
        addresses: AddressPolicy,
        server_time: Callable[[], float],
        events: Events,
        *,
        open_registration: bool,
        ping_timeout: float,
    ) -> None:
        """Wire the service.

        Args:
            accounts: users and sessions on disk.
            index: which peers are online.
            reports: corruption reports, dropped with the session of their holder.
            passwords: hashes passwords.
            throttle: limits failed logins.
            addresses: checks announced addresses.
            server_time: the tracker's clock, in Unix seconds.
            events: reports logins and failures.
            open_registration: whether a login may create an account.
            ping_timeout: seconds without a ping after which a peer is offline.
        """
        self._accounts = accounts
        self._index = index
        self._reports = reports
        self._passwords = passwords
        self._throttle = throttle
        self._addresses = addresses
        self._server_time = server_time
        self._events = events
        self._open_registration = open_registration
        self._ping_timeout = ping_timeout
        self._started = server_time()
        # Held from the check of an address until its session is open, or two logins could get one address.
        self._session_lock = threading.Lock()
        self._hashing = PerSourceLimit(_HASHES_PER_SOURCE, _HASHES_LOCAL)
        self._registering = PerSourceLimit(_HASHES_PER_SOURCE, _REGISTRATIONS_LOCAL)

    def authenticate(self, token: str) -> Session:
        """Return the session that a token opens.

        Raises:
            NotLoggedIn: the token is unknown, or its session has ended.
        """
        session = self._accounts.session_of(token, self._server_time()) if token else None
        if session is None:
            raise NotLoggedIn("not logged in, or the session has ended: log in again")
        return session

    def user_of(self, token: str) -> str:
        """Return the user whose session a token opens, or an empty string."""
        session = self._accounts.session_of(token, self._server_time()) if token else None
        return session.user if session is not None else ""

    def login(
        self, user: str, password: str, announced: str, source: Source, token: str = "", *, register: bool = True
    ) -> LoginResult:
        """Open a session for a pserver.

        Args:
            user: the account's name.
            password: the account's password.
            announced: `host:port` at which other peers dial the pserver, or `auto:port`.
            source: where the request comes from.
            token: the pserver's present token, or empty. A session of another user that it opens at the address is
                replaced only after the new login succeeds, so a refused login changes nothing. A session of the same
                user at the address stays, and is the result.
            register: whether an unknown user gets an account, if the tracker registers users at all.

        Raises:
            BadRequest: `announced` is not an address, or does not lead to `source`.
            LoginRefused: wrong user name or password.
            UnknownUser: the user is unknown, registration is open, and `register` is false.
            TooMany: too many failed logins, or too many sessions of the account.
            Busy: too many logins at once, in total or from `source`.
            AddressTaken: another user's online peer has the address.
            DiskFull, StorageFault: the accounts cannot be written.
        """
        # Before the host is resolved: a delayed client costs no DNS query.
        with self._logging_delays(user, source.address):
            self._throttle.check(user, source.address)
        address, loopback = self._addresses.resolve(announced, source)
        registered = self._verify_or_register(user, password, source.address, register)
        now = self._server_time()
        with self._session_lock:
            own = self._accounts.session_of(token, now) if token else None
            if own is not None and (own.user, own.address) == (user, address):
                return LoginResult(token, own, False)
            replaced = self._sessions_to_replace(user, address, own)
            token = secrets.token_urlsafe(32)
            session = self._accounts.open_session(token, secrets.token_hex(16), user, address, loopback, now, replaced)
            for each in replaced:
                self._forget(each)
            self._index.ping(session, "", "")
        if registered:
            self._events("registered", user=user)
        self._events("login", user=user, address=address)
        return LoginResult(token, session, registered)

    def is_at(self, session: Session, announced: str, source: Source) -> bool:
        """Whether a session certainly has an announced address. It never waits; False may turn out to be no move."""
        return self._addresses.means(announced, source, session.address)

    def move(self, session: Session, announced: str, source: Source) -> Session:
        """Let a session follow its pserver to another address; it stays the same peer, with its files.

        Args:
            session: the pserver's session, looked up earlier in the request.
            announced: `host:port` at which other peers dial the pserver from now on, or `auto:port`.
            source: where the request comes from.

        Returns:
            The session at its new address, in place of `session`.

        Raises:
            BadRequest: `announced` is not an address, or does not lead to `source`.
            Busy: too many DNS lookups from `source` at once.
            AddressTaken: another user's online peer has the address.
            NotLoggedIn: the session has ended since the request arrived.
            SendIndex: the pserver has stopped or moved since the request arrived.
            DiskFull, StorageFault: the accounts cannot be written.
        """
        address, loopback = self._addresses.resolve(announced, source)
        with self._session_lock:
            self._accounts.check_session(session)
            if address == session.address:
                return session
            replaced = self._sessions_at(session.user, address, session)
            moved = self._accounts.move_session(session, address, loopback, replaced)
            for each in replaced:
                self._forget(each)
            self._index.move_peer(moved)
        self._events("moved", user=session.user, address=address, before=session.address)
        return moved

    def logout(self, session: Session) -> None:
        """End a session and remove the peer's files from the index."""
        self._end(session)
        self._events("logout", user=session.user, address=session.address)

    def leave_index(self, session: Session) -> None:
        """Remove a peer and its files from the index, and keep the session: a clean stop of the pserver."""
        # Before the index: requests still running fail their check of the session, so none adds the files again.
        self._accounts.replace_session(session)
        self._index.remove_peer(session.peer_id)
        self._events("left", address=session.address)

    def change_password(self, session: Session, old: str, new: str, source: str) -> None:
        """Change the password of a session's user.

        Args:
            session: a session of the user.
            old: the present password.
            new: the new password.
            source: IP address from which the request comes.

        Raises:
            LoginRefused: `old` is wrong.
            TooMany: too many failed logins.
            Busy: too many logins at once, in total or from `source`.
            DiskFull, StorageFault: the accounts cannot be written.
        """
        self._verify(session.user, old, source, _AT_CHANGE)
        with self._hashing.acquired(source):
            self._accounts.set_password(session.user, self._passwords.hash(new))
        self._events("password_changed", user=session.user)

    def check_password(self, user: str, password: str, source: str) -> None:
        """Check a password without opening a session, for the dashboard.

        Raises:
            LoginRefused: wrong user name or password.
            TooMany: too many failed logins.
            Busy: too many logins at once, in total or from `source`.
        """
        self._verify(user, password, source, _AT_LOGIN)

    @contextmanager
    def _logging_delays(self, user: str, source: str) -> Iterator[None]:
        try:
            yield
        except TooMany:
            self._events("login_delayed", logging.WARNING, user=user, source=source)
            raise

    @contextmanager
    def _attempt(self, user: str, source: str) -> Iterator[None]:
        """Count the block as one login attempt, and hold a slot to hash its password."""
        with (
            self._logging_delays(user, source),
            self._throttle.attempt(user, source),
            self._hashing.acquired(source),
        ):
            yield

    def _verify_or_register(self, user: str, password: str, source: str, register: bool) -> bool:
        """Check the password of a known user; create the account of an unknown one. True if it was created."""
        with self._attempt(user, source):
            stored = self._accounts.password_hash(user)
            if stored is None and self._open_registration:
                if not register:
                    # Usual before a registration: pclient first asks its user to confirm the new account.
                    self._events("unknown_user", user=user, source=source)
                    raise UnknownUser(f"no account named {user}: check the name, or register it")
                if self._register(user, password, source):
                    self._throttle.refund_sign_up(user, source)
                    return True
                stored = self._accounts.password_hash(user)
            self._check_password(user, password, stored, source, _AT_LOGIN)
        return False

    def _verify(self, user: str, password: str, source: str, refusal: _PasswordRefusal) -> None:
        with self._attempt(user, source):
            self._check_password(user, password, self._accounts.password_hash(user), source, refusal)

    def _check_password(
        self, user: str, password: str, stored: str | None, source: str, refusal: _PasswordRefusal
    ) -> None:
        # An unknown user costs a hash too, so that the time of the response does not reveal which names exist.
        if not self._passwords.check(password, stored):
            self._events(refusal.event, logging.WARNING, user=user, source=source, known=stored is not None)
            raise LoginRefused(refusal.message)
        if stored is not None and self._passwords.needs_rehash(stored):
            # The login needs no new hash, so it succeeds without one.
            with suppress(DiskFull, StorageFault):
                self._accounts.set_password(user, self._passwords.hash(password))

    def _register(self, user: str, password: str, source: str) -> bool:
        """Create the account; False if another request has just created it."""
        with self._registering.acquired(source):
            return self._accounts.register(user, self._passwords.hash(password), self._server_time())

    def _sessions_to_replace(self, user: str, address: str, own: Session | None) -> list[Session]:
        """Return the sessions that end with a login of `user` at an address; `own` is that of its pserver, if any.

        These are the ones at the address and, if the user has the most that are allowed, the oldest that is offline.

        Raises:
            AddressTaken: a session of another user, which is not `own`, may be online.
            TooMany: the user has the most sessions that are allowed, and all are online.
        """
        here = self._sessions_at(user, address, own)
        elsewhere = [session for session in self._accounts.sessions_of(user) if session not in here]
        if len(elsewhere) < MAX_SESSIONS_PER_USER:
            return here
        online = self._index.online([session.peer_id for session in elsewhere])
        offline = [session for session in elsewhere if session.peer_id not in online]
        if not offline:
            raise TooMany(
                f"{MAX_SESSIONS_PER_USER} peers of this account are online: log one out first", self._ping_timeout
            )
        return [*here, min(offline, key=lambda session: session.since)]

    def _sessions_at(self, user: str, address: str, own: Session | None) -> list[Session]:
        """Return the sessions that end when the pserver of `user`, with the session `own`, has their address.

        Raises:
            AddressTaken: as in _sessions_to_replace.
        """
        here = self._accounts.sessions_at(address)
        for session in here:
            is_own = own is not None and session.peer_id == own.peer_id
            if session.user != user and not is_own and self._may_be_online(session):
                raise AddressTaken(f"another user's peer is online at {address}: log it out first, or use another port")
        return here

    def _may_be_online(self, session: Session) -> bool:
        # Until a ping timeout after the start a peer that was logged in before has had no time to ping.
        return bool(self._index.online([session.peer_id])) or (
            session.since < self._started and self._server_time() - self._started < self._ping_timeout
        )

    def _end(self, session: Session) -> None:
        self._accounts.end_session(session)
        self._forget(session)

    def _forget(self, session: Session) -> None:
        self._index.remove_peer(session.peer_id)
        self._reports.forget(session.peer_id)
