"""The check before a push is accepted: does this peer already have a file of that name or content? Blocking.

A push must not publish an unindexed local file unless its content matches the pushed manifest. Otherwise a file that
the user is still writing would be shared.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.errors import Interrupted, PeerError, TargetExists
from daemon.library.file_hasher import FileHasher
from daemon.library.identity import Check
from daemon.library.library import HashedFile, Library
from daemon.library.manifest_cache import ManifestCache
from daemon.library.scanner import Scanner
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import CancelCheck, not_cancelled
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.walk import ShareableFile


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferChecker:
    """Compares an offered file with the shared folder."""

    folder: SharedFolder
    manifest_cache: ManifestCache
    library: Library
    scanner: Scanner
    hasher: FileHasher

    def reconcile(self, name: str, manifest: Manifest, *, stop: CancelCheck = not_cancelled) -> None:
        """Update the library for one name and one id, without waiting for the next scan.

        Files that are gone or changed are removed from it. A file with this name is added if it matches the manifest.

        Args:
            name: the name that a peer offers.
            manifest: the manifest of the offered content.
            stop: asked while a file is hashed; hashing ends when it returns True.

        Raises:
            TargetExists: if an unindexed file has the name, and has other content or is being written.
            Interrupted: if `stop` returned True.
            DiskFull, StorageFault: if the disk failed.
        """
        same_name = self.library.by_name(name)
        same_id = self.library.by_id(manifest.id)
        files = (*same_id, *([same_name] if same_name else []))
        self.scanner.remove_stale([file.name for file in files])
        # The sender will count this peer as a holder: that must not rest on an unconfirmed file.
        unconfirmed = [file.name for each in files if (file := self.library.by_name(each.name)) and not file.confirmed]
        if unconfirmed:
            self.scanner.index_files(unconfirmed, stop=stop)
        (fingerprint,) = self.folder.fingerprints([name])
        if not isinstance(fingerprint, Fingerprint) or self.library.by_name(name) is not None:
            return
        if not self._matches(name, fingerprint, manifest, stop):
            raise TargetExists("this peer has different content under that name", name=name)
        self.library.register([HashedFile(name, fingerprint, manifest)])

    def _matches(self, name: str, fingerprint: Fingerprint, manifest: Manifest, stop: CancelCheck) -> bool:
        if fingerprint.size != manifest.size:
            return False
        (known,) = self.manifest_cache.find_ids([fingerprint])
        if known is not None and known.check is Check.NONE:
            return known.id == manifest.id
        try:
            return self.hasher.manifest(ShareableFile(name, fingerprint), stop=stop).id == manifest.id
        except Interrupted:
            raise
        except PeerError:
            # The file is being changed, or was deleted again.
            return False
