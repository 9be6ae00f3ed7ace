"""The manifest cache: ids by fingerprint, manifests by id, and the records of replicas, from one start to the next.

An SQLite database in STATE_DIR. It never decides what a file contains: what it loses is hashed again. Safe to use from
many threads.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from daemon.errors import NotVerified
from daemon.library.cache_database import CacheDatabase
from daemon.library.identity import Check, required_check
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.manifest import DIGEST_LENGTH, Manifest

log = logging.getLogger(__name__)

_FIND = "SELECT dev, ctime_ns, id, seen FROM files WHERE inode = ? AND size = ? AND mtime_ns = ?"
_PUT_FILE = """
    INSERT OR REPLACE INTO files (inode, size, mtime_ns, dev, ctime_ns, id, seen) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_SEE_FILE = "UPDATE files SET seen = ? WHERE inode = ? AND size = ? AND mtime_ns = ? AND dev = ?"
_PUT_INCOMING = "INSERT OR REPLACE INTO incoming (id, size) VALUES (?, ?)"
_SECONDS_PER_DAY = 24 * 3600
# Days after which a file that was not seen is deleted from the cache. It may be on a disk that is not always mounted.
_MAX_DAYS_UNSEEN = 60
# A row's `seen` is updated only if it is this many days old, so that a start writes almost nothing.
_SEEN_UPDATE_DAYS = 7


