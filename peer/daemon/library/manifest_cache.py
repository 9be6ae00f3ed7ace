"""What this peer remembers of its files between two starts: manifests by stamp, what it keeps and has begun at others'
request.

SQLite in STATE_DIR. Never the truth about a file: a damaged catalog is set aside, and files are hashed again.
Safe to use from many threads.
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
from daemon.storage.disk import storage_faults
from daemon.storage.manifest import DIGEST_LENGTH, Manifest
from daemon.storage.walk import Fingerprint

log = logging.getLogger(__name__)

_VERSION = 1
_SCHEMA = """
CREATE TABLE files (
    dev INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, id BLOB NOT NULL, seen INTEGER NOT NULL,
    PRIMARY KEY (dev, inode, size, mtime_ns)
) STRICT, WITHOUT ROWID;
CREATE TABLE manifests (id BLOB PRIMARY KEY, manifest BLOB NOT NULL) STRICT;
CREATE TABLE kept (name TEXT, id BLOB, size INTEGER NOT NULL, PRIMARY KEY (name, id)) STRICT, WITHOUT ROWID;
"""
# Later than the others: a catalog that has none yet is given it.
_SCHEMA_BEGUN = "CREATE TABLE IF NOT EXISTS begun (id BLOB NOT NULL UNIQUE, size INTEGER NOT NULL) STRICT"
_MATCH = "dev = ? AND inode = ? AND size = ? AND mtime_ns = ?"
_DAY = 24 * 3600
# A file that was not seen for so many days is forgotten; it may be on a disk that is not always there.
_DAYS_KEPT = 60
# A row's day is written again when it is so many days old, so that a start writes almost nothing.
_DAYS_STALE = 7

# What SQLite says of the disk and of others, not of the database.
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
    """What is kept at others' request. `entries`: its files, and of each the folders in its name."""

    entries: int
    bytes: int


