"""The shared folder compared with the library: finds what is new, changed or gone, hashes it, takes or withdraws it.

Decides what is shared; never writes to a shared file. `scan` runs once at a time, `take` and `recheck` beside it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from daemon.errors import FileChanged, Interrupted, NoSuchFile, PeerError, TargetExists
from daemon.library.library import Library, LocalFile
from daemon.library.manifest_cache import ManifestCache
from daemon.storage.hashing import CancelCheck, hash_file, not_cancelled
from daemon.storage.manifest import Manifest
from daemon.storage.names import fold
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.walk import Fingerprint, ShareableFile, UnshareableEntry

log = logging.getLogger(__name__)

# At the first scan a file that was last written so many seconds ago is taken to be at rest.
_AT_REST = 5.0
# Files looked up, taken and remembered together.
_BATCH = 500
_BATCH_BYTES = 256 << 20
_WAITS = "it was written to just now: it is shared once it is at rest"
_HASHES = "it is being hashed, or about to be"
_DAMAGED = "its bytes changed though its time did not, as on a failing disk: look at it, then touch it to share it"

FileProgress = Callable[[str, int], object]


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What one scan found. `unsettled` files wait for the next one to agree, `unhashed` ones for its time."""

    indexed: int
    removed: int
    changing: int
    unhashed: int


