"""Publication: gives complete files of a dot-folder their names, and makes the names durable together.

A name is never overwritten. Two names that are equal after NFC and case folding count as one: if one exists, the other
is taken.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Self

from common.control_messages import Hint
from daemon.errors import NoSuchFile, PeerError, StorageFault, TargetExists
from daemon.storage.dirfd import DOT_FOLDER, CachedDirFd, DirFd, make_folder, open_folder, part_vanished_error
from daemon.storage.disk import Disk, VolumeId, storage_faults
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.names import check_name, fold
from daemon.storage.naming import Naming, move_new
from daemon.storage.reservation import Reservation
from daemon.storage.traits import Traits
from daemon.storage.volume import Volume, unmounted_error

# With more changed folders than this, one sync of the file system is cheaper than one fsync for each folder.
_MAX_FOLDER_SYNCS = 4

_Path = tuple[str, ...]
# The names in a folder, by their folded form.
_FoldedNames = dict[str, list[str]]


class NewFile(NamedTuple):
    """A complete file of the dot-folder of a volume, and the name that it should get."""

    volume: Volume
    temporary: str
    name: str


class _MovedFile(NamedTuple):
    """A file that has its name, but not durably yet."""

    temporary: str
    parent: _Path
    leaf: str
    fingerprint: Fingerprint


class Publication:
    """One batch of files of one volume to publish. The caller runs one Publication of a shared folder at a time.

    Args:
        disk: the file operations to use.
        root: the descriptor of the shared folder.
        dot: the descriptor of the volume's dot-folder.
        id_: the volume's id.
        traits: what its file system can do.
    """

    def __init__(self, disk: Disk, root: int, dot: int, id_: VolumeId, traits: Traits) -> None:
        self._disk = disk
        self._root = root
        self._dot = dot
        self._id = id_
        self._traits = traits
        # Folders into which the system refuses to rename files, although they are in the volume.
        self.refused: set[_Path] = set()
        self._reservation: Reservation | None = None
        self._moved: list[_MovedFile] = []
        # Folders in which a folder was created.
        self._changed_parents: set[_Path] = set()
        # Cache of the names in each folder that was read.
        self._names_by_folder: dict[_Path, _FoldedNames] = {}
        # Cache for the last parent folder: all folders equal to it after NFC and case folding, with their names.
        self._last_parent: _Path | None = None
        self._equal_parents: list[tuple[_Path, _FoldedNames]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reservation is not None:
            self._reservation.close()

    def move_all(self, files: Sequence[NewFile]) -> list[Fingerprint | PeerError]:
        """Give the files their names, and create the folders of the names.

        Returns:
            For each file, in order, its fingerprint, or the error for which it has no name.
        """
        outcomes: list[Fingerprint | PeerError] = []
        with CachedDirFd(self._make_folder) as folders:
            for _, temporary, name in files:
                try:
                    with storage_faults(f"publishing {name}"):
                        outcomes.append(self._move(temporary, check_name(name), folders))
                except PeerError as error:
                    outcomes.append(error)
        return outcomes

    def commit(self) -> None:
        """Make the names durable.

        Raises:
            DiskFull, StorageFault: if the disk failed. The files have their temporary names again.
        """
        try:
            with storage_faults("making new names durable"):
                self._sync()
        except PeerError:
            self._undo()
            raise

    def _move(self, temporary: str, name: str, folders: CachedDirFd) -> Fingerprint:
        *components, leaf = name.split("/")
        parent = tuple(components)
        taken = [
            (*folder, other) for folder, names in self._folders_equal_to(parent) for other in names.get(fold(leaf), ())
        ]
        if taken:
            raise _taken_error("/".join(taken[0]), name)
        try:
            before = Fingerprint.from_stat(self._disk.stat(temporary, dir_fd=self._dot))
        except FileNotFoundError:
            raise part_vanished_error(name) from None
        if self._traits.naming is Naming.RESERVE:
            if self._reservation is None:
                self._reservation = Reservation(self._disk, self._dot)
            self._reservation.write(temporary, name)
        try:
            try:
                self._move_new(temporary, parent, leaf, folders.get(parent))
            except FileNotFoundError:
                # Another program removed the cached folder while it was empty.
                folders.invalidate()
                self._move_new(temporary, parent, leaf, folders.get(parent))
        except FileExistsError as error:
            if self._reservation is not None:
                # The file of that name is another program's, even if it is empty.
                self._reservation.clear()
            raise _taken_error(name, name) from error
        fingerprint = self._new_fingerprint(before, leaf, folders.get(parent))
        self._moved.append(_MovedFile(temporary, parent, leaf, fingerprint))
        self._add_name(parent, leaf)
        return fingerprint if self._traits.stable_inodes else fingerprint.with_inode_from(name)

    def _move_new(self, temporary: str, parent: _Path, leaf: str, folder: int) -> None:
        try:
            move_new(self._disk, self._traits.naming, temporary, leaf, source_fd=self._dot, target_fd=folder)
        except OSError as error:
            if error.errno == errno.EXDEV:
                if self._disk.volume_id(folder) != self._id:
                    raise unmounted_error("/".join(parent) or ".") from error
                self.refused.add(parent)
                message = f"{leaf} cannot be renamed from {DOT_FOLDER} into its folder; the next try prepares it there"
                raise StorageFault(message, hint=Hint.RESUME) from error
            raise

    def _new_fingerprint(self, before: Fingerprint, leaf: str, folder: int) -> Fingerprint:
        """Return the fingerprint of a file that got its name, which set its ctime. Never fails: the name exists."""
        with suppress(OSError):
            now = Fingerprint.from_stat(self._disk.stat(leaf, dir_fd=folder))
            if now.equals_but_ctime(before):
                return now
        # Another program changed or replaced the file; the next scan finds that by the difference.
        return before

    def _make_folder(self, path: _Path) -> int:
        fd, created = make_folder(self._disk, self._root, path)
        self._changed_parents.update(path[:depth] for depth in range(len(path) - created, len(path)))
        for depth, component in enumerate(path):
            self._add_name(path[:depth], component)
        # The folder may not have existed when `_equal_parents` was filled.
        self._last_parent = None
        return fd

    def _add_name(self, folder: _Path, name: str) -> None:
        """Add a name that now exists to the cache."""
        names = self._names_by_folder.get(folder)
        if names is not None and name not in (equal := names.setdefault(fold(name), [])):
            equal.append(name)

    def _folders_equal_to(self, path: _Path) -> list[tuple[_Path, _FoldedNames]]:
        """Return all folders that are equal to `path` after NFC and case folding, and the names in each."""
        if path != self._last_parent:
            folders: list[_Path] = [()]
            for component in map(fold, path):
                folders = [(*folder, name) for folder in folders for name in self._names_in(folder).get(component, ())]
            self._equal_parents = [(folder, self._names_in(folder)) for folder in folders]
            self._last_parent = path
        return self._equal_parents

    def _names_in(self, folder: _Path) -> _FoldedNames:
        if folder not in self._names_by_folder:
            names: _FoldedNames = {}
            # A folder that does not exist, or is not a folder, has no names in it.
            with suppress(NoSuchFile), DirFd(open_folder(self._disk, self._root, folder)) as opened:
                for entry in self._disk.list_entries(opened.fd):
                    names.setdefault(fold(entry.name), []).append(entry.name)
            self._names_by_folder[folder] = names
        return self._names_by_folder[folder]

    def _sync(self) -> None:
        parents = {moved.parent for moved in self._moved} | self._changed_parents
        if len(parents) > _MAX_FOLDER_SYNCS and self._disk.sync_filesystem(self._dot):
            return
        for parent in parents:
            with DirFd(open_folder(self._disk, self._root, parent)) as folder:
                self._disk.fsync(folder.fd)

    def _undo(self) -> None:
        for moved in self._moved:
            with suppress(OSError, NoSuchFile), DirFd(open_folder(self._disk, self._root, moved.parent)) as folder:
                now = Fingerprint.from_stat(self._disk.stat(moved.leaf, dir_fd=folder.fd))
                # Another program may have replaced the file since; then the name is not ours to remove.
                if now.equals_but_ctime(moved.fingerprint):
                    self._disk.rename(moved.leaf, moved.temporary, source_fd=folder.fd, target_fd=self._dot)


def _taken_error(existing: str, name: str) -> TargetExists:
    message = f"{existing} already exists in the shared folder; rename it, or give the new file another name"
    return TargetExists(message, name=name)
