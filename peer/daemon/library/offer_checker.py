"""What another peer says lies here under a name: looked at before it is sent. Blocking.

Never has a file shared because somebody names it, unless it is what they name: what its user still writes would be.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.errors import Interrupted, PeerError, TargetExists
from daemon.library.library import Library
from daemon.library.manifest_cache import ManifestCache
from daemon.library.scanner import Scanner
from daemon.storage.hashing import CancelCheck, not_cancelled
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.walk import Fingerprint, ShareableFile


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferChecker:
    """Compares what is offered with what lies here."""

    folder: SharedFolder
    manifest_cache: ManifestCache
    library: Library
    scanner: Scanner

    def reconcile(self, name: str, manifest: Manifest, *, stop: CancelCheck = not_cancelled) -> None:
        """Have the library true to the folder in what is held of these contents, and under this name.

        No scan may have seen yet what lies here, as when this peer was killed just now, or what is gone.

        Raises:
            TargetExists: if a file has the name that is not held, and has other contents, or is being written.
            Interrupted: if `stop` answered true.
        """
        held = self.library.by_name(name)
        self.scanner.remove_stale(
            [
                *(each.name for each in self.library.by_id(manifest.id)),
                *([held.name] if held is not None else []),
            ]
        )
        (stamp,) = self.folder.fingerprints([name])
        if not isinstance(stamp, Fingerprint) or self.library.by_name(name) is not None:
            return
        if not self._is(name, stamp, manifest, stop):
            raise TargetExists("this peer has other contents under that name", name=name)
        self.library.register([(name, stamp, manifest)])

    def _is(self, name: str, stamp: Fingerprint, manifest: Manifest, stop: CancelCheck) -> bool:
        if stamp.size != manifest.size:
            return False
        (known,) = self.manifest_cache.find_ids([stamp])
        if known is not None:
            return known == manifest.id
        try:
            return self.scanner.compute_manifest(ShareableFile(name, stamp), stop=stop).id == manifest.id
        except Interrupted:
            raise
        except PeerError:
            # It changes, or is gone again.
            return False
