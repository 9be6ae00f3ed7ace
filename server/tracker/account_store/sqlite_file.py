"""The accounts in a SQLite file: connections, a check for damage, an atomic creation. All SQL that only SQLite has.

The file uses a rollback journal, not a write-ahead log: then the file alone is complete after each change, a full disk
stops no read, and writes are rare here.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from tracker.errors import Busy, DiskFull, StorageFault, TrackerError

# Seconds that a change waits for another process that writes to the file.
LOCK_TIMEOUT = 5.0
# What a failed statement raises.
ERRORS = (DBAPIError, sqlite3.Error)
# The part of a code of SQLite that names the kind of error.
_PRIMARY = 0xFF
_JOURNALS = ("-wal", "-journal")


class Damaged(Exception):
    """The file is no usable database; the message is the reason."""


def open_engine(path: Path, *, foreign_keys: bool = True) -> sa.Engine:
    """Return an engine for a file that exists.

    Args:
        path: the file.
        foreign_keys: False for migrations, which replace tables that others refer to.
    """
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": LOCK_TIMEOUT})

    # sqlite3 itself would begin no transaction before DDL, so a migration would not be one transaction.
    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def exists(path: Path) -> bool:
    """Return whether the file exists.

    Raises:
        Damaged: it is empty, or it is missing and its journal is not. SQLite would delete the journal.
        OSError: it cannot be opened for writing, or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        for journal in journals(path):
            if journal.exists():
                raise Damaged(f"it is missing, and {journal.name} exists") from None
        return False
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Damaged("it is not a file")
    if status.st_size == 0:
        raise Damaged("it is empty")
    return True


def journals(path: Path) -> list[Path]:
    """Return the files that SQLite has beside the database while it is in use; a crash leaves them."""
    return [path.with_name(path.name + suffix) for suffix in _JOURNALS]


def check(connection: sa.Connection) -> None:
    """Check the structure of the whole file: 0.05 s for 100,000 users with a session each.

    Raises:
        Damaged: with the first fault.
    """
    first = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    if first != "ok":
        raise Damaged(" ".join(first.split()))


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Yield an empty file of mode 0600 that gets its name at the end, so that a crash leaves no incomplete database."""
    fresh = path.with_name(f".{path.name}.new")
    for leftover in (fresh, *journals(fresh)):
        leftover.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    yield fresh
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def use_rollback_journal(path: Path) -> None:
    """Move what a write-ahead log has into the file: releases before 0.2.0 wrote one. Nothing changes otherwise."""
    with closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def is_damage(error: DBAPIError | sqlite3.Error) -> bool:
    """Return whether an error says that the file is no sound database."""
    return _code(error) & _PRIMARY in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def translate(error: DBAPIError | sqlite3.Error) -> TrackerError:
    """Return what an error of the database means for a client."""
    code = _code(error)
    # The second one occurs when a database with a write-ahead log is opened.
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE):
        return DiskFull("the tracker's disk is full, so nothing was changed: ask its operator to make room")
    if code & _PRIMARY == sqlite3.SQLITE_BUSY:
        return Busy("another program uses the tracker's accounts: try again in some seconds")
    return StorageFault(f"the tracker cannot use its accounts ({reason(error)}): ask its operator to check the disk")


def reason(error: DBAPIError | sqlite3.Error) -> str:
    """Return SQLite's own words."""
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _code(error: DBAPIError | sqlite3.Error) -> int:
    return getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlite_errorcode", 0)
