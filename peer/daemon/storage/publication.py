"""Publication: gives complete files of the dot-folder their names by hard links, and makes the names durable together.

A name is never overwritten. Two names that are equal after NFC and case folding count as one: if one exists, the other
is taken.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from daemon.errors import NoSuchFile, PeerError, TargetExists
from daemon.storage.dirfd import CachedDirFd, DirFd, make_folder, open_folder, part_vanished_error
from daemon.storage.disk import Disk, Fingerprint, storage_faults
from daemon.storage.names import check_name, fold

# With more changed folders than this, one sync of the file system is cheaper than one fsync for each folder.
_MAX_FOLDER_SYNCS = 4

_Path = tuple[str, ...]
# The names in a folder, by their folded form.
_FoldedNames = dict[str, list[str]]


class NewFile(NamedTuple):
    """A complete file of the dot-folder, and the name that it should get."""

    temporary: str
    name: str


class _LinkedFile(NamedTuple):
    """A file whose name exists, but is not durable yet."""

    temporary: str
    parent: _Path
    leaf: str
    # Before it was linked.
    fingerprint: Fingerprint


class Publication:
    """One batch of files to publish. The caller runs one Publication of a shared folder at a time.

    Args:
        disk: the file operations to use.
        root: the descriptor of the shared folder.
        dot: the descriptor of its dot-folder.
    """

    def __init__(self, disk: Disk, root: int, dot: int) -> None:
        self._disk = disk
        self._root = root
        self._dot = dot
        self._linked: list[_LinkedFile] = []
        # Folders in which a folder was created.
        self._changed_parents: set[_Path] = set()
        # Cache of the names in each folder that was read.
        self._names_by_folder: dict[_Path, _FoldedNames] = {}
        # Cache for the last parent folder: all folders equal to it after NFC and case folding, with their names.
        self._last_parent: _Path | None = None
        self._equal_parents: list[tuple[_Path, _FoldedNames]] = []

    def link_all(self, files: Sequence[NewFile]) -> list[PeerError | None]:
        """Link the files to their names, and create the folders of the names.

        Returns:
            For each file, in order, None, or the error for which it has no name.
        """
        outcomes: list[PeerError | None] = []
        with CachedDirFd(self._make_folder) as folders:
            for temporary, name in files:
                try:
                    with storage_faults(f"publishing {name}"):
                        self._link(temporary, check_name(name), folders)
                    outcomes.append(None)
                except PeerError as error:
                    outcomes.append(error)
        return outcomes

    def commit(self) -> list[Fingerprint]:
        """Make the linked names durable, and delete the temporary names.

        Returns:
            The fingerprints of the linked files, in order, after the last change of their inodes: each link and unlink
            sets ctime.

        Raises:
            DiskFull, StorageFault: if the disk failed. The new names are removed, and the temporary names stay.
        """
        try:
            with storage_faults("making new names durable"):
                self._sync()
        except PeerError:
            self._undo()
            raise
        for linked in self._linked:
            # A temporary name that stays is deleted at the next start.
            with suppress(OSError):
                self._disk.unlink(linked.temporary, dir_fd=self._dot)
        with CachedDirFd(lambda path: open_folder(self._disk, self._root, path)) as folders:
            return [self._final_fingerprint(linked, folders) for linked in self._linked]

    def _final_fingerprint(self, linked: _LinkedFile, folders: CachedDirFd) -> Fingerprint:
        with suppress(OSError, PeerError):
            now = Fingerprint.from_stat(self._disk.stat(linked.leaf, dir_fd=folders.get(linked.parent)))
            if now.equals_but_ctime(linked.fingerprint):
                return now
        # Another program changed or replaced the file; the next scan finds that by the difference.
        return linked.fingerprint

    def _link(self, temporary: str, name: str, folders: CachedDirFd) -> None:
        *components, leaf = name.split("/")
        parent = tuple(components)
        taken = [
            (*folder, other) for folder, names in self._folders_equal_to(parent) for other in names.get(fold(leaf), ())
        ]
        if taken:
            raise _taken_error("/".join(taken[0]), name)
        try:
            fingerprint = Fingerprint.from_stat(self._disk.stat(temporary, dir_fd=self._dot))
        except FileNotFoundError:
            raise part_vanished_error(name) from None
        try:
            try:
                self._disk.link(temporary, leaf, source_fd=self._dot, target_fd=folders.get(parent))
            except FileNotFoundError:
                # Another program removed the cached folder while it was empty.
                folders.invalidate()
                self._disk.link(temporary, leaf, source_fd=self._dot, target_fd=folders.get(parent))
        except FileExistsError as error:
            raise _taken_error(name, name) from error
        self._linked.append(_LinkedFile(temporary, parent, leaf, fingerprint))
        # No disk access from here on: if it failed, the caller would get an error for a name that exists.
        self._add_name(parent, leaf)

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
        parents = {linked.parent for linked in self._linked} | self._changed_parents
        if len(parents) > _MAX_FOLDER_SYNCS and self._disk.sync_filesystem(self._dot):
            return
        for parent in parents:
            with DirFd(open_folder(self._disk, self._root, parent)) as folder:
                self._disk.fsync(folder.fd)

    def _undo(self) -> None:
        for linked in self._linked:
            with suppress(OSError, NoSuchFile), DirFd(open_folder(self._disk, self._root, linked.parent)) as folder:
                ours = self._disk.stat(linked.temporary, dir_fd=self._dot)
                # Another program may have replaced the file since; then the name is not ours to remove.
                if os.path.samestat(ours, self._disk.stat(linked.leaf, dir_fd=folder.fd)):
                    self._disk.unlink(linked.leaf, dir_fd=folder.fd)


def _taken_error(existing: str, name: str) -> TargetExists:
    message = f"{existing} already exists in the shared folder; rename it, or give the new file another name"
    return TargetExists(message, name=name)
