"""The manifest cache: ids by fingerprint, manifests by id, and the records of replicas, from one start to the next.

An SQLite database in STATE_DIR. It never decides what a file contains: a damaged database is set aside, and files are
hashed again. Safe to use from many threads.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from daemon.errors import DiskFull, NotVerified, StorageFault
from daemon.storage.disk import Fingerprint, storage_faults
from daemon.storage.manifest import DIGEST_LENGTH, Manifest

log = logging.getLogger(__name__)

# PRAGMA user_version of the schema. The tables of replicas and of incoming parts have their first names, `kept` and
# `begun`, so that a database of an earlier release stays valid.
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE files (
    dev INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, id BLOB NOT NULL, seen INTEGER NOT NULL,
    PRIMARY KEY (dev, inode, size, mtime_ns)
) STRICT, WITHOUT ROWID;
CREATE TABLE manifests (id BLOB PRIMARY KEY, manifest BLOB NOT NULL) STRICT;
CREATE TABLE kept (name TEXT, id BLOB, size INTEGER NOT NULL, PRIMARY KEY (name, id)) STRICT, WITHOUT ROWID;
"""
# Younger than the other tables, and added to a database that does not have it.
_INCOMING_SCHEMA = "CREATE TABLE IF NOT EXISTS begun (id BLOB NOT NULL UNIQUE, size INTEGER NOT NULL) STRICT"
_MATCH = "dev = ? AND inode = ? AND size = ? AND mtime_ns = ?"
_SECONDS_PER_DAY = 24 * 3600
# Days after which a file that was not seen is deleted from the cache. It may be on a disk that is not always mounted.
_MAX_DAYS_UNSEEN = 60
# A row's `seen` is updated only if it is this many days old, so that a start writes almost nothing.
_SEEN_UPDATE_DAYS = 7

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


class ReplicaUsage(NamedTuple):
    """What the replicas use of the quota."""

    # The components of all names: one for each file, and one for each folder in its name.
    entries: int
    bytes: int


