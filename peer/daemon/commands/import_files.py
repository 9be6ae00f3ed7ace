"""The second step of an upload: copies or links files into the shared folder, hashes them, adds them to the library.

Everything here blocks. Nothing here talks to the tracker or to peers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from common import formatting
from common.control_messages import Hint, Notice
from daemon.commands.collect_files import ImportItem
from daemon.errors import (
    BeingWritten,
    DiskFull,
    FileChanged,
    Interrupted,
    PeerError,
    TargetExists,
)
from daemon.library.library import HashedFile, Library, LocalFile
from daemon.library.scanner import Scanner
from daemon.library.steady_files import SteadyFiles, being_written
from daemon.runtime.batches import batched
from daemon.storage.contents import being_written_outside
from daemon.storage.disk import storage_faults
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import CancelCheck, hash_file
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempCopy, TempFiles
from daemon.storage.volume import Volume

# Files that are copied, made durable and published together.
_BATCH_FILES = 500
_BATCH_BYTES = 64 << 20
_HASH_THREADS = 2
# A copy that needs at least this much disk space comes with the advice to link. Bytes.
LARGE_COPY_BYTES = 1 << 30

# Called with the name of a file and the number of bytes that were copied or hashed since the last call.
OnBytes = Callable[[str, int], None]


class Imported(NamedTuple):
    """The outcome for one file."""

    item: ImportItem
    outcome: LocalFile | PeerError


class _Adding(NamedTuple):
    """How the files of one command are added; see `Importer.share`."""

    link: bool
    stop: CancelCheck
    on_copied: OnBytes
    on_hashed: OnBytes


class _Ready(NamedTuple):
    """A file of the dot-folder that was hashed and can be published."""

    item: ImportItem
    file: TempCopy
    manifest: Manifest
    # The fingerprint of a linked file before it was hashed; None for a copy.
    linked: Fingerprint | None = None
    notice: Notice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """Shares the files of this peer's own user."""

    folder: SharedFolder
    temp_files: TempFiles
    library: Library
    scanner: Scanner
    steady_files: SteadyFiles

    def share(
        self, items: Sequence[ImportItem], *, link: bool, stop: CancelCheck, on_copied: OnBytes, on_hashed: OnBytes
    ) -> Iterator[Imported | Notice]:
        """Copy files into the shared folder where needed, hash them, and add them to the library, in batches.

        Args:
            items: What `collect` returned.
            link: Whether files from outside are hard-linked instead of copied.
            stop: Returns True to stop.
            on_copied: Called for bytes that were copied.
            on_hashed: Called for bytes that were hashed.

        Yields:
            One outcome for each item, and notices.

        Raises:
            Interrupted: `stop` returned True. Files that were shared before stay shared.
        """
        for batch in batched(items, _BATCH_FILES, _BATCH_BYTES, lambda item: item.size):
            if stop():
                raise Interrupted("stopped while sharing files", hint=Hint.REPEAT)
            inside = [item for item in batch if item.inside]
            names = [item.name for item in inside]
            yield from map(Imported, inside, self.steady_files.index(names, stop=stop, progress=on_hashed))
            outside = [item for item in batch if not item.inside]
            yield from self._add_batch(outside, _Adding(link, stop, on_copied, on_hashed))

    # --------------------------------------------------------------------------------------------------------- copying

    def _add_batch(self, items: Sequence[ImportItem], adding: _Adding) -> Iterator[Imported | Notice]:
        """Copy or link files into the shared folder and publish them together."""
        with ExitStack() as unpublished:
            ready: list[_Ready] = []
            volumes = self.folder.volumes.locate(item.name for item in items)
            for item, volume in zip(items, volumes, strict=True):
                try:
                    existing = self._existing_copy(item, adding)
                    if existing is not None:
                        yield Imported(item, existing)
                        continue
                    if isinstance(volume, PeerError):
                        raise volume
                    add = self._link if adding.link else self._copy
                    ready.append(add(item, volume, unpublished, adding))
                except BeingWritten as error:
                    yield Imported(item, error)
                except Interrupted:
                    raise
                except PeerError as error:
                    yield Imported(item, error)
            if not ready:
                return
            self.temp_files.sync_all([each.file for each in ready])
            outcomes = self.folder.publish_many([each.file.named(each.item.name) for each in ready])
        for position, (each, outcome) in enumerate(zip(ready, outcomes, strict=True)):
            if isinstance(outcome, Fingerprint) and each.linked and not outcome.equals_but_ctime(each.linked):
                # It has its name, but other content than that was hashed.
                outcomes[position] = being_written(each.item.name)
        published = [
            HashedFile(each.item.name, outcome, each.manifest)
            for each, outcome in zip(ready, outcomes, strict=True)
            if not isinstance(outcome, PeerError)
        ]
        registered = iter(self.library.register(published))
        for each, outcome in zip(ready, outcomes, strict=True):
            yield Imported(each.item, outcome if isinstance(outcome, PeerError) else next(registered))
            if each.notice is not None and not isinstance(outcome, PeerError):
                yield each.notice

    def _existing_copy(self, item: ImportItem, adding: _Adding) -> LocalFile | None:
        """Return the file that is shared under the item's name, if it has the same content.

        Raises:
            TargetExists: It has different content.
        """
        local = self.library.by_name(item.name)
        if local is not None:
            # It may have been changed or removed since the last scan. It may be spelled in another way.
            self.scanner.remove_stale([local.name])
            local = self.library.by_name(item.name)
        name = item.name if local is None else local.name
        if (local is None and self.folder.fingerprint(name) is not None) or (local is not None and not local.confirmed):
            (indexed,) = self.scanner.index_files([name], stop=adding.stop, progress=adding.on_hashed)
            if isinstance(indexed, PeerError):
                raise indexed
            local = indexed
        if local is None:
            return None
        if local.size != item.size or self._hash(item, adding).id != local.id:
            message = f"{local.name} is already shared with different content: rename one of the two"
            raise TargetExists(message, name=item.name)
        return local

    def _hash(self, item: ImportItem, adding: _Adding) -> Manifest:
        with storage_faults(f"reading {item.path}"), item.path.open("rb") as file:
            return self._hash_open(item, file.fileno(), os.fstat(file.fileno()).st_size, adding)

    def _copy(self, item: ImportItem, volume: Volume, unpublished: ExitStack, adding: _Adding) -> _Ready:
        """Copy a file to a temporary one, which `unpublished` deletes unless it is published."""

        def progress(count: int) -> None:
            adding.on_copied(item.name, count)

        with storage_faults(f"reading {item.path}"), item.path.open("rb", buffering=0) as source:
            try:
                copied = self.temp_files.copy_in(source.fileno(), volume, stop=adding.stop, progress=progress)
            except DiskFull as error:
                if self.temp_files.can_link(item.path, volume):
                    raise DiskFull(error.message, hint=Hint.LINK) from error
                raise
        copy = unpublished.enter_context(copied)
        with copy.handle as fd, storage_faults(f"reading the copy of {item.path}"):
            manifest = self._hash_open(item, fd, copy.size, adding)
            # st_blocks counts units of 512 bytes; holes need none.
            needed = 0 if copy.shares_blocks else 512 * self.folder.disk.fstat(fd).st_blocks
        # Hundreds of copies wait for their batch; an open descriptor for each would be too many.
        copy.handle.close()
        notice = None
        if needed >= LARGE_COPY_BYTES and self.temp_files.can_link(item.path, volume):
            notice = Notice(
                f"{item.name}: the copy in the shared folder needs {formatting.size(needed)} more;"
                " `upload --link` shares a file without a copy"
            )
        return _Ready(item, copy, manifest, notice=notice)

    def _link(self, item: ImportItem, volume: Volume, unpublished: ExitStack, adding: _Adding) -> _Ready:
        """Link a file to a temporary name, which `unpublished` deletes unless it is published."""
        file = unpublished.enter_context(self.temp_files.link_in(item.path, volume))
        disk = self.folder.disk
        with file.handle as fd, storage_faults(f"reading {item.path}"):
            before = Fingerprint.from_stat(disk.fstat(fd))
            try:
                manifest = self._hash_open(item, fd, before.size, adding)
            except FileChanged:
                raise being_written_outside() from None
            if not Fingerprint.from_stat(disk.fstat(fd)).equals_but_ctime(before):
                raise being_written_outside()
        file.handle.close()
        return _Ready(item, file, manifest, linked=before)

    def _hash_open(self, item: ImportItem, fd: int, size: int, adding: _Adding) -> Manifest:
        def progress(count: int) -> None:
            adding.on_hashed(item.name, count)

        return hash_file(self.folder.disk, fd, size, stop=adding.stop, progress=progress, threads=_HASH_THREADS)
