"""The scanner: compares the shared folder with the library, hashes new files, and removes changed or deleted ones.

It decides what is shared, and never writes to a shared file. One `scan` runs at a time; `index_files` and `recheck` may
run beside it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from daemon.errors import FileChanged, Interrupted, PeerError, TargetExists
from daemon.library.library import HashedFile, Library, LocalFile
from daemon.library.manifest_cache import ManifestCache
from daemon.runtime.batches import batched
from daemon.storage.dirfd import not_found_error
from daemon.storage.disk import Fingerprint
from daemon.storage.hashing import CancelCheck, hash_file, not_cancelled
from daemon.storage.manifest import Manifest
from daemon.storage.names import fold
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.walk import ShareableFile, UnshareableEntry

log = logging.getLogger(__name__)

# Seconds since its last change after which the first scan shares a file; later scans compare with the scan before.
_MIN_AGE_AT_START = 5.0
# Files that are hashed and added to the library together.
_MAX_BATCH_FILES = 500
_MAX_BATCH_BYTES = 256 << 20
_CHANGING = "modified recently; will be shared when it stops changing"
_HASHING = "hashing"
_CORRUPT = "content changed but mtime did not (possible disk error); check the file, then touch it to share it again"

# Called with the name of a file and a number of its bytes that were just hashed, from any thread.
FileProgress = Callable[[str, int], object]


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The numbers of files of one scan."""

    # Added to the library, and removed from it.
    indexed: int
    removed: int
    # Not shared until the next scan finds them unchanged.
    changing: int
    # Left for the next scan, since `hash_seconds` were over.
    unhashed: int


