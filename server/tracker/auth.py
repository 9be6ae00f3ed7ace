"""Logging in and out: accounts, sessions, addresses. Knows no HTTP."""

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tracker.accounts import Accounts
from tracker.addresses import AddressPolicy
from tracker.clock import SteadyClock
from tracker.concurrency_limits import PerSourceLimit
from tracker.corruption_reports import CorruptionReports
from tracker.errors import AddressTaken, LoginRefused, NotLoggedIn, TooMany, UnknownUser
from tracker.events import Events
from tracker.index import Index
from tracker.login_throttle import LoginThrottle
from tracker.models import Session
from tracker.passwords import Passwords

# One account's sessions; the oldest that is not alive makes room.
MAX_SESSIONS_PER_USER = 1000
# Password hashes that run or wait, of one source, and of all peers on the tracker's own machine: fewer than there are
# places (tracker.passwords). Strangers make accounts as they like, so these leave room for who has one.
_HASHES, _HASHES_OWN_MACHINE, _REGISTRATIONS_OWN_MACHINE = 2, 16, 8


class _PasswordRefusal(NamedTuple):
    """What a wrong password is told as: to the log and the page, and to who sent it."""

    event: str
    message: str


_AT_LOGIN = _PasswordRefusal("login_refused", "wrong user name or password")
_AT_CHANGE = _PasswordRefusal("password_refused", "the old password is wrong")


class LoginResult(NamedTuple):
    token: str
    session: Session
    registered: bool


