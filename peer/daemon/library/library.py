"""The library: the complete files of this peer by name and by id, its partial files, and the latest changes of both.

It is in memory, and never reads the shared folder: the scanner and the transfers report files to it. Safe to use from
many threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from daemon.errors import NoSuchFile
from daemon.library.identity import Check
from daemon.library.index_changes import Changes, EntryKey, Snapshot, sorted_in_runs
from daemon.library.manifest_cache import ManifestCache
from daemon.models import IndexEntry, Version
from daemon.runtime.batches import batched
from daemon.storage.attributes import attributes_of
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.manifest import Manifest
from daemon.storage.names import fold
from daemon.storage.sparse import data_bytes

# Changes in the log. A reader that missed more gets a snapshot instead.
_MAX_LOGGED_CHANGES = 20_000
# Bytes of digests in the memory cache of manifests.
_MAX_CACHED_DIGEST_BYTES = 8 << 20

# Files that are handled while the lock is held. The event loop may wait for it.
_ENTRIES_AT_ONCE = 1000

# Name and id. A plain tuple, since the maps and the log have one for each file.
_Key = tuple[str, str]


class HashedFile(NamedTuple):
    """A file of the shared folder that was hashed or published."""

    name: str
    fingerprint: Fingerprint
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A complete file in the shared folder.

    A confirmed file has the fingerprint that it had when it was hashed. Of an unconfirmed one the inode or the device
    number changed since, but not the mtime: probably, but not certainly, it still has its id.
    """

    name: str
    id: str
    fingerprint: Fingerprint
    # What must be read of the file before it is confirmed.
    check: Check = Check.NONE

    @property
    def confirmed(self) -> bool:
        """Whether the file has not changed since it was hashed."""
        return self.check is Check.NONE

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.fingerprint.size

    @property
    def version(self) -> Version:
        """The version that the file is."""
        return Version(self.name, self.id, self.size, attributes_of(self.fingerprint))

    @property
    def entry(self) -> IndexEntry:
        """The index entry of the file."""
        return IndexEntry(self.name, self.id, self.size, complete=True, attributes=attributes_of(self.fingerprint))


