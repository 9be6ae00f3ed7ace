"""What this peer holds, in memory: whole files by name and by id, partial ones, and what changed since when.

Knows no files but what it is told. Safe to use from many threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from daemon.errors import NoSuchFile
from daemon.library.manifest_cache import ManifestCache
from daemon.models import IndexEntry
from daemon.storage.manifest import Manifest, piece_length_for
from daemon.storage.names import fold
from daemon.storage.walk import Fingerprint

# So many changes that nobody has been told of are remembered; whoever missed more takes the whole list.
_CHANGES_KEPT = 20_000
# Bytes of manifests that are kept in memory.
_MANIFEST_BYTES = 8 << 20

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A whole file in the shared folder, and what it was when it was hashed."""

    name: str
    id: str
    fingerprint: Fingerprint

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.fingerprint.size

    @property
    def piece_length(self) -> int:
        """The length of its pieces."""
        return piece_length_for(self.fingerprint.size)


@dataclass(frozen=True, slots=True)
class Changes:
    """What to add to and remove from a list that was taken at an earlier version; `version` is what it then is."""

    revision: int
    added: tuple[IndexEntry, ...]
    removed: tuple[_Key, ...]


class Library:
    """The files of one peer. Manifests come from the catalog when they are asked for."""

    def __init__(self, manifest_cache: ManifestCache) -> None:
        self._catalog = manifest_cache
        self._lock = threading.Lock()
        # By folded name: two names that fold alike are one.
        self._names: dict[str, LocalFile] = {}
        # Most ids have one name: a tuple is smaller than a set.
        self._ids: dict[str, tuple[LocalFile, ...]] = {}
        self._partial: dict[_Key, int] = {}
        self._bytes = 0
        self._version = 0
        self._log: deque[_Key] = deque(maxlen=_CHANGES_KEPT)
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._manifest_bytes = 0

    # ----------------------------------------------------------------------------------------------------- looking up

    def by_name(self, name: str) -> LocalFile | None:
        """Return the file of that name, or of one that differs in case or form of accents only."""
        with self._lock:
            return self._names.get(fold(name))

    def by_id(self, id_: str) -> tuple[LocalFile, ...]:
        """Return the files with those contents."""
        with self._lock:
            return self._ids.get(id_, ())

    def names(self) -> list[str]:
        """Return the names of all whole files."""
        with self._lock:
            return [held.name for held in self._names.values()]

    @property
    def file_count(self) -> int:
        """How many whole files there are."""
        return len(self._names)

    @property
    def total_bytes(self) -> int:
        """How many bytes they have."""
        return self._bytes

    def manifest(self, id_: str) -> Manifest:
        """Return the manifest of contents that are held whole.

        Raises:
            NoSuchFile: if it is not known any more. The files are held no longer then, and the next scan hashes them.
        """
        with self._lock:
            manifest = self._manifests.get(id_)
            if manifest is not None:
                self._manifests.move_to_end(id_)
                return manifest
        manifest = self._catalog.manifest(id_)
        if manifest is None:
            lost = self.by_id(id_)
            # Forgotten first: or a scan under way would take them again as they were.
            self._catalog.forget(held.fingerprint for held in lost)
            self.remove(lost)
            raise NoSuchFile("its manifest is not known here any more: it is made anew, try again in a minute")
        with self._lock:
            if id_ not in self._manifests:
                self._manifests[id_] = manifest
                self._manifest_bytes += len(manifest.digests)
                while self._manifest_bytes > _MANIFEST_BYTES and len(self._manifests) > 1:
                    self._manifest_bytes -= len(self._manifests.popitem(last=False)[1].digests)
        return manifest

    # -------------------------------------------------------------------------------------------------------- changes

    def add(self, *files: LocalFile) -> None:
        """Hold files. One of the same name that was held before is not any more."""
        self.add_many(files)

    def add_many(self, files: Iterable[LocalFile]) -> None:
        """As `add`, for many."""
        with self._lock:
            for held in files:
                folded = fold(held.name)
                earlier = self._names.get(folded)
                if earlier is not None:
                    self._drop(folded, earlier)
                self._names[folded] = held
                self._ids[held.id] = (*self._ids.get(held.id, ()), held)
                self._bytes += held.size
                self._note((held.name, held.id))

    def register(self, files: Sequence[tuple[str, Fingerprint, Manifest]], *, replica: bool = False) -> list[LocalFile]:
        """Remember and hold files that were just hashed or published. `kept`: at others' request."""
        self._catalog.put([(stamp, manifest) for _, stamp, manifest in files])
        if replica:
            self._catalog.record_replicas((name, manifest.id, manifest.size) for name, _, manifest in files)
        held = [LocalFile(name, manifest.id, stamp) for name, stamp, manifest in files]
        self.add_many(held)
        return held

    def remove(self, files: Iterable[LocalFile], *, release_replicas: bool = True) -> list[LocalFile]:
        """Hold files no longer, unless they were replaced by others since; return those that were held.

        `gone`: they count no longer as kept at others' request.
        """
        removed = []
        with self._lock:
            for held in files:
                folded = fold(held.name)
                if self._names.get(folded) == held:
                    self._drop(folded, held)
                    removed.append(held)
        if removed and release_replicas:
            self._catalog.release_replicas((held.name, held.id) for held in removed)
        return removed

    def prune_replica_records(self) -> None:
        """Count no longer as kept at others' request what is not held: it went or changed while nobody looked."""

        def is_held(name: str, id_: str) -> bool:
            held = self.by_name(name)
            return held is not None and (held.name, held.id) == (name, id_)

        self._catalog.release_replicas_unless(is_held)

    def add_partial(self, name: str, id_: str, size: int) -> None:
        """Hold a part of a file."""
        with self._lock:
            self._partial[name, id_] = size
            self._note((name, id_))

    def drop_partial(self, id_: str) -> None:
        """Hold no part of these contents any more; harmless if there is none."""
        with self._lock:
            for key in [key for key in self._partial if key[1] == id_]:
                del self._partial[key]
                self._note(key)

    # ----------------------------------------------------------------------------------------------------- announcing

    @property
    def revision(self) -> int:
        """Grows with each change."""
        return self._version

    def snapshot(self) -> tuple[int, list[IndexEntry]]:
        """Return the version and all entries, in order of names."""
        with self._lock:
            keys = {(held.name, held.id) for held in self._names.values()}
            keys.update(self._partial)
            entries = (self._entry(key) for key in sorted(keys))
            return self._version, [entry for entry in entries if entry is not None]

    def changes_since(self, revision: int) -> Changes | None:
        """Return what changed since a version; None if that is forgotten (or not one of ours): send all."""
        with self._lock:
            missed = self._version - revision
            if not 0 <= missed <= len(self._log):
                return None
            # What was changed twice counts once, as it is now.
            keys = dict.fromkeys(islice(self._log, len(self._log) - missed, None))
            entries = {key: self._entry(key) for key in keys}
            added = tuple(entry for entry in entries.values() if entry is not None)
            removed = tuple(key for key, entry in entries.items() if entry is None)
            return Changes(self._version, added, removed)

    def discard_changes(self, revision: int) -> None:
        """Remember no longer what changed up to a version: whoever asks for changes has it."""
        with self._lock:
            while len(self._log) > max(0, self._version - revision):
                self._log.popleft()

    def _entry(self, key: _Key) -> IndexEntry | None:
        """Return a name's line of the index as it is now; None if it has none."""
        name, id_ = key
        held = self._names.get(fold(name))
        if held is not None and (held.name, held.id) == key:
            return IndexEntry(name, id_, held.size, complete=True)
        size = self._partial.get(key)
        return None if size is None else IndexEntry(name, id_, size, complete=False)

    def _drop(self, folded: str, held: LocalFile) -> None:
        del self._names[folded]
        others = tuple(other for other in self._ids[held.id] if other is not held and other != held)
        if others:
            self._ids[held.id] = others
        else:
            del self._ids[held.id]
        self._bytes -= held.size
        self._note((held.name, held.id))

    def _note(self, key: _Key) -> None:
        self._version += 1
        self._log.append(key)
