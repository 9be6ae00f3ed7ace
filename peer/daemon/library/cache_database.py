"""The SQLite file of the manifest cache: creates, opens and upgrades it, and runs transactions. Knows no rows.

A file of an earlier release is upgraded in one transaction. A file of a newer release is refused and not touched. A
damaged file is set aside, and a new one takes its place. Safe to use from many threads.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from common.printable import printable
from common.version import VERSION
from daemon.errors import DiskFull, Incompatible, StorageFault
from daemon.storage.disk import storage_faults

log = logging.getLogger(__name__)

# PRAGMA user_version of the schema below. A change of the schema raises it, and adds a migration.
STATE_NUMBER = 2
# ctime_ns is NULL in rows of releases before 0.2.0.
_FILES = """CREATE TABLE files (
    inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, dev INTEGER NOT NULL, ctime_ns INTEGER,
    id BLOB NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (inode, size, mtime_ns, dev)
) STRICT, WITHOUT ROWID"""
_INCOMING = "CREATE TABLE IF NOT EXISTS {} (id BLOB NOT NULL UNIQUE, size INTEGER NOT NULL) STRICT"
# One row: the release that wrote the file last. Every later state must have this table, too.
_WRITTEN_BY = "CREATE TABLE written_by (release TEXT NOT NULL) STRICT"
_SCHEMA = (
    _FILES,
    "CREATE TABLE manifests (id BLOB PRIMARY KEY, manifest BLOB NOT NULL) STRICT",
    """CREATE TABLE replicas (
        name TEXT, id BLOB, size INTEGER NOT NULL, PRIMARY KEY (name, id)
    ) STRICT, WITHOUT ROWID""",
    _INCOMING.format("incoming"),
    _WRITTEN_BY,
)
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE files RENAME TO files_1",
        _FILES,
        """INSERT INTO files (inode, size, mtime_ns, dev, id, seen)
            SELECT inode, size, mtime_ns, dev, id, seen FROM files_1""",
        "DROP TABLE files_1",
        "ALTER TABLE kept RENAME TO replicas",
        # The first releases had no such table.
        _INCOMING.format("begun"),
        "ALTER TABLE begun RENAME TO incoming",
        _WRITTEN_BY,
    ),
}

# SQLite's errors that say nothing about the database: of the disk, of memory or of another process.
_NOT_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)

T = TypeVar("T")


class CacheDatabase:
    """The database at `path`, which is opened by the first transaction, and created with mode 0600 if it is missing.

    Args:
        path: the path of the database file.
        on_set_aside: called when a damaged database was replaced by an empty one.
    """

    def __init__(self, path: Path, on_set_aside: Callable[[], object]) -> None:
        self._path = path
        self._on_set_aside = on_set_aside
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether the database is open."""
        return self._connection is not None

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._disconnect()

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction, and return its result. If the database is damaged, run it again with a new one.

        Raises:
            Incompatible: if a newer release wrote the database.
            DiskFull, StorageFault: if the disk fails.
        """
        with self._lock, storage_faults("using the manifest cache"):
            try:
                return self._transact(work)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                # UnicodeDecodeError: the message of an error may quote damaged bytes of the database.
                if isinstance(error, sqlite3.DatabaseError) and not _is_damage(error):
                    raise _error_for(error) from error
                self._set_aside(error)
            try:
                return self._transact(work)
            except sqlite3.DatabaseError as error:
                raise _error_for(error) from error

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connect()
        with connection:
            connection.execute("BEGIN")
            return work(connection)

    # ---------------------------------------------------------------------------------------------------------- opening

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            for file in (self._path, *self._side_files()):
                if file.is_symlink() or (file.exists() and not file.is_file()):
                    raise sqlite3.DatabaseError(f"{file.name} is not a regular file")
            self._refuse_newer()
            # SQLite would create it readable for other users.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                # A power failure may lose the last rows, but not the database; their files are hashed again.
                connection.execute("PRAGMA synchronous = NORMAL")
                self._upgrade(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Create the schema, or upgrade it, in one transaction: a kill leaves the old or the new one."""
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            version = self._check_state(connection)
            if version == STATE_NUMBER:
                if connection.execute("SELECT release FROM written_by").fetchall() == [(VERSION,)]:
                    return
            elif version == 0:
                for statement in _SCHEMA:
                    connection.execute(statement)
            elif version in _MIGRATIONS:
                log.info("upgrading the manifest cache from state %d to state %d", version, STATE_NUMBER)
                for statement in _MIGRATIONS[version]:
                    connection.execute(statement)
            else:
                raise sqlite3.DatabaseError(f"unknown state {version}")
            connection.execute(f"PRAGMA user_version = {STATE_NUMBER}")
            connection.execute("DELETE FROM written_by")
            connection.execute("INSERT INTO written_by (release) VALUES (?)", (VERSION,))

    def _refuse_newer(self) -> None:
        """Check that no newer release wrote the database. A database that is refused does not change.

        Raises:
            Incompatible: if one did.
            sqlite3.DatabaseError: if the database is damaged, or cannot be read.
        """
        if not self._path.exists():
            return
        present = [file.exists() for file in self._side_files()]
        try:
            # Read-only, since closing another connection would write the log into the database.
            with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                self._check_state(connection)
        except sqlite3.OperationalError as error:
            # A rollback journal needs a connection that writes. It is of a process that was killed while it created
            # the database.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
        finally:
            for file, existed in zip(self._side_files(), present, strict=True):
                if not existed:
                    file.unlink(missing_ok=True)

    def _check_state(self, connection: sqlite3.Connection) -> int:
        """Return the state number of a database.

        Raises:
            Incompatible: if it is newer than this release's.
            sqlite3.DatabaseError: if the database is damaged.
        """
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > STATE_NUMBER:
            # A damaged number must not stop this peer permanently.
            (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if health != "ok":
                raise sqlite3.DatabaseError(health)
            raise Incompatible(
                f"{self._path} was written by {_writer(connection)} (state {version}); this pserver is"
                f" release {VERSION} (state {STATE_NUMBER}): upgrade this pserver, or choose another STATE_DIR"
            )
        return int(version)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ----------------------------------------------------------------------------------------------------------- damage

    def _set_aside(self, error: Exception) -> None:
        log.warning(
            "the manifest cache is damaged (%s): moved to %s.damaged; files will be hashed again", error, self._path
        )
        self._disconnect()
        self._on_set_aside()
        for file in self._side_files():
            file.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._path.replace(f"{self._path}.damaged")

    def _side_files(self) -> list[Path]:
        """Return the paths of SQLite's write-ahead log and its index."""
        return [Path(f"{self._path}{suffix}") for suffix in ("-wal", "-shm")]


def _writer(connection: sqlite3.Connection) -> str:
    """Return the release that wrote a database of a newer state."""
    try:
        (release,) = connection.execute("SELECT release FROM written_by").fetchone()
    except (sqlite3.Error, TypeError):
        return "a newer release"
    return f"release {printable(str(release))}"


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether an error means a damaged or foreign database, and not a failing, full or read-only disk."""
    # The lowest byte of an extended code is the general code. An error raised by this module has no code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _NOT_DAMAGE


def _error_for(error: sqlite3.DatabaseError) -> DiskFull | StorageFault:
    if "full" in str(error):
        return DiskFull("disk full while writing the manifest cache; make room in STATE_DIR")
    return StorageFault(f"{error} while using the manifest cache; check the disk of STATE_DIR")
