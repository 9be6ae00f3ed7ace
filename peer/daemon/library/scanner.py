"""The scanner: compares the shared folder with the library, adds new files, and removes changed or deleted ones.

It decides what is shared, and never writes to a shared file. A file of which only ctime or the device number changed
stays in the library, unconfirmed. One `scan` runs at a time; `index_files` may run beside it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from daemon.errors import FileChanged, Interrupted, PeerError, TargetExists
from daemon.library.confirmer import Confirmer
from daemon.library.file_hasher import FileHasher, FileProgress, batches
from daemon.library.identity import compare
from daemon.library.library import HashedFile, Library, LocalFile
from daemon.library.manifest_cache import ManifestCache
from daemon.runtime.batches import batched
from daemon.storage.dirfd import not_found_error
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import CancelCheck, not_cancelled
from daemon.storage.ignore_rules import IgnoreRules, ignored_error
from daemon.storage.names import fold
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.walk import ShareableFile, UnshareableEntry

log = logging.getLogger(__name__)

# Seconds since its last change after which the first scan shares a file; later scans compare with the scan before.
_MIN_AGE_AT_START = 5.0
# Files that are compared with the library together.
_MAX_BATCH_FILES = 500
_CHANGING = "modified recently; will be shared when it stops changing"
_HASHING = "hashing"
_CORRUPT = (
    "content changed but its times did not (possible disk error); check the file, then touch it to share it again"
)


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
        hasher: hashes the new files.
        confirmer: reads files again that a command names and that are not confirmed.
        clock: returns the time in Unix seconds.

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
        hasher: FileHasher,
        confirmer: Confirmer,
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._manifest_cache = manifest_cache
        self._library = library
        self._hasher = hasher
        self._confirmer = confirmer
        self._clock = clock
        self._scanning = threading.Lock()
        self._first = True
        # Whether replica records of deleted files may exist. Usually a record is deleted together with its file.
        self._prune_replicas = True
        # The new files of the scan before, with their fingerprints.
        self._changing: dict[str, Fingerprint] = {}
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
                # Those of which only ctime or the device number changed are in the library still.
                absent = [found for found in batch if not self._is_present(found)]
                known = self._add_known(absent)
                indexed += len(known)
                for found in absent:
                    if found.name not in known:
                        if self._stopped_changing(found):
                            new.append(found)
                        else:
                            changing[found.name] = found.fingerprint
            removed += self._withdraw_ignored(deleted)
            removed += self.remove_stale(deleted)
            if self._prune_replicas and not self._folder.is_moved():
                self._manifest_cache.release_replicas_unless(self._is_replica)
                self._prune_replicas = False
            # The files that this scan has no time to hash are hashed by the next one without a further wait.
            self._changing = changing | {found.name: found.fingerprint for found in new}
            self._first = False
            self.not_shared = not_shared
            pending = dict.fromkeys(changing, _CHANGING) | {found.name: _HASHING for found in new}
            self.pending = pending
            end = self._clock() + hash_seconds
            unhashed = len(new)
            for batch in batches(new):
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
            corrupt = self._confirmer.corrupt.get(item.name)
            if corrupt is not None and corrupt.equals_but_ctime(item.fingerprint):
                not_shared.append(UnshareableEntry(item.name, _CORRUPT))
            else:
                yield item

    @property
    def ignore_rules(self) -> IgnoreRules:
        """The rules that leave out files of the shared folder, as the last scan found them."""
        return self._folder.ignore_rules

    def _withdraw_ignored(self, names: Iterable[str]) -> int:
        """Remove the files from the library that the rules leave out now; return their number."""
        ignored = [
            file for name in names if self.ignore_rules.reason_for(name) and (file := self._library.by_name(name))
        ]
        # They stay on the disk. So replicas count towards the quota.
        return len(self._library.remove(ignored, release_replicas=False))

    def _is_replica(self, name: str, id_: str) -> bool:
        """Return whether a replica is there still: in the library, or left out by the rules."""
        file = self._library.by_name(name)
        if file is not None:
            return (file.name, file.id) == (name, id_)
        return bool(self.ignore_rules.reason_for(name)) and isinstance(
            self._folder.fingerprints([name])[0], Fingerprint
        )

    def remove_stale(self, names: Iterable[str]) -> int:
        """Remove the files with these names from the library if they were deleted, changed, or cannot be read.

        The folder is queried again, since it may have changed after the walk. A file whose status cannot be read is
        removed too: it could not be served, and one such file must not end the scan. A file of which only ctime or the
        device number changed stays, unconfirmed.

        Returns:
            The number of files removed.

        Raises:
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        files = [file for name in names if (file := self._library.by_name(name)) is not None and file.name == name]
        fingerprints = self._folder.fingerprints(file.name for file in files)
        stale: list[LocalFile] = []
        unreadable: list[LocalFile] = []
        doubtful: list[tuple[LocalFile, LocalFile]] = []
        for file, now in zip(files, fingerprints, strict=True):
            if isinstance(now, PeerError):
                unreadable.append(file)
            elif now is None or (check := compare(file.fingerprint, now)) is None:
                stale.append(file)
            elif now != file.fingerprint:
                doubtful.append((file, replace(file, fingerprint=now, check=max(check, file.check))))
        self._library.update(doubtful)
        removed = len(self._library.remove(stale))
        # They may reappear with the folder, as after a move. So they count towards the quota until a scan finds the
        # folder without them.
        hidden = len(self._library.remove(unreadable, release_replicas=False))
        self._prune_replicas = self._prune_replicas or hidden > 0
        return removed + hidden

    def _add_known(self, batch: Sequence[ShareableFile]) -> dict[str, LocalFile]:
        """Add the files whose fingerprints the manifest cache knows, confirmed or not; return them by name."""
        ids = self._manifest_cache.find_ids([found.fingerprint for found in batch])
        known = {
            found.name: LocalFile(found.name, recorded.id, found.fingerprint, recorded.check)
            for found, recorded in zip(batch, ids, strict=True)
            if recorded is not None and self._is_current(found)
        }
        self._library.add_many(known.values())
        return known

    def _is_present(self, found: ShareableFile) -> bool:
        """Return whether the library has `found` with its present fingerprint."""
        file = self._library.by_name(found.name)
        return file is not None and (file.name, file.fingerprint) == (found.name, found.fingerprint)

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
            library has a name that differs only in case or form of accents, and NotAllowed if the rules leave out the
            name.

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
            elif reason := self.ignore_rules.reason_for(name):
                outcomes[name] = ignored_error(name, reason)
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
        for batch_of_new in batches(new):
            outcomes.update((file.name, file) for file in self._hash(batch_of_new, not_shared, stop, progress))
        for item in not_shared:
            outcomes[item.name] = FileChanged(item.reason, name=item.name)
        confirmed = self._confirm([file for file in outcomes.values() if isinstance(file, LocalFile)], stop, progress)
        return [confirmed.get(outcome, outcome) for outcome in map(outcomes.__getitem__, names)]

    def _confirm(
        self, files: Iterable[LocalFile], stop: CancelCheck, progress: FileProgress | None
    ) -> dict[LocalFile | PeerError, LocalFile | PeerError]:
        """Confirm the unconfirmed ones of `files`; return what became of each."""
        outcomes: dict[LocalFile | PeerError, LocalFile | PeerError] = {}
        for batch in batches(dict.fromkeys(file for file in files if not file.confirmed)):
            outcomes.update(zip(batch, self._confirmer.confirm(batch, stop=stop, progress=progress), strict=True))
        return outcomes

    def ignored_file_has(self, name: str, id_: str, *, stop: CancelCheck = not_cancelled) -> bool | None:
        """Return whether a file that the rules leave out has the content of an id; None if there is no such file.

        Raises:
            PeerError: if the file cannot be read, or `stop` returned True.
        """
        fingerprint = self._folder.fingerprint(name)
        if fingerprint is None:
            return None
        return self._hasher.manifest(ShareableFile(name, fingerprint), stop=stop).id == id_

    def _existing_file(self, name: str) -> LocalFile | None:
        """Return the library's file of a name. If its name differs in case or form of accents, it must still exist."""
        file = self._library.by_name(name)
        if file is None or file.name == name or isinstance(self._folder.fingerprints([file.name])[0], Fingerprint):
            return file
        return None

    def _hash(
        self,
        batch: Sequence[ShareableFile],
        not_shared: list[UnshareableEntry],
        stop: CancelCheck,
        progress: FileProgress | None,
    ) -> list[LocalFile]:
        """Hash one of `batches` and add the files to the library; add the files with errors to `not_shared`."""
        hashed: list[HashedFile] = []
        interrupted = None
        manifests = self._hasher.manifests(batch, stop=stop, progress=progress)
        for found, outcome in zip(batch, manifests, strict=True):
            if isinstance(outcome, Interrupted):
                interrupted = outcome
            elif isinstance(outcome, PeerError):
                not_shared.append(UnshareableEntry(found.name, outcome.message))
            else:
                hashed.append(HashedFile(found.name, found.fingerprint, outcome))
        files = self._library.register(hashed)
        if interrupted is not None:
            raise interrupted
        return files
