"""The first half of an upload: finds the files at the user's paths, copies them into the shared folder, hashes them.

Everything here blocks. Nothing here talks to the tracker or to peers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common import formatting
from common.control_messages import Hint, Notice
from common.printable import printable
from common.state_files import is_state_dir
from daemon.errors import (
    BadName,
    BadUsage,
    BeingWritten,
    DiskFull,
    FileChanged,
    Interrupted,
    NoSuchFile,
    NotAllowed,
    PeerError,
    StorageFault,
    TargetExists,
)
from daemon.library.library import HashedFile, Library, LocalFile
from daemon.library.scanner import Scanner
from daemon.library.steady_files import SteadyFiles, being_written
from daemon.runtime.batches import batched
from daemon.storage.contents import being_written_outside
from daemon.storage.dirfd import DOT_FOLDER
from daemon.storage.disk import Fingerprint, storage_faults
from daemon.storage.hashing import CancelCheck, hash_file
from daemon.storage.manifest import Manifest
from daemon.storage.names import check_name, fold
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempCopy, TempFiles
from daemon.storage.volume import Volume

# Files that are copied, made durable and published together.
_BATCH_FILES = 500
_BATCH_BYTES = 64 << 20
_HASH_THREADS = 2
# A copy of at least this size comes with the advice to link. Bytes.
LARGE_COPY_BYTES = 1 << 30

_OTHER_STATE_DIR = "the state folder of a tracker or another pserver, which is never shared"
_HIDDEN = "begins with a dot: hidden folders are not shared"

# Called with the name of a file and the number of bytes that were copied or hashed since the last call.
OnBytes = Callable[[str, int], None]


class ImportItem(NamedTuple):
    """A file to share."""

    path: Path
    # The name that it gets.
    name: str
    size: int
    # Whether it is in the shared folder already.
    inside: bool


class Rejected(NamedTuple):
    """A file or path that cannot be shared."""

    # The path as the user gave it, or the name that the file would get.
    name: str
    error: PeerError


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


Collected = ImportItem | Rejected | Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """Shares the files of this peer's own user."""

    folder: SharedFolder
    temp_files: TempFiles
    library: Library
    scanner: Scanner
    steady_files: SteadyFiles
    # Contains the session and the cookie, so nothing in it is ever shared.
    state_dir: Path

    def collect(self, path: str) -> list[Collected]:
        """Find the files that a path means.

        A file means itself. A folder means every regular file in it, under names that begin with the folder's own. A
        link is followed if it is the path itself. Links inside a folder are skipped and counted in a notice.

        Args:
            path: An absolute path.

        Returns:
            The files, what cannot be shared and why, and notices.
        """
        return list(self._collect(path))

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

    # ------------------------------------------------------------------------------------------------------ collecting

    def _collect(self, path: str) -> Iterator[Collected]:
        path = self._stored_spelling(path)
        try:
            with storage_faults(f"opening {path}"):
                status = os.stat(path)
        except ValueError:
            yield Rejected(path, NoSuchFile("the path contains a NUL character", name=path))
            return
        except PeerError as error:
            missing = NoSuchFile(f"{printable(path)}: no such file", name=path)
            yield Rejected(path, error if os.path.exists(path) else missing)
            return
        real = Path(path).resolve()
        if real.is_relative_to(self.state_dir.resolve()):
            yield Rejected(
                path, NotAllowed(f"{printable(path)}: the pserver's state folder is never shared", name=path)
            )
        elif any(map(is_state_dir, (real, *real.parents))):
            yield Rejected(path, NotAllowed(f"{printable(path)}: part of {_OTHER_STATE_DIR}", name=path))
        elif stat.S_ISREG(status.st_mode):
            yield self._item(Path(path), Path(path).name, path)
        elif not stat.S_ISDIR(status.st_mode):
            yield Rejected(path, NoSuchFile(f"{printable(path)}: neither a file nor a folder", name=path))
        elif not real.name:
            yield Rejected(path, BadUsage(f"{path}: has no name of its own; upload the folders in it", name=path))
        elif real.name.startswith(".") and real != self.folder.root.resolve():
            yield Rejected(path, BadName(_HIDDEN, name=path))
        else:
            yield from list(self._walk(real)) or [Notice(f"{real.name}: contains no regular file")]

    def _stored_spelling(self, path: str) -> str:
        """Return the path as it is spelled in the shared folder, if nothing has it as the user spells it.

        Names that are equal after folding are one name. Paths outside the shared folder are not names.
        """
        missing: list[str] = []
        found = Path(path)
        while not os.path.lexists(found):
            missing.append(found.name)
            found = found.parent
        if not missing or not found.resolve().is_relative_to(self.folder.root.resolve()):
            return path
        for component in map(fold, reversed(missing)):
            try:
                equal = [name for name in os.listdir(found) if fold(name) == component]
            except OSError:
                return path
            if len(equal) != 1:
                return path
            found /= equal[0]
        return str(found)

    def _walk(self, base: Path) -> Iterator[Collected]:
        own_state_dir = self.state_dir.resolve()
        root = self.folder.root.resolve()
        unreadable: list[OSError] = []
        skipped = 0

        def name_of(path: Path) -> str:
            return f"{base.name}/{path.relative_to(base).as_posix()}"

        for folder, folders, files in os.walk(base, onerror=unreadable.append):
            if Path(folder) == own_state_dir:
                folders.clear()
                continue
            if is_state_dir(folder):
                folders.clear()
                yield Rejected(name_of(Path(folder)), NotAllowed(f"this is {_OTHER_STATE_DIR}"))
                continue
            hidden = sorted(name for name in folders if name.startswith("."))
            folders[:] = sorted(set(folders).difference(hidden))
            # In the shared folder, `.p2p` is the pserver's own.
            inside = Path(folder).is_relative_to(root)
            for name in hidden:
                if not (inside and name == DOT_FOLDER):
                    yield Rejected(name_of(Path(folder) / name), BadName(_HIDDEN))
            skipped += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
            for leaf in sorted(files):
                path = Path(folder) / leaf
                try:
                    regular = stat.S_ISREG(path.lstat().st_mode)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    unreadable.append(error)
                    continue
                if regular:
                    yield self._item(path, name_of(path), str(path))
                else:
                    skipped += 1
        if skipped:
            yield Notice(f"{base.name}: {_skipped(skipped)}")
        for fault in unreadable:
            path = Path(fault.filename)
            yield Rejected(
                name_of(path), StorageFault(f"{printable(str(path))}: {fault.strerror}; the other files are shared")
            )

    def _item(self, path: Path, name: str, shown: str) -> ImportItem | Rejected:
        try:
            name_inside = self.folder.name_of(path)
            size = path.stat().st_size
            if name_inside is not None:
                return ImportItem(path, name_inside, size, inside=True)
            return ImportItem(path, check_name(name), size, inside=False)
        except BadName as error:
            return Rejected(shown, BadName(f"{error.message}; rename it", name=error.name))
        except PeerError as error:
            return Rejected(shown, error)
        except OSError as error:
            return Rejected(shown, NoSuchFile(f"{printable(shown)}: {error.strerror}", name=shown))

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
        with copy.handle as fd:
            manifest = self._hash_open(item, fd, copy.size, adding)
        # Hundreds of copies wait for their batch; an open descriptor for each would be too many.
        copy.handle.close()
        notice = None
        if not copy.shares_blocks and copy.size >= LARGE_COPY_BYTES and self.temp_files.can_link(item.path, volume):
            notice = Notice(
                f"{item.name}: the copy in the shared folder has {formatting.size(copy.size)} too;"
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


def _skipped(count: int) -> str:
    return "1 link or special file was skipped" if count == 1 else f"{count:,} links or special files were skipped"