class KnownId(NamedTuple):
    """The recorded id of a file, and what must be read of the file before it is trusted."""

    id: str
    check: Check


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
        Incompatible: if a newer release wrote the database.
        DiskFull, StorageFault: if the database cannot be opened. So does every method if the disk fails later.
    """

    def __init__(self, path: Path, now: float) -> None:
        self._today = int(now // _SECONDS_PER_DAY)
        # Cached, since it is queried for every small file that a peer offers.
        self._usage: ReplicaUsage | None = None
        self._database = CacheDatabase(path, self._forget_usage)
        self._database.transact(lambda connection: connection.execute("SELECT count(*) FROM replicas").fetchone())

    @property
    def is_open(self) -> bool:
        """Whether the database is open."""
        return self._database.is_open

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # ------------------------------------------------------------------------------------------------------ manifests

    def find_ids(self, fingerprints: Sequence[Fingerprint]) -> list[KnownId | None]:
        """Return what is known of the file with each fingerprint, in order; None where nothing is.

        Of several records of one file, on several devices, the one that needs the least check is returned.
        """

        def work(connection: sqlite3.Connection) -> list[KnownId | None]:
            ids: list[KnownId | None] = []
            stale: list[tuple[int, ...]] = []
            for fingerprint in fingerprints:
                present = _signed(fingerprint)
                key = (present.inode, present.size, present.mtime_ns)
                best: KnownId | None = None
                for dev, ctime_ns, id_, seen in connection.execute(_FIND, key):
                    check = required_check(dev, ctime_ns, present)
                    if check is None or not _is_id(id_) or not isinstance(seen, int):
                        continue
                    if best is None or check < best.check:
                        best = KnownId(id_.hex(), check)
                    if seen < self._today - _SEEN_UPDATE_DAYS:
                        stale.append((self._today, *key, dev))
                ids.append(best)
            connection.executemany(_SEE_FILE, stale)
            return ids

        return self._database.transact(work)

    def manifest(self, id_: str) -> Manifest | None:
        """Return the manifest of an id; None if it is unknown or damaged."""
        key = bytes.fromhex(id_)
        query = "SELECT manifest FROM manifests WHERE id = ?"
        row = self._database.transact(lambda connection: connection.execute(query, (key,)).fetchone())
        try:
            return None if row is None else Manifest.decode(bytes(row[0]), id_)
        except (NotVerified, TypeError):
            log.warning("the manifest cache has a damaged manifest of %s", id_)
            return None

    def put(self, files: Sequence[tuple[Fingerprint, Manifest]]) -> None:
        """Store the manifests of files, by fingerprint and by id, in one transaction."""
        rows = [self._row(fingerprint, manifest.id) for fingerprint, manifest in files]
        manifests = {manifest.id: (bytes.fromhex(manifest.id), manifest.encode()) for _, manifest in files}

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO manifests (id, manifest) VALUES (?, ?)", manifests.values())
            connection.executemany(_PUT_FILE, rows)

        self._database.transact(work)

    def put_ids(self, files: Iterable[tuple[Fingerprint, str]]) -> None:
        """Store the ids of files whose manifests are in the cache."""
        rows = [self._row(fingerprint, id_) for fingerprint, id_ in files]
        self._database.transact(lambda connection: connection.executemany(_PUT_FILE, rows))

    def forget(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Delete the ids of these files, also those of other devices and times, so that the files are hashed again."""
        rows = [(key.inode, key.size, key.mtime_ns) for key in map(_signed, fingerprints)]
        delete = "DELETE FROM files WHERE inode = ? AND size = ? AND mtime_ns = ?"
        self._database.transact(lambda connection: connection.executemany(delete, rows))

    def _row(self, fingerprint: Fingerprint, id_: str) -> tuple[int | bytes, ...]:
        dev, inode, size, mtime_ns, ctime_ns = _signed(fingerprint)[:5]
        return inode, size, mtime_ns, dev, ctime_ns, bytes.fromhex(id_), self._today

    def prune(self) -> None:
        """Delete files that were not seen for 60 days, and manifests that no file has."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM files WHERE seen < ?", (self._today - _MAX_DAYS_UNSEEN,))
            connection.execute("DELETE FROM manifests WHERE id NOT IN (SELECT id FROM files)")

        self._database.transact(work)

    # ------------------------------------------------------------------------------------------------------- replicas

    def record_replicas(self, files: Iterable[tuple[str, str, int]]) -> None:
        """Record files as replicas; each is (name, id, size in bytes)."""
        rows = [(name, bytes.fromhex(id_), size) for name, id_, size in files]

        def work(connection: sqlite3.Connection) -> None:
            self._usage = None
            connection.executemany("INSERT OR REPLACE INTO replicas (name, id, size) VALUES (?, ?, ?)", rows)

        self._database.transact(work)

    def replica_usage(self) -> ReplicaUsage:
        """Return how much of the quota the replicas use."""
        known = self._usage
        if known is not None:
            return known

        def work(connection: sqlite3.Connection) -> ReplicaUsage:
            entries = "total(1 + length(name) - length(replace(name, '/', '')))"
            query = f"SELECT {entries}, total(size) FROM replicas WHERE typeof(size) = 'integer' AND size >= 0"  # noqa: S608
            self._usage = ReplicaUsage(*map(int, connection.execute(query).fetchone()))
            return self._usage

        return self._database.transact(work)

    def release_replicas(self, files: Iterable[tuple[str, str]]) -> None:
        """Delete the replica records of files; each is (name, id)."""
        rows = [(name, bytes.fromhex(id_)) for name, id_ in files]

        def work(connection: sqlite3.Connection) -> None:
            self._usage = None
            connection.executemany("DELETE FROM replicas WHERE name = ? AND id = ?", rows)

        self._database.transact(work)

    def release_replicas_unless(self, has_file: Callable[[str, str], bool]) -> None:
        """Delete the replica records for whose name and id `has_file` returns False."""

        def work(connection: sqlite3.Connection) -> None:
            self._usage = None
            rows = connection.execute("SELECT name, id FROM replicas")
            gone = [
                (name, id_)
                for name, id_ in rows
                if not (isinstance(name, str) and _is_id(id_) and has_file(name, id_.hex()))
            ]
            connection.executemany("DELETE FROM replicas WHERE name = ? AND id = ?", gone)

        self._database.transact(work)

    # ------------------------------------------------------------------------------------------------ incoming pushes

    def record_incoming(self, id_: str, size: int) -> None:
        """Record that a peer pushes `size` bytes of an id, so that its unfinished part counts towards the quota."""
        row = (bytes.fromhex(id_), size)
        self._database.transact(lambda connection: connection.execute(_PUT_INCOMING, row))

    def forget_incoming(self, ids: Iterable[str]) -> None:
        """Delete the records of pushes: the parts are gone, or belong to a download of this peer's user."""
        rows = [(bytes.fromhex(id_),) for id_ in ids]
        self._database.transact(lambda connection: connection.executemany("DELETE FROM incoming WHERE id = ?", rows))

    def incoming_parts(self) -> dict[str, int]:
        """Return the recorded pushes: sizes in bytes by id, the oldest first."""
        query = "SELECT id, size FROM incoming WHERE typeof(size) = 'integer' AND size >= 0 ORDER BY rowid"
        rows = self._database.transact(lambda connection: connection.execute(query).fetchall())
        return {id_.hex(): size for id_, size in rows if _is_id(id_)}

    def _forget_usage(self) -> None:
        self._usage = None


def _signed(fingerprint: Fingerprint) -> Fingerprint:
    """Return a fingerprint as signed 64-bit integers for SQLite; some file systems have inodes up to 2 ** 64."""
    if max(fingerprint[:5]) < 1 << 63:
        return fingerprint
    signed = [value - (1 << 64) if value >= 1 << 63 else value for value in fingerprint[:5]]
    dev, inode, size, mtime_ns, ctime_ns = signed
    return Fingerprint(dev, inode, size, mtime_ns, ctime_ns, fingerprint.executable)


def _is_id(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == DIGEST_LENGTH
