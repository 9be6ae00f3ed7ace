"""Reads files of the library again: unconfirmed ones, and those that another peer reported as corrupt.

An unconfirmed file stays in the index, since nearly always only its mode, its name or its device number changed.
Meanwhile each of its pieces is verified before it is sent (`transfer.served_files`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from daemon.errors import Interrupted, PeerError, StorageFault
from daemon.library.file_hasher import FileHasher, FileProgress, batches
from daemon.library.identity import Check
from daemon.library.library import HashedFile, Library, LocalFile
from daemon.library.manifest_cache import ManifestCache
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import CancelCheck, not_cancelled
from daemon.storage.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The numbers of files of one `confirm_some`."""

    # Files that have their ids still, and files that got another one.
    unchanged: int
    changed: int
    # Whether another call has more to do now. Files that change meanwhile wait for the next scan.
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmer:
    """Reads files of the library again. May run beside scans; `clock` returns seconds."""

    hasher: FileHasher
    manifest_cache: ManifestCache
    library: Library
    clock: Callable[[], float]
    # By name, files whose content did not match the id of their fingerprint. They are not shared.
    corrupt: dict[str, Fingerprint] = field(default_factory=dict)

    def confirm_some(self, *, stop: CancelCheck = not_cancelled, seconds: float = math.inf) -> Confirmed:
        """Confirm unconfirmed files, small ones first.

        Args:
            stop: asked before each piece; the work ends when it returns True.
            seconds: the time after which no further batch is begun.

        Raises:
            Interrupted: if `stop` returned True.
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        end = self.clock() + seconds
        unchanged = changed = failed = 0
        for batch in batches(self.library.unconfirmed()):
            if self.clock() >= end:
                return Confirmed(unchanged, changed, more=unchanged + changed > 0)
            for file, outcome in zip(batch, self.confirm(batch, stop=stop), strict=True):
                if isinstance(outcome, PeerError):
                    failed += 1
                elif outcome.id == file.id:
                    unchanged += 1
                else:
                    changed += 1
        return Confirmed(unchanged, changed, more=False)

    def confirm(
        self, files: Sequence[LocalFile], *, stop: CancelCheck = not_cancelled, progress: FileProgress | None = None
    ) -> list[LocalFile | PeerError]:
        """Confirm one of `batches` of unconfirmed files.

        Args:
            files: the files, as the library has them.
            stop: asked before each piece; the work ends when it returns True.
            progress: called while files are hashed completely.

        Returns:
            For each file, in order, what the library has now, or why the file could not be read. A file that changes
            meanwhile stays unconfirmed; one that cannot be read is removed from the library.

        Raises:
            Interrupted: if `stop` returned True.
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        errors: dict[LocalFile, PeerError] = {}
        manifests: dict[LocalFile, Manifest] = {}
        unchanged: list[LocalFile] = []
        doubtful: list[LocalFile] = []
        for file in files:
            if stop():
                raise Interrupted("stopped while confirming files")
            try:
                (unchanged if self._one_piece_matches(file) else doubtful).append(file)
            except PeerError as error:
                errors[file] = error
        if doubtful:
            hashed = self.hasher.manifests(doubtful, stop=stop, progress=progress)
            for file, outcome in zip(doubtful, hashed, strict=True):
                if isinstance(outcome, PeerError):
                    errors[file] = outcome
                elif outcome.id == file.id:
                    unchanged.append(file)
                else:
                    manifests[file] = outcome
        self.library.confirm(unchanged)
        changed = self._replace(manifests)
        self.library.discard([file for file, error in errors.items() if isinstance(error, StorageFault)])
        for fault in errors.values():
            if isinstance(fault, Interrupted):
                raise fault
        return [errors.get(file) or changed.get(file) or replace(file, check=Check.NONE) for file in files]

    def recheck(self, ids: Iterable[str], *, stop: CancelCheck = not_cancelled) -> list[LocalFile]:
        """Hash all files with these ids again, since another peer reported them as corrupt.

        Returns:
            The files that are corrupt, changed or unreadable. They are removed from the library.

        Raises:
            Interrupted: if `stop` returned True; no file is removed then.
            DiskFull, StorageFault: if the manifest cache cannot be written.
        """
        unusable = []
        for file in [file for id_ in ids for file in self.library.by_id(id_)]:
            try:
                if self.hasher.manifest(file, stop=stop).id == file.id:
                    continue
                log.warning("%r is corrupt (content changed, its times did not): not shared any more", file.name)
                self.corrupt[file.name] = file.fingerprint
            except Interrupted:
                raise
            except PeerError as error:
                # Changed, deleted or unreadable: the next scan decides, and until then the file is not served.
                log.info("cannot hash %r again: %s", file.name, error)
            unusable.append(file)
        self.manifest_cache.forget(file.fingerprint for file in unusable)
        return self.library.remove(unusable)

    def _one_piece_matches(self, file: LocalFile) -> bool:
        """Return whether one piece matches and is enough. Raises PeerError if the file cannot be read."""
        if file.check is not Check.PIECE:
            return False
        manifest = self.manifest_cache.manifest(file.id)
        return manifest is not None and self.hasher.one_piece_matches(file, manifest)

    def _replace(self, manifests: Mapping[LocalFile, Manifest]) -> dict[LocalFile, LocalFile]:
        """Give files their new ids; return the new files by the earlier ones."""
        for file in manifests:
            log.info("%r has other content, but its modification time did not change: it gets a new id", file.name)
        self.library.remove(manifests)
        added = self.library.register(
            [HashedFile(file.name, file.fingerprint, manifest) for file, manifest in manifests.items()]
        )
        return dict(zip(manifests, added, strict=True))
