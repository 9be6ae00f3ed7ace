"""The queries: users and sessions as rows. Every SQL statement of the tracker but what only one database has."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from tracker.account_store.schema import sessions, users
from tracker.errors import TrackerError

log = logging.getLogger("tracker.accounts")


class StoredSession(NamedTuple):
    """A row of the sessions; times are server_time."""

    token_digest: str
    peer_id: str
    user: str
    address: str
    loopback: bool
    created: float
    last_seen: float


class AccountStore:
    """Users and sessions in the database. Thread-safe. A change is complete on the disk when its method returns.

    Every method but `close` raises TrackerError if the database fails: DiskFull, Busy or StorageFault.
    """

    def __init__(self, engine: sa.Engine, translate: Callable[[DBAPIError], TrackerError]) -> None:
        """Use a database of the newest state.

        Args:
            engine: connects to it.
            translate: returns what an error of this database means.
        """
        self._engine = engine
        self._translate = translate
        # SQLite has one writer at a time, and polls; a lock is fair.
        self._writer = threading.Lock()
        self._failing = False

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def password_hash(self, user: str) -> str | None:
        """Return the stored hash of a user's password; None for an unknown user."""
        with self._reading() as connection:
            return connection.execute(sa.select(users.c.password_hash).where(users.c.name == user)).scalar()

    def add_user(self, user: str, password_hash: str, now: float) -> bool:
        """Create an account; False if the user exists."""
        try:
            with self._writing() as connection:
                connection.execute(users.insert().values(name=user, password_hash=password_hash, created=now))
        except IntegrityError:
            return False
        return True

    def set_password(self, user: str, password_hash: str) -> None:
        """Replace the stored hash of a user's password."""
        with self._writing() as connection:
            connection.execute(users.update().where(users.c.name == user).values(password_hash=password_hash))

    def sessions(self, seen_since: float) -> Iterator[StoredSession]:
        """Yield the sessions that were used since a time."""
        columns = (
            sessions.c.token_digest,
            sessions.c.peer_id,
            sessions.c.user_name,
            sessions.c.address,
            sessions.c.loopback,
            sessions.c.created,
            sessions.c.last_seen,
        )
        with self._reading() as connection:
            for row in connection.execute(sa.select(*columns).where(sessions.c.last_seen >= seen_since)):
                yield StoredSession(*row)

    def add_session(self, session: StoredSession, replaced: Iterable[str]) -> None:
        """Store a session, and delete those with the token digests `replaced`, in one step."""
        with self._writing() as connection:
            _delete(connection, replaced)
            connection.execute(
                sessions.insert().values(
                    token_digest=session.token_digest,
                    peer_id=session.peer_id,
                    user_name=session.user,
                    address=session.address,
                    loopback=session.loopback,
                    created=session.created,
                    last_seen=session.last_seen,
                )
            )

    def move_session(self, digest: str, address: str, loopback: bool, replaced: Iterable[str]) -> None:
        """Change the address of a session, and delete those with the token digests `replaced`, in one step."""
        with self._writing() as connection:
            _delete(connection, replaced)
            moved = sessions.update().where(sessions.c.token_digest == digest)
            connection.execute(moved.values(address=address, loopback=loopback))

    def delete_session(self, digest: str) -> None:
        """Delete a session, if there is one with this token digest."""
        with self._writing() as connection:
            _delete(connection, [digest])

    def delete_unused_sessions(self, seen_before: float) -> None:
        """Delete the sessions that were last used before a time."""
        with self._writing() as connection:
            connection.execute(sessions.delete().where(sessions.c.last_seen < seen_before))

    def save_last_seen(self, times: Mapping[str, float]) -> None:
        """Store when sessions were last used, by token digest. Unknown digests have no effect."""
        statement = (
            sessions.update()
            .where(sessions.c.token_digest == sa.bindparam("digest"))
            .values(last_seen=sa.bindparam("time"))
        )
        with self._writing() as connection:
            connection.execute(statement, [{"digest": digest, "time": time} for digest, time in times.items()])

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise self._translate(error) from error

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction that is committed at the end."""
        with self._writer:
            try:
                with self._engine.begin() as connection:
                    yield connection
            except IntegrityError:
                raise
            except DBAPIError as error:
                failure = self._translate(error)
                # Once: every login and every ping of an hour may follow.
                if not self._failing:
                    log.error("the accounts cannot be changed: %s", error.orig)  # noqa: TRY400 - no traceback is needed
                self._failing = True
                raise failure from error
            if self._failing:
                log.info("the accounts can be changed again")
            self._failing = False


def _delete(connection: sa.Connection, digests: Iterable[str]) -> None:
    for digest in digests:
        connection.execute(sessions.delete().where(sessions.c.token_digest == digest))