class ManifestCache:
    """The catalog in the file at `path`; made, with mode 0600, if it is not there. `now` is in unix seconds."""

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        self._today = int(now // _DAY)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        # Asked for at every small file that is offered: kept in mind until it changes.
        self._kept: ReplicaUsage | None = None
        self._do(lambda connection: connection.execute("SELECT count(*) FROM kept").fetchone())

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._disconnect()

    # ------------------------------------------------------------------------------------------------------ manifests

    def find_ids(self, fingerprints: Sequence[Fingerprint]) -> list[str | None]:
        """Return the id of each stamp's contents; None where it is not known."""

        def work(connection: sqlite3.Connection) -> list[str | None]:
            find = f"SELECT id, seen FROM files WHERE {_MATCH}"  # noqa: S608
            ids: list[str | None] = []
            stale: list[tuple[int, ...]] = []
            for stamp in fingerprints:
                row = connection.execute(find, _signed(stamp)).fetchone()
                if row is None or not _is_id(row[0]) or not isinstance(row[1], int):
                    ids.append(None)
                    continue
                ids.append(row[0].hex())
                if row[1] < self._today - _DAYS_STALE:
                    stale.append((self._today, *_signed(stamp)))
            connection.executemany(f"UPDATE files SET seen = ? WHERE {_MATCH}", stale)  # noqa: S608
            return ids

        return self._do(work)

    def manifest(self, id_: str) -> Manifest | None:
        """Return a manifest; None if it is not here, or not what it should be."""
        key = bytes.fromhex(id_)
        query = "SELECT manifest FROM manifests WHERE id = ?"
        row = self._do(lambda connection: connection.execute(query, (key,)).fetchone())
        try:
            return None if row is None else Manifest.decode(bytes(row[0]), id_)
        except (NotVerified, TypeError):
            log.warning("the catalog has a damaged manifest of %s", id_)
            return None

    def put(self, files: Sequence[tuple[Fingerprint, Manifest]]) -> None:
        """Remember what files are, in one transaction."""
        rows = [(*_signed(stamp), bytes.fromhex(manifest.id), self._today) for stamp, manifest in files]
        manifests = {manifest.id: (bytes.fromhex(manifest.id), manifest.encode()) for _, manifest in files}

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO manifests VALUES (?, ?)", manifests.values())
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

        self._do(work)

    def forget(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Forget what files are, so that they will be hashed again."""
        rows = [_signed(stamp) for stamp in fingerprints]
        self._do(lambda connection: connection.executemany(f"DELETE FROM files WHERE {_MATCH}", rows))  # noqa: S608

    def prune(self) -> None:
        """Forget files that were not seen for long, and manifests that no file has any more."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM files WHERE seen < ?", (self._today - _DAYS_KEPT,))
            connection.execute("DELETE FROM manifests WHERE id NOT IN (SELECT id FROM files)")

        self._do(work)

    # ----------------------------------------------------------------------------------------------------------- kept

    def record_replicas(self, files: Iterable[tuple[str, str, int]]) -> None:
        """Note (name, id, size) as kept at others' request."""
        rows = [(name, bytes.fromhex(id_), size) for name, id_, size in files]

        def work(connection: sqlite3.Connection) -> None:
            self._kept = None
            connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)

        self._do(work)

    def replica_usage(self) -> ReplicaUsage:
        """Return what is kept at others' request."""
        known = self._kept
        if known is not None:
            return known

        def work(connection: sqlite3.Connection) -> ReplicaUsage:
            entries = "total(1 + length(name) - length(replace(name, '/', '')))"
            query = f"SELECT {entries}, total(size) FROM kept WHERE typeof(size) = 'integer' AND size >= 0"  # noqa: S608
            self._kept = ReplicaUsage(*map(int, connection.execute(query).fetchone()))
            return self._kept

        return self._do(work)

    def release_replicas(self, files: Iterable[tuple[str, str]]) -> None:
        """Note that (name, id) are not kept at others' request any more."""
        rows = [(name, bytes.fromhex(id_)) for name, id_ in files]

        def work(connection: sqlite3.Connection) -> None:
            self._kept = None
            connection.executemany("DELETE FROM kept WHERE name = ? AND id = ?", rows)

        self._do(work)

    def release_replicas_unless(self, is_held: Callable[[str, str], bool]) -> None:
        """Note that of what is kept at others' request only those (name, id) still are that are held."""

        def work(connection: sqlite3.Connection) -> None:
            self._kept = None
            rows = connection.execute("SELECT name, id FROM kept")
            gone = [
                (name, id_)
                for name, id_ in rows
                if not (isinstance(name, str) and _is_id(id_) and is_held(name, id_.hex()))
            ]
            connection.executemany("DELETE FROM kept WHERE name = ? AND id = ?", gone)

        self._do(work)

    # ---------------------------------------------------------------------------------------------------------- begun

    def record_incoming(self, id_: str, size: int) -> None:
        """Note that what will lie here unfinished of an id is there at another's request."""
        row = (bytes.fromhex(id_), size)
        self._do(lambda connection: connection.execute("INSERT OR REPLACE INTO begun VALUES (?, ?)", row))

    def forget_incoming(self, ids: Iterable[str]) -> None:
        """Note that what lies here of these ids is not, or that there is nothing any more."""
        rows = [(bytes.fromhex(id_),) for id_ in ids]
        self._do(lambda connection: connection.executemany("DELETE FROM begun WHERE id = ?", rows))

    def incoming_parts(self) -> dict[str, int]:
        """Return the sizes of what was begun at others' request, by id, the oldest first."""
        query = "SELECT id, size FROM begun WHERE typeof(size) = 'integer' AND size >= 0 ORDER BY rowid"
        rows = self._do(lambda connection: connection.execute(query).fetchall())
        return {id_.hex(): size for id_, size in rows if _is_id(id_)}

    # ------------------------------------------------------------------------------------------------------- database

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some work in a transaction; once more with a new catalog if this one turns out to be damaged."""
        with self._lock, storage_faults("using the catalog"):
            try:
                return self._transact(work)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                # SQLite's words about a damaged database may be damaged too.
                if isinstance(error, sqlite3.DatabaseError) and not _is_damage(error):
                    raise _fault(error) from error
                self._set_aside(error)
            try:
                return self._transact(work)
            except sqlite3.DatabaseError as error:
                raise _fault(error) from error

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connect()
        with connection:
            connection.execute("BEGIN")
            return work(connection)

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            for file in (self._path, *self._beside()):
                if file.is_symlink() or (file.exists() and not file.is_file()):
                    raise sqlite3.DatabaseError(f"{file.name} is no regular file")
            # SQLite would make it readable for others.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may take the last rows, not the database; they cost hashing, no more.
            connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(f"unknown version {version}")
            connection.execute(_SCHEMA_BEGUN)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _set_aside(self, error: Exception) -> None:
        log.warning(
            "the catalog is damaged (%s): set aside as %s.damaged; files will be hashed again", error, self._path
        )
        self._disconnect()
        self._kept = None
        for file in self._beside():
            file.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._path.replace(f"{self._path}.damaged")

    def _beside(self) -> list[Path]:
        """SQLite's own files."""
        return [Path(f"{self._path}{suffix}") for suffix in ("-wal", "-shm")]


def _signed(stamp: Fingerprint) -> tuple[int, ...]:
    """Return a stamp as SQLite can store it: some file systems number their files up to 2 ** 64."""
    return tuple(value - (1 << 64) if value >= 1 << 63 else value for value in stamp)


def _is_id(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == DIGEST_LENGTH


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell a damaged database, or one that is not ours, from a disk that fails, is full or is not to be written to."""
    # An extended code has the general one in its lowest byte; an error of our own has none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _NOT_DAMAGE


def _fault(error: sqlite3.DatabaseError) -> DiskFull | StorageFault:
    if "full" in str(error):
        return DiskFull("the disk is full while writing the catalog: make room in STATE_DIR")
    return StorageFault(f"{error} while using the catalog: look at STATE_DIR's disk")