class Scanner:
    """Keeps a library true to its folder. `clock` gives unix seconds."""

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
        self._catalog = manifest_cache
        self._library = library
        self._clock = clock
        self._threads = threads
        self._scanning = threading.Lock()
        self._first = True
        # Files may have gone that still count as kept at others' request. Most are released as they are withdrawn.
        self._uncounted = True
        # New files and their stamps as the scan before saw them.
        self._unsettled: dict[str, Fingerprint] = {}
        # Files whose bytes are not what their stamps stood for.
        self._damaged: dict[str, Fingerprint] = {}
        # What is not shared, and why; and what is not shared yet.
        self.not_shared: list[UnshareableEntry] = []
        self.pending: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------------- scanning

    def scan(
        self, *, stop: CancelCheck = not_cancelled, progress: FileProgress | None = None, hash_seconds: float = math.inf
    ) -> ScanResult:
        """Compare once. Files that did not change cost a look each; `progress` is told of names and bytes hashed.

        New files are hashed for about `patience` seconds; those left then are hashed by the next scans.

        Raises:
            Interrupted: if `stop` answered true; what was taken until then stays.
            StorageFault: if the folder cannot be read; nothing is withdrawn then.
        """
        with self._scanning:
            refused: list[UnshareableEntry] = []
            unsettled: dict[str, Fingerprint] = {}
            fresh: list[ShareableFile] = []
            gone = set(self._library.names())
            taken = withdrawn = 0
            changed = self._changed(refused, gone)
            while batch := list(islice(changed, _BATCH)):
                if stop():
                    raise Interrupted("stopped while looking through the shared folder")
                withdrawn += self.remove_stale(found.name for found in batch)
                known = self._known(batch)
                taken += len(known)
                for found in batch:
                    if found.name not in known:
                        if self._at_rest(found):
                            fresh.append(found)
                        else:
                            unsettled[found.name] = found.fingerprint
            withdrawn += self.remove_stale(gone)
            if self._uncounted and not self._folder.is_moved():
                self._library.prune_replica_records()
                self._uncounted = False
            # Those that patience does not suffice for are at rest for the next scan too.
            self._unsettled = unsettled | dict(fresh)
            self._first = False
            self.not_shared = refused
            waiting = dict.fromkeys(unsettled, _WAITS) | {found.name: _HASHES for found in fresh}
            self.pending = waiting
            end = self._clock() + hash_seconds
            unhashed = len(fresh)
            for batch in _batches(fresh):
                if self._clock() >= end:
                    break
                taken += len(self._hash(batch, refused, stop, progress))
                unhashed -= len(batch)
                for found in batch:
                    del waiting[found.name]
            return ScanResult(taken, withdrawn, len(unsettled), unhashed)

    def _changed(self, refused: list[UnshareableEntry], gone: set[str]) -> Iterator[ShareableFile]:
        """Yield the files that are not held as they are; strike those that are there from `gone`."""
        for item in self._folder.walk():
            if isinstance(item, UnshareableEntry):
                refused.append(item)
                continue
            if item.name in gone:
                gone.remove(item.name)
                held = self._library.by_name(item.name)
                if held is not None and held.fingerprint == item.fingerprint:
                    continue
            if self._damaged.get(item.name) == item.fingerprint:
                refused.append(UnshareableEntry(item.name, _DAMAGED))
            else:
                yield item

    def remove_stale(self, names: Iterable[str]) -> int:
        """Hold files no longer that are not what they were; return how many.

        The folder is asked again: it may have moved on since. What cannot be looked at is not what it was either: it
        could not be served, and must not keep the others from being looked at.
        """
        files = [held for name in names if (held := self._library.by_name(name)) is not None and held.name == name]
        stamps = self._folder.fingerprints(held.name for held in files)
        looked = list(zip(files, stamps, strict=True))
        gone = self._library.remove(
            held for held, stamp in looked if stamp != held.fingerprint and not isinstance(stamp, PeerError)
        )
        # They may come back, as those of a folder that was moved: they take quota until it is clear that they do not.
        hidden = self._library.remove(
            (held for held, stamp in looked if isinstance(stamp, PeerError)), release_replicas=False
        )
        self._uncounted = self._uncounted or bool(hidden)
        return len(gone) + len(hidden)

    def _known(self, batch: Sequence[ShareableFile]) -> dict[str, LocalFile]:
        """Take the files whose contents the catalog knows by their stamps."""
        ids = self._catalog.find_ids([found.fingerprint for found in batch])
        known = {
            found.name: LocalFile(found.name, id_, found.fingerprint)
            for found, id_ in zip(batch, ids, strict=True)
            if id_ is not None and self._folder_agrees(found)
        }
        self._library.add_many(known.values())
        return known

    def _folder_agrees(self, found: ShareableFile) -> bool:
        """Tell whether nothing else is held under the name by now: a transfer may have ended since the walk."""
        held = self._library.by_name(found.name)
        return held is None or self._folder.fingerprints([found.name]) == [found.fingerprint]

    def _at_rest(self, found: ShareableFile) -> bool:
        if self._unsettled.get(found.name) == found.fingerprint:
            return True
        # What is copied in just now was written to just now; what lay there before this process began need not wait for
        # a second scan, so that a peer shares from its start.
        return self._first and self._clock() - found.fingerprint.mtime_ns / 1e9 > _AT_REST

    # -------------------------------------------------------------------------------------------------------- hashing

    def index_files(
        self, names: Sequence[str], *, stop: CancelCheck = not_cancelled, progress: FileProgress | None = None
    ) -> list[LocalFile | PeerError]:
        """Take files at once, because a command names them; one outcome for each, in order.

        What is held under these names, and is not what it was, is held no longer. A file is refused with TargetExists
        while another has a name that differs in case or form of accents only: the two are one name.
        """
        self.remove_stale(names)
        outcomes: dict[str, LocalFile | PeerError] = {}
        found: list[ShareableFile] = []
        # By folded name: two names that fold alike are one.
        spelled: dict[str, str] = {}
        each = list(dict.fromkeys(names))
        for name, stamp in zip(each, self._folder.fingerprints(each), strict=True):
            held = self._held(name)
            if stamp is None:
                outcomes[name] = NoSuchFile(f"there is no file {name} in the shared folder", name=name)
            elif isinstance(stamp, PeerError):
                outcomes[name] = stamp
            elif held is not None and held.fingerprint == stamp:
                outcomes[name] = held
            elif (other := spelled.setdefault(fold(name), name if held is None else held.name)) != name:
                outcomes[name] = TargetExists(
                    f"{other} is shared already, and differs in case or form of accents only: rename one of the two",
                    name=name,
                )
            else:
                found.append(ShareableFile(name, stamp))
        for start in range(0, len(found), _BATCH):
            outcomes.update(self._known(found[start : start + _BATCH]))
        fresh = [item for item in found if item.name not in outcomes]
        refused: list[UnshareableEntry] = []
        for batch in _batches(fresh):
            outcomes.update((held.name, held) for held in self._hash(batch, refused, stop, progress))
        for item in refused:
            outcomes[item.name] = FileChanged(item.reason, name=item.name)
        return [outcomes[name] for name in names]

    def _held(self, name: str) -> LocalFile | None:
        """Return what is held under a name, or under one that differs in case or form of accents only and is there."""
        held = self._library.by_name(name)
        if held is None or held.name == name or isinstance(self._folder.fingerprints([held.name])[0], Fingerprint):
            return held
        return None

    def recheck(self, ids: Iterable[str], *, stop: CancelCheck = not_cancelled) -> list[LocalFile]:
        """Hash files again that somebody calls wrong; withdraw and return those that are."""
        wrong = []
        for held in [held for id_ in ids for held in self._library.by_id(id_)]:
            try:
                if self.compute_manifest(ShareableFile(held.name, held.fingerprint), stop=stop).id == held.id:
                    continue
                log.warning("%r is not what it was, though its time is: withdrawn", held.name)
                self._damaged[held.name] = held.fingerprint
            except Interrupted:
                raise
            except PeerError as error:
                # Changed, gone or unreadable: the next scan's business, but not to be served until then.
                log.info("%r cannot be hashed again: %s", held.name, error)
            wrong.append(held)
        self._catalog.forget(held.fingerprint for held in wrong)
        return self._library.remove(wrong)

    def _hash(
        self,
        batch: Sequence[ShareableFile],
        refused: list[UnshareableEntry],
        stop: CancelCheck,
        progress: FileProgress | None,
    ) -> list[LocalFile]:
        """Hash the files of one of `_batches`, remember and take them."""
        # A large file is alone in its batch, and all threads are for it.
        threads = self._threads if len(batch) == 1 else 1
        hashed: list[tuple[str, Fingerprint, Manifest]] = []
        interrupted = None
        with ThreadPoolExecutor(min(self._threads, len(batch)), thread_name_prefix="scan") as pool:
            reading = [
                (found, pool.submit(self.compute_manifest, found, stop=stop, progress=progress, threads=threads))
                for found in batch
            ]
            for found, future in reading:
                try:
                    hashed.append((found.name, found.fingerprint, future.result()))
                except Interrupted as error:
                    interrupted = error
                except PeerError as error:
                    refused.append(UnshareableEntry(found.name, error.message))
        held = self._library.register(hashed)
        if interrupted is not None:
            raise interrupted
        return held

    def compute_manifest(
        self,
        found: ShareableFile,
        *,
        stop: CancelCheck = not_cancelled,
        progress: FileProgress | None = None,
        threads: int | None = None,
    ) -> Manifest:
        """Hash one file; its stamp was the same before and after.

        Raises:
            NoSuchFile: if it changed meanwhile, or is not what `found` says.
        """
        with self._folder.open(found.name) as file, file.handle as fd:
            if file.fingerprint != found.fingerprint:
                raise FileChanged("it was changed just now: it will be looked at again", name=found.name)
            tell = None if progress is None else lambda count: progress(found.name, count)
            manifest = hash_file(
                self._folder.disk, fd, file.fingerprint.size, progress=tell, stop=stop, threads=threads or self._threads
            )
            file.ensure_unchanged()
        return manifest


def _batches(files: Sequence[ShareableFile]) -> Iterator[list[ShareableFile]]:
    """Split files into what is hashed, then shared, together; small files first, for they are many and soon done."""
    batch: list[ShareableFile] = []
    total = 0
    for found in sorted(files, key=lambda found: found.fingerprint.size):
        if batch and (len(batch) == _BATCH or total + found.fingerprint.size > _BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(found)
        total += found.fingerprint.size
    if batch:
        yield batch