class Library:
    """The files of one peer. Manifests are read from `manifest_cache` when they are needed.

    A file that is added or removed, or gets other attributes, raises the revision; other content is both.
    """

    def __init__(self, manifest_cache: ManifestCache) -> None:
        self._manifest_cache = manifest_cache
        self._lock = threading.Lock()
        # By folded name: names with the same folded form are one name.
        self._names: dict[str, LocalFile] = {}
        # Most ids have one name. The files of an id with several names are by folded name, so that each of ten thousand
        # empty files is added and removed in one step.
        self._ids: dict[str, LocalFile | dict[str, LocalFile]] = {}
        # Sizes of partial files in bytes.
        self._partial: dict[_Key, int] = {}
        # Folded names of the files that are not confirmed.
        self._unconfirmed: set[str] = set()
        self._bytes = 0
        self._revision = 0
        # The keys changed by the latest revisions, one for each.
        self._log: deque[_Key] = deque(maxlen=_MAX_LOGGED_CHANGES)
        # By id, the least recently used first.
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._cached_digest_bytes = 0

    # ---------------------------------------------------------------------------------------------------------- queries

    def by_name(self, name: str) -> LocalFile | None:
        """Return the file with that name, or a name equal after NFC and case folding; None if there is none."""
        with self._lock:
            return self._names.get(fold(name))

    def by_id(self, id_: str) -> tuple[LocalFile, ...]:
        """Return the complete files with that id. They may be many; `any_by_id` returns one."""
        with self._lock:
            files = self._ids.get(id_)
            if files is None:
                return ()
            return tuple(files.values()) if isinstance(files, dict) else (files,)

    def any_by_id(self, id_: str) -> LocalFile | None:
        """Return one of the complete files with that id, a confirmed one if there is one; None if there is none."""
        with self._lock:
            files = self._ids.get(id_)
            if not isinstance(files, dict):
                return files
            return next((file for file in files.values() if file.confirmed), next(iter(files.values())))

    def names(self) -> list[str]:
        """Return the names of all complete files, in no order."""
        with self._lock:
            return [file.name for file in self._names.values()]

    def unconfirmed(self) -> list[LocalFile]:
        """Return the files that are not confirmed, in no order."""
        with self._lock:
            return [self._names[folded] for folded in self._unconfirmed]

    @property
    def unconfirmed_count(self) -> int:
        """The number of files that are not confirmed."""
        return len(self._unconfirmed)

    @property
    def file_count(self) -> int:
        """The number of complete files."""
        return len(self._names)

    @property
    def total_bytes(self) -> int:
        """The bytes of all complete files together."""
        return self._bytes

    def manifest(self, id_: str) -> Manifest:
        """Return the manifest of a complete file.

        Raises:
            NoSuchFile: if the cache lost it. The files with this id are removed then, and the next scan hashes them.
        """
        with self._lock:
            manifest = self._manifests.get(id_)
            if manifest is not None:
                self._manifests.move_to_end(id_)
                return manifest
        manifest = self._manifest_cache.manifest(id_)
        if manifest is None:
            self.discard(self.by_id(id_))
            raise NoSuchFile("the file must be hashed again; try again in a minute")
        with self._lock:
            if id_ not in self._manifests:
                self._manifests[id_] = manifest
                self._cached_digest_bytes += len(manifest.digests)
                while self._cached_digest_bytes > _MAX_CACHED_DIGEST_BYTES and len(self._manifests) > 1:
                    self._cached_digest_bytes -= len(self._manifests.popitem(last=False)[1].digests)
        return manifest

    @property
    def cached_digest_bytes(self) -> int:
        """The bytes of digests in the memory cache of manifests."""
        with self._lock:
            return sum(len(manifest.digests) for manifest in self._manifests.values())

    # -------------------------------------------------------------------------------------------------------- changes

    def add(self, *files: LocalFile) -> None:
        """Add complete files. A file with the same name is replaced."""
        self.add_many(files)

    def add_many(self, files: Iterable[LocalFile]) -> None:
        """Add complete files, like `add`."""
        for some in batched(files, _ENTRIES_AT_ONCE):
            with self._lock:
                for file in some:
                    self._add(file)

    def register(self, files: Sequence[HashedFile], *, replica: bool = False) -> list[LocalFile]:
        """Add files that were just hashed or published, also to the manifest cache.

        Args:
            files: the files.
            replica: whether another peer asked to store them, so that they count towards the quota.

        Returns:
            The files as the library has them, in order.

        Raises:
            DiskFull, StorageFault: if the manifest cache cannot be written; no file is added then.
        """
        self._manifest_cache.put([(fingerprint, manifest) for _, fingerprint, manifest in files])
        if replica:
            self._manifest_cache.record_replicas(
                (name, manifest.id, data_bytes(manifest)) for name, _, manifest in files
            )
        added = [LocalFile(name, manifest.id, fingerprint) for name, fingerprint, manifest in files]
        self.add_many(added)
        return added

    def update(self, changes: Iterable[tuple[LocalFile, LocalFile]]) -> list[LocalFile]:
        """Replace files by the same files with other fingerprints or checks, except those that changed meanwhile.

        Args:
            changes: each file of the library, and the one that takes its place, which is returned.
        """
        replaced = []
        for some in batched(changes, _ENTRIES_AT_ONCE):
            with self._lock:
                for earlier, later in some:
                    folded = fold(earlier.name)
                    if self._names.get(folded) == earlier:
                        self._put(folded, later)
                        replaced.append(later)
                        if later.entry != earlier.entry:
                            self._log_change((later.name, later.id))
        return replaced

    def confirm(self, files: Iterable[LocalFile]) -> list[LocalFile]:
        """Record that unconfirmed files have the content of their ids; return those that are in the library still.

        Raises:
            DiskFull, StorageFault: if the manifest cache cannot be written; no file is confirmed then.
        """
        confirmed = [(file, replace(file, check=Check.NONE)) for file in files]
        self._manifest_cache.put_ids((file.fingerprint, file.id) for file, _ in confirmed)
        return self.update(confirmed)

    def discard(self, files: Sequence[LocalFile]) -> None:
        """Remove files whose content is unknown, also from the manifest cache: the next scans hash them.

        Raises:
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        # The cache first: otherwise a running scan would find the old ids there and add the files again.
        self._manifest_cache.forget(file.fingerprint for file in files)
        self.remove(files)

    def remove(self, files: Iterable[LocalFile], *, release_replicas: bool = True) -> list[LocalFile]:
        """Remove files, except those that were replaced meanwhile.

        Args:
            files: the files to remove.
            release_replicas: whether they stop to count towards the quota. False for files that may come back.

        Returns:
            The files that were removed.

        Raises:
            DiskFull, StorageFault: if the manifest cache cannot be written; the files are removed all the same.
        """
        removed = []
        for some in batched(files, _ENTRIES_AT_ONCE):
            with self._lock:
                for file in some:
                    folded = fold(file.name)
                    if self._names.get(folded) == file:
                        self._remove(folded, file)
                        removed.append(file)
        if removed and release_replicas:
            self._manifest_cache.release_replicas((file.name, file.id) for file in removed)
        return removed

    def add_partial(self, name: str, id_: str, size: int) -> None:
        """Add a partial file of `size` bytes in full."""
        with self._lock:
            self._partial[name, id_] = size
            self._log_change((name, id_))

    def drop_partial(self, id_: str) -> None:
        """Remove the partial files with this id; does nothing if there is none."""
        with self._lock:
            for key in [key for key in self._partial if key[1] == id_]:
                del self._partial[key]
                self._log_change(key)

    # ----------------------------------------------------------------------------------------------------- announcing

    @property
    def revision(self) -> int:
        """The number of changes until now."""
        return self._revision

    def snapshot(self) -> Snapshot:
        """Return all entries and their revision. Blocking: they may be a million."""
        with self._lock:
            revision, files, partial = self._revision, list(self._names.values()), dict(self._partial)
        entries = [file.entry for file in files]
        for file in files:
            partial.pop((file.name, file.id), None)
        entries += [IndexEntry(name, id_, size, complete=False) for (name, id_), size in partial.items()]
        return Snapshot(revision, sorted_in_runs(entries))

    def changes_since(self, revision: int) -> Changes | None:
        """Return the changes since an earlier revision; None if the log no longer has them all, or never had it.

        Blocking: they may be twenty thousand. An entry may be newer than the returned revision; then it is among the
        changes since that revision, too.
        """
        with self._lock:
            missed = self._revision - revision
            if not 0 <= missed <= len(self._log):
                return None
            now = self._revision
            # A file that changed twice is one change.
            keys = dict.fromkeys(islice(self._log, len(self._log) - missed, None))
        added: list[IndexEntry] = []
        removed: list[EntryKey] = []
        for some in batched(keys, _ENTRIES_AT_ONCE):
            with self._lock:
                entries = [(key, self._entry(key)) for key in some]
            added += [entry for _, entry in entries if entry is not None]
            removed += [EntryKey(*key) for key, entry in entries if entry is None]
        return Changes(now, tuple(added), tuple(removed))

    def discard_changes(self, revision: int) -> None:
        """Delete the log up to a revision: no reader needs the changes before it any more."""
        with self._lock:
            while len(self._log) > max(0, self._revision - revision):
                self._log.popleft()

    def _entry(self, key: _Key) -> IndexEntry | None:
        """Return the present index entry of a key; None if it has none."""
        name, id_ = key
        file = self._names.get(fold(name))
        if file is not None and (file.name, file.id) == key:
            return file.entry
        size = self._partial.get(key)
        return None if size is None else IndexEntry(name, id_, size, complete=False)

    def _add(self, file: LocalFile) -> None:
        folded = fold(file.name)
        earlier = self._names.get(folded)
        if earlier is not None:
            self._remove(folded, earlier, log_change=(earlier.name, earlier.id) != (file.name, file.id))
        self._put(folded, file)
        self._bytes += file.size
        if earlier is None or earlier.entry != file.entry:
            self._log_change((file.name, file.id))

    def _put(self, folded: str, file: LocalFile) -> None:
        """Put a file under a name that is free, or has another state of the same file."""
        self._names[folded] = file
        others = self._ids.get(file.id)
        if isinstance(others, dict):
            others[folded] = file
        elif others is None or fold(others.name) == folded:
            self._ids[file.id] = file
        else:
            self._ids[file.id] = {fold(others.name): others, folded: file}
        (self._unconfirmed.discard if file.confirmed else self._unconfirmed.add)(folded)

    def _remove(self, folded: str, file: LocalFile, *, log_change: bool = True) -> None:
        del self._names[folded]
        self._unconfirmed.discard(folded)
        others = self._ids[file.id]
        if isinstance(others, dict):
            del others[folded]
        if not isinstance(others, dict) or not others:
            del self._ids[file.id]
        self._bytes -= file.size
        if log_change:
            self._log_change((file.name, file.id))

    def _log_change(self, key: _Key) -> None:
        self._revision += 1
        self._log.append(key)