class Scanner:
    """Updates a library from its shared folder.

    Args:
        folder: the shared folder.
        manifest_cache: the ids of files by fingerprint.
        library: the library to update.
        clock: returns the time in Unix seconds.
        threads: the most threads to hash with.

    Attributes:
        not_shared: the entries that the last scan found not shareable, with reasons.
        pending: the files that will be shared later, with reasons, by name.
    """

    def __init__(
        self,
        folder: SharedFolder,
        manifest_cache: ManifestCache,
        library: Library,
        *,
        clock: Callable[[], float],
        threads: int = 2,
    ) -> None:
        self._folder = folder
        self._manifest_cache = manifest_cache
        self._library = library
        self._clock = clock
        self._threads = threads
        self._scanning = threading.Lock()
        self._first = True
        # Whether replica records of deleted files may exist. Usually a record is deleted together with its file.
        self._prune_replicas = True
        # The new files of the scan before, with their fingerprints.
        self._changing: dict[str, Fingerprint] = {}
        # Files whose content does not match the id that was recorded for their fingerprint.
        self._corrupt: dict[str, Fingerprint] = {}
        self.not_shared: list[UnshareableEntry] = []
        self.pending: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------------- scanning

    def scan(
        self, *, stop: CancelCheck = not_cancelled, progress: FileProgress | None = None, hash_seconds: float = math.inf
    ) -> ScanResult:
        """Scan once. A file that did not change costs one stat.

        Args:
            stop: asked between batches and pieces; the scan ends when it returns True.
            progress: called while files are hashed.
            hash_seconds: the time after which no further batch of new files is hashed; the next scan continues.

        Raises:
            Interrupted: if `stop` returned True; the library keeps what was added until then.
            StorageFault: if the folder cannot be read; no file counts as deleted then.
            DiskFull: if the manifest cache cannot be written.
        """
        with self._scanning:
            not_shared: list[UnshareableEntry] = []
            changing: dict[str, Fingerprint] = {}
            new: list[ShareableFile] = []
            deleted = set(self._library.names())
            indexed = removed = 0
            changed = self._changed_files(not_shared, deleted)
            for batch in batched(changed, _MAX_BATCH_FILES):
                if stop():
                    raise Interrupted("stopped while scanning the shared folder")
                removed += self.remove_stale(found.name for found in batch)
                known = self._add_known(batch)
                indexed += len(known)
                for found in batch:
                    if found.name not in known:
                        if self._stopped_changing(found):
                            new.append(found)
                        else:
                            changing[found.name] = found.fingerprint
            removed += self.remove_stale(deleted)
            if self._prune_replicas and not self._folder.is_moved():
                self._library.prune_replica_records()
                self._prune_replicas = False
            # The files that this scan has no time to hash are hashed by the next one without a further wait.
            self._changing = changing | {found.name: found.fingerprint for found in new}
            self._first = False
            self.not_shared = not_shared
            pending = dict.fromkeys(changing, _CHANGING) | {found.name: _HASHING for found in new}
            self.pending = pending
            end = self._clock() + hash_seconds
            unhashed = len(new)
            for batch in _hash_batches(new):
                if self._clock() >= end:
                    break
                indexed += len(self._hash(batch, not_shared, stop, progress))
                unhashed -= len(batch)
                for found in batch:
                    del pending[found.name]
            return ScanResult(indexed, removed, len(changing), unhashed)

    def _changed_files(self, not_shared: list[UnshareableEntry], deleted: set[str]) -> Iterator[ShareableFile]:
        """Walk through the folder.

        Args:
            not_shared: receives the entries that cannot be shared.
            deleted: the names in the library; the files that exist are removed from it.

        Yields:
            The files that the library does not have with their present fingerprint.
        """
        for item in self._folder.walk():
            if isinstance(item, UnshareableEntry):
                not_shared.append(item)
                continue
            if item.name in deleted:
                deleted.remove(item.name)
                file = self._library.by_name(item.name)
                if file is not None and file.fingerprint == item.fingerprint:
                    continue
            if self._corrupt.get(item.name) == item.fingerprint:
                not_shared.append(UnshareableEntry(item.name, _CORRUPT))
            else:
                yield item

    def remove_stale(self, names: Iterable[str]) -> int:
        """Remove the files with these names from the library if they were deleted, changed, or cannot be read.

        The folder is queried again, since it may have changed after the walk. A file whose status cannot be read is
        removed too: it could not be served, and one such file must not end the scan.

        Returns:
            The number of files removed.

        Raises:
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        files = [file for name in names if (file := self._library.by_name(name)) is not None and file.name == name]
        fingerprints = self._folder.fingerprints(file.name for file in files)
        current = list(zip(files, fingerprints, strict=True))
        stale = self._library.remove(
            file for file, now in current if now != file.fingerprint and not isinstance(now, PeerError)
        )
        # They may reappear with the folder, as after a move. So they count towards the quota until a scan finds the
        # folder without them.
        unreadable = self._library.remove(
            (file for file, now in current if isinstance(now, PeerError)), release_replicas=False
        )
        self._prune_replicas = self._prune_replicas or bool(unreadable)
        return len(stale) + len(unreadable)

    def _add_known(self, batch: Sequence[ShareableFile]) -> dict[str, LocalFile]:
        """Add the files whose fingerprints the manifest cache knows; return them by name."""
        ids = self._manifest_cache.find_ids([found.fingerprint for found in batch])
        known = {
            found.name: LocalFile(found.name, id_, found.fingerprint)
            for found, id_ in zip(batch, ids, strict=True)
            if id_ is not None and self._is_current(found)
        }
        self._library.add_many(known.values())
        return known

    def _is_current(self, found: ShareableFile) -> bool:
        """Return whether `found` may be added: a transfer may have published another file of its name meanwhile."""
        file = self._library.by_name(found.name)
        return file is None or self._folder.fingerprints([found.name]) == [found.fingerprint]

    def _stopped_changing(self, found: ShareableFile) -> bool:
        if self._changing.get(found.name) == found.fingerprint:
            return True
        # The first scan shares older files without a second look, so that a peer shares from its start.
        return self._first and self._clock() - found.fingerprint.mtime_ns / 1e9 > _MIN_AGE_AT_START

    # -------------------------------------------------------------------------------------------------------- hashing

    def index_files(
        self, names: Sequence[str], *, stop: CancelCheck = not_cancelled, progress: FileProgress | None = None
    ) -> list[LocalFile | PeerError]:
        """Add files to the library at once, because a command names them.

        Files of these names that were deleted or changed are removed from the library first.

        Args:
            names: the names of the files.
            stop: asked before each piece; hashing ends when it returns True.
            progress: called while files are hashed.

        Returns:
            For each name, in order, the file or the reason why it cannot be shared. That is TargetExists while the
            library has a name that differs only in case or form of accents.

        Raises:
            Interrupted: if `stop` returned True; the library keeps what was added until then.
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        self.remove_stale(names)
        outcomes: dict[str, LocalFile | PeerError] = {}
        found: list[ShareableFile] = []
        # Names by their folded form.
        spellings: dict[str, str] = {}
        distinct = list(dict.fromkeys(names))
        for name, fingerprint in zip(distinct, self._folder.fingerprints(distinct), strict=True):
            file = self._existing_file(name)
            if fingerprint is None:
                outcomes[name] = not_found_error(name)
            elif isinstance(fingerprint, PeerError):
                outcomes[name] = fingerprint
            elif file is not None and file.fingerprint == fingerprint:
                outcomes[name] = file
            elif (other := spellings.setdefault(fold(name), name if file is None else file.name)) != name:
                outcomes[name] = TargetExists(
                    f"{other} is already shared, and differs only in case or form of accents; rename one of the two",
                    name=name,
                )
            else:
                found.append(ShareableFile(name, fingerprint))
        for batch in batched(found, _MAX_BATCH_FILES):
            outcomes.update(self._add_known(batch))
        new = [item for item in found if item.name not in outcomes]
        not_shared: list[UnshareableEntry] = []
        for batch in _hash_batches(new):
            outcomes.update((file.name, file) for file in self._hash(batch, not_shared, stop, progress))
        for item in not_shared:
            outcomes[item.name] = FileChanged(item.reason, name=item.name)
        return [outcomes[name] for name in names]

    def _existing_file(self, name: str) -> LocalFile | None:
        """Return the library's file of a name. If its name differs in case or form of accents, it must still exist."""
        file = self._library.by_name(name)
        if file is None or file.name == name or isinstance(self._folder.fingerprints([file.name])[0], Fingerprint):
            return file
        return None

    def recheck(self, ids: Iterable[str], *, stop: CancelCheck = not_cancelled) -> list[LocalFile]:
        """Hash all files with these ids again, since another peer reported them as corrupt.

        Returns:
            The files that are corrupt, changed or unreadable. They are removed from the library.

        Raises:
            Interrupted: if `stop` returned True; no file is removed then.
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        unusable = []
        for file in [file for id_ in ids for file in self._library.by_id(id_)]:
            try:
                if self.compute_manifest(ShareableFile(file.name, file.fingerprint), stop=stop).id == file.id:
                    continue
                log.warning("%r is corrupt (content changed, mtime did not): not shared any more", file.name)
                self._corrupt[file.name] = file.fingerprint
            except Interrupted:
                raise
            except PeerError as error:
                # Changed, deleted or unreadable: the next scan decides, and until then the file is not served.
                log.info("cannot hash %r again: %s", file.name, error)
            unusable.append(file)
        self._manifest_cache.forget(file.fingerprint for file in unusable)
        return self._library.remove(unusable)

    def _hash(
        self,
        batch: Sequence[ShareableFile],
        not_shared: list[UnshareableEntry],
        stop: CancelCheck,
        progress: FileProgress | None,
    ) -> list[LocalFile]:
        """Hash one of `_hash_batches` and add the files to the library; add the files with errors to `not_shared`."""
        # A large file is a batch of its own, and is hashed by all threads.
        threads = self._threads if len(batch) == 1 else 1
        hashed: list[HashedFile] = []
        interrupted = None
        with ThreadPoolExecutor(min(self._threads, len(batch)), thread_name_prefix="scan") as pool:
            futures = [
                (found, pool.submit(self.compute_manifest, found, stop=stop, progress=progress, threads=threads))
                for found in batch
            ]
            for found, future in futures:
                try:
                    hashed.append(HashedFile(found.name, found.fingerprint, future.result()))
                except Interrupted as error:
                    interrupted = error
                except PeerError as error:
                    not_shared.append(UnshareableEntry(found.name, error.message))
        files = self._library.register(hashed)
        if interrupted is not None:
            raise interrupted
        return files

    def compute_manifest(
        self,
        found: ShareableFile,
        *,
        stop: CancelCheck = not_cancelled,
        progress: FileProgress | None = None,
        threads: int | None = None,
    ) -> Manifest:
        """Hash one file, and check that its fingerprint is `found.fingerprint` before and after.

        Args:
            found: the name of the file, and its expected fingerprint.
            stop: asked before each piece; hashing ends when it returns True.
            progress: called while the file is hashed.
            threads: the most threads to use; None for those of the scanner.

        Raises:
            FileChanged: if the file has another fingerprint, before or after.
            NoSuchFile: if the file does not exist.
            Interrupted: if `stop` returned True.
            StorageFault: if the disk failed.
        """
        with self._folder.open(found.name) as file, file.handle as fd:
            if file.fingerprint != found.fingerprint:
                raise FileChanged("modified just now; will be checked again by the next scan", name=found.name)
            on_bytes = None if progress is None else lambda count: progress(found.name, count)
            manifest = hash_file(
                self._folder.disk,
                fd,
                file.fingerprint.size,
                progress=on_bytes,
                stop=stop,
                threads=threads or self._threads,
            )
            file.ensure_unchanged()
        return manifest


def _hash_batches(files: Sequence[ShareableFile]) -> Iterator[list[ShareableFile]]:
    """Split files into batches that are hashed, then shared, together. Small files are first: they are done sooner."""
    by_size = sorted(files, key=lambda found: found.fingerprint.size)
    return batched(by_size, _MAX_BATCH_FILES, _MAX_BATCH_BYTES, lambda found: found.fingerprint.size)