class AuthService:
    """Who may come in, and as whom."""

    def __init__(
        self,
        accounts: Accounts,
        index: Index,
        reports: CorruptionReports,
        passwords: Passwords,
        attempts: LoginThrottle,
        addresses: AddressPolicy,
        clock: SteadyClock,
        events: Events,
        *,
        open_registration: bool,
        ping_timeout: float,
    ) -> None:
        self._accounts = accounts
        self._index = index
        self._reports = reports
        self._passwords = passwords
        self._attempts = attempts
        self._addresses = addresses
        self._clock = clock
        self._events = events
        self._open_registration = open_registration
        self._ping_timeout = ping_timeout
        self._started = clock.server_time()
        # Logins are checked and entered one after the other, or two could take one address.
        self._session_lock = threading.Lock()
        self._hashing = PerSourceLimit(_HASHES, _HASHES_OWN_MACHINE)
        self._registering = PerSourceLimit(_HASHES, _REGISTRATIONS_OWN_MACHINE)

    def authenticate(self, token: str) -> Session:
        """The session of a token.

        Raises:
            NotLoggedIn: there is none.
        """
        session = self._accounts.session_of(token, self._clock.server_time()) if token else None
        if session is None:
            raise NotLoggedIn("not logged in, or the session has ended: log in again")
        return session

    def user_of(self, token: str) -> str:
        """Whose session a token opens; empty if it opens none."""
        session = self._accounts.session_of(token, self._clock.server_time()) if token else None
        return session.user if session is not None else ""

    def login(
        self, user: str, password: str, address: str, source: str, token: str = "", *, register: bool = True
    ) -> LoginResult:
        """Open a session for a pserver.

        Args:
            user: the account's name.
            password: the account's password.
            address: `host:port` at which other peers dial the pserver.
            source: IP address from which the request comes.
            token: the pserver's present token, or empty. A session of another user that it opens at `address` is
                replaced only after the new login succeeds, so a refused login changes nothing. A session of the same
                user at `address` stays, and is the result.
            register: whether an unknown user gets an account, if the tracker registers users at all.

        Raises:
            BadRequest: `address` is not an address, or does not lead to `source`.
            LoginRefused: wrong user name or password.
            UnknownUser: the user is unknown, registration is open, and `register` is false.
            TooMany: too many failed logins, or too many sessions of the account.
            Busy: too many logins at once, in total or from `source`.
            AddressTaken: another user's online peer has the address.
        """
        # Before the host is resolved: a delayed client costs no DNS query.
        with self._logging_delays(user, source):
            self._attempts.check(user, source)
        loopback = self._addresses.validate(address, source)
        registered = self._verify_or_register(user, password, source, register)
        now = self._clock.server_time()
        with self._session_lock:
            own = self._accounts.session_of(token, now) if token else None
            if own is not None and (own.user, own.address) == (user, address):
                return LoginResult(token, own, False)
            self._evict_sessions_at(user, address, own)
            self._evict_oldest_session(user)
            token = secrets.token_urlsafe(32)
            session = self._accounts.open_session(token, secrets.token_hex(16), user, address, loopback, now)
            self._index.touch(session)
        if registered:
            self._events("registered", user=user)
        self._events("login", user=user, url=address)
        return LoginResult(token, session, registered)

    def logout(self, session: Session) -> None:
        """End a session and forget the peer's files."""
        self._end(session)
        self._events("logout", user=session.user, url=session.address)

    def leave_index(self, session: Session) -> None:
        """A clean stop: the peer and its files are gone from every answer; the session stays."""
        # First, so that no request that is under way brings them back.
        self._accounts.replace_session(session)
        self._index.remove_peer(session.peer_id)
        self._events("left", url=session.address)

    def change_password(self, session: Session, old: str, new: str, source: str) -> None:
        """Raises LoginRefused, TooMany or Busy like login."""
        self._verify(session.user, old, source, _AT_CHANGE)
        with self._hashing.acquired(source):
            self._accounts.set_password(session.user, self._passwords.hash(new))
        self._events("password_changed", user=session.user)

    def check_password(self, user: str, password: str, source: str) -> None:
        """Let a known user in without a session, as the page for people does; raises like login."""
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
        """Count the block as one login attempt, and wait for a place to hash its password."""
        with (
            self._logging_delays(user, source),
            self._attempts.attempt(user, source),
            self._hashing.acquired(source),
        ):
            yield

    def _verify_or_register(self, user: str, password: str, source: str, register: bool) -> bool:
        """Check the password of a known user; create the account of an unknown one. True if it was created."""
        with self._attempt(user, source):
            stored = self._accounts.password_hash(user)
            if stored is None and self._open_registration:
                if not register:
                    self._events(_AT_LOGIN.event, logging.WARNING, user=user, source=source, known=False)
                    raise UnknownUser(f"no account named {user}: check the name, or register it")
                if self._register(user, password, source):
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
            self._accounts.set_password(user, self._passwords.hash(password))

    def _register(self, user: str, password: str, source: str) -> bool:
        """Make the account; False if somebody else just did."""
        with self._registering.acquired(source):
            return self._accounts.register(user, self._passwords.hash(password), self._clock.server_time())

    def _evict_sessions_at(self, user: str, url: str, askers: Session | None) -> None:
        """End what sessions there are at the address; refuse while another user's, and not the asker's, is alive."""
        here = self._accounts.sessions_at(url)
        own = askers.peer_id if askers is not None else ""
        for session in here:
            if session.user != user and session.peer_id != own and self._may_be_online(session):
                raise AddressTaken(f"another user's peer is alive at {url}: log it out first, or use another port")
        for session in here:
            self._end(session)

    def _may_be_online(self, session: Session) -> bool:
        # Just after a restart nobody has pinged yet: whoever was logged in before counts as alive until it could have.
        now = self._clock.server_time()
        return self._index.is_online(session.peer_id) or (
            session.since < self._started and now - self._started < self._ping_timeout
        )

    def _evict_oldest_session(self, user: str) -> None:
        mine = self._accounts.sessions_of(user)
        if len(mine) < MAX_SESSIONS_PER_USER:
            return
        for session in sorted(mine, key=lambda session: session.since):
            if not self._index.is_online(session.peer_id):
                self._end(session)
                return
        raise TooMany(f"{MAX_SESSIONS_PER_USER} peers of this account are alive: log one out first", self._ping_timeout)

    def _end(self, session: Session) -> None:
        self._accounts.end_session(session)
        self._index.remove_peer(session.peer_id)
        self._reports.forget(session.peer_id)