class ManifestCache:
    """The database at `path`, which is created with mode 0600 if it does not exist.

    Args:
        path: the path of the database file.
        now: the time in Unix seconds.

    Raises:
        DiskFull, StorageFault: if the database cannot be opened. So does every method if the disk fails later.
    """

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        self._today = int(now // _SECONDS_PER_DAY)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        # Cached, since it is queried for every small file that a peer offers.
        self._usage: ReplicaUsage | None = None
        self._in_transaction(lambda connection: connection.execute("SELECT count(*) FROM kept").fetchone())

    @property
    def is_open(self) -> bool:
        """Whether the database is open."""
        return self._connection is not None

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._disconnect()

    # ------------------------------------------------------------------------------------------------------ manifests

    def find_ids(self, fingerprints: Sequence[Fingerprint]) -> list[str | None]:
        """Return the id of the file with each fingerprint, in order; None where it is unknown."""

        def work(connection: sqlite3.Connection) -> list[str | None]:
            find = f"SELECT id, seen FROM files WHERE {_MATCH}"  # noqa: S608
            ids: list[str | None] = []
            stale: list[tuple[int, ...]] = []
            for fingerprint in fingerprints:
                row = connection.execute(find, _signed(fingerprint)).fetchone()
                if row is None or not _is_id(row[0]) or not isinstance(row[1], int):
                    ids.append(None)
                    continue
                ids.append(row[0].hex())
                if row[1] < self._today - _SEEN_UPDATE_DAYS:
                    stale.append((self._today, *_signed(fingerprint)))
            connection.executemany(f"UPDATE files SET seen = ? WHERE {_MATCH}", stale)  # noqa: S608
            return ids

        return self._in_transaction(work)

    def manifest(self, id_: str) -> Manifest | None:
        """Return the manifest of an id; None if it is unknown or damaged."""
        key = bytes.fromhex(id_)
        query = "SELECT manifest FROM manifests WHERE id = ?"
        row = self._in_transaction(lambda connection: connection.execute(query, (key,)).fetchone())
        try:
            return None if row is None else Manifest.decode(bytes(row[0]), id_)
        except (NotVerified, TypeError):
            log.warning("the manifest cache has a damaged manifest of %s", id_)
            return None

    def put(self, files: Sequence[tuple[Fingerprint, Manifest]]) -> None:
        """Store the manifests of files, by fingerprint and by id, in one transaction."""
        rows = [(*_signed(fingerprint), bytes.fromhex(manifest.id), self._today) for fingerprint, manifest in files]
        manifests = {manifest.id: (bytes.fromhex(manifest.id), manifest.encode()) for _, manifest in files}

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO manifests VALUES (?, ?)", manifests.values())
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

        self._in_transaction(work)

    def forget(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Delete the ids of these fingerprints, so that the files are hashed again."""
        rows = [_signed(fingerprint) for fingerprint in fingerprints]
        self._in_transaction(lambda connection: connection.executemany(f"DELETE FROM files WHERE {_MATCH}", rows))  # noqa: S608

    def prune(self) -> None:
        """Delete files that were not seen for 60 days, and manifests that no file has."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM files WHERE seen < ?", (self._today - _MAX_DAYS_UNSEEN,))
            connection.execute("DELETE FROM manifests WHERE id NOT IN (SELECT id FROM files)")

        self._in_transaction(work)

    # ------------------------------------------------------------------------------------------------------- replicas

    def record_replicas(self, files: Iterable[tuple[str, str, int]]) -> None:
        """Record files as replicas; each is (name, id, size in bytes)."""
        rows = [(name, bytes.fromhex(id_), size) for name, id_, size in files]

        def work(connection: sqlite3.Connection) -> None:
            self._usage = None
            connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)

        self._in_transaction(work)

    def replica_usage(self) -> ReplicaUsage:
        """Return how much of the quota the replicas use."""
        known = self._usage
        if known is not None:
            return known

        def work(connection: sqlite3.Connection) -> ReplicaUsage:
            entries = "total(1 + length(name) - length(replace(name, '/', '')))"
            query = f"SELECT {entries}, total(size) FROM kept WHERE typeof(size) = 'integer' AND size >= 0"  # noqa: S608
            self._usage = ReplicaUsage(*map(int, connection.execute(query).fetchone()))
            return self._usage

        return self._in_transaction(work)

    def release_replicas(self, files: Iterable[tuple[str, str]]) -> None:
        """Delete the replica records of files; each is (name, id)."""
        rows = [(name, bytes.fromhex(id_)) for name, id_ in files]

        def work(connection: sqlite3.Connection) -> None:
            self._usage = None
            connection.executemany("DELETE FROM kept WHERE name = ? AND id = ?", rows)

        self._in_transaction(work)

    def release_replicas_unless(self, has_file: Callable[[str, str], bool]) -> None:
        """Delete the replica records for whose name and id `has_file` returns False."""

        def work(connection: sqlite3.Connection) -> None:
            self._usage = None
            rows = connection.execute("SELECT name, id FROM kept")
            gone = [
                (name, id_)
                for name, id_ in rows
                if not (isinstance(name, str) and _is_id(id_) and has_file(name, id_.hex()))
            ]
            connection.executemany("DELETE FROM kept WHERE name = ? AND id = ?", gone)

        self._in_transaction(work)

    # ------------------------------------------------------------------------------------------------ incoming pushes

    def record_incoming(self, id_: str, size: int) -> None:
        """Record that a peer pushes `size` bytes of an id, so that its unfinished part counts towards the quota."""
        row = (bytes.fromhex(id_), size)
        self._in_transaction(lambda connection: connection.execute("INSERT OR REPLACE INTO begun VALUES (?, ?)", row))

    def forget_incoming(self, ids: Iterable[str]) -> None:
        """Delete the records of pushes: the parts are gone, or belong to a download of this peer's user."""
        rows = [(bytes.fromhex(id_),) for id_ in ids]
        self._in_transaction(lambda connection: connection.executemany("DELETE FROM begun WHERE id = ?", rows))

    def incoming_parts(self) -> dict[str, int]:
        """Return the recorded pushes: sizes in bytes by id, the oldest first."""
        query = "SELECT id, size FROM begun WHERE typeof(size) = 'integer' AND size >= 0 ORDER BY rowid"
        rows = self._in_transaction(lambda connection: connection.execute(query).fetchall())
        return {id_.hex(): size for id_, size in rows if _is_id(id_)}

    # ------------------------------------------------------------------------------------------------------- database

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; run it again with a new database if this one is damaged."""
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

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            for file in (self._path, *self._side_files()):
                if file.is_symlink() or (file.exists() and not file.is_file()):
                    raise sqlite3.DatabaseError(f"{file.name} is not a regular file")
            # SQLite would create it readable for other users.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            # A power failure may lose the last rows, but not the database; their files are hashed again.
            connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
            elif version != _SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"unknown version {version}")
            connection.execute(_INCOMING_SCHEMA)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _set_aside(self, error: Exception) -> None:
        log.warning(
            "the manifest cache is damaged (%s): moved to %s.damaged; files will be hashed again", error, self._path
        )
        self._disconnect()
        self._usage = None
        for file in self._side_files():
            file.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._path.replace(f"{self._path}.damaged")

    def _side_files(self) -> list[Path]:
        """Return the paths of SQLite's write-ahead log and its index."""
        return [Path(f"{self._path}{suffix}") for suffix in ("-wal", "-shm")]


def _signed(fingerprint: Fingerprint) -> tuple[int, ...]:
    """Return a fingerprint as signed 64-bit integers for SQLite; some file systems have inodes up to 2 ** 64."""
    return tuple(value - (1 << 64) if value >= 1 << 63 else value for value in fingerprint[:4])


def _is_id(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == DIGEST_LENGTH


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether an error means a damaged or foreign database, and not a failing, full or read-only disk."""
    # The lowest byte of an extended code is the general code. An error raised by this module has no code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _NOT_DAMAGE


def _error_for(error: sqlite3.DatabaseError) -> DiskFull | StorageFault:
    if "full" in str(error):
        return DiskFull("disk full while writing the manifest cache; make room in STATE_DIR")
    return StorageFault(f"{error} while using the manifest cache; check the disk of STATE_DIR")
