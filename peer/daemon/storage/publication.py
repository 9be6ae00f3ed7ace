"""Finished files of the dot-folder on the way to their names: linked, never over anything, then durable, or not at all.

Two names that are equal after NFC and case folding are one name here: where one lies, the other is taken.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from daemon.errors import NoSuchFile, PeerError, TargetExists
from daemon.storage.dirfd import CachedDirFd, make_folder, open_folder, part_vanished_error
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.handles import DirFd
from daemon.storage.names import check_name, fold
from daemon.storage.walk import Fingerprint

# With more folders than these one flush of the whole file system is cheaper than one of each.
_FOLDERS_MAX = 4


_Path = tuple[str, ...]


class _Linked(NamedTuple):
    """A file that has its name, not yet durably."""

    temporary: str
    parent: _Path
    leaf: str


class Publication:
    """One batch below the folder that `root` is open on. The caller sees to it that there is one at a time."""

    def __init__(self, disk: Disk, root: int, dot: int) -> None:
        self._disk = disk
        self._root = root
        self._dot = dot
        self._linked: list[_Linked] = []
        # Folders in which others were made.
        self._grown: set[_Path] = set()
        # Names by what they fold to, of each folder that was looked into.
        self._listed: dict[_Path, dict[str, list[str]]] = {}
        # The folder of the last name, and all that go by its name: itself, and those that differ in case or form.
        self._last: _Path | None = None
        self._alike: list[tuple[_Path, dict[str, list[str]]]] = []

    def link_all(self, files: Sequence[tuple[str, str]]) -> list[Fingerprint | PeerError]:
        """Link each (temporary, name); return one outcome for each, in order."""
        outcomes: list[Fingerprint | PeerError] = []
        with CachedDirFd(self._make_folder) as folders:
            for temporary, name in files:
                try:
                    with storage_faults(f"publishing {name}"):
                        outcomes.append(self._link(temporary, check_name(name), folders))
                except PeerError as error:
                    outcomes.append(error)
        return outcomes

    def commit(self) -> None:
        """Make the names durable and take the temporary ones away.

        Raises:
            DiskFull, StorageFault: if the disk failed; then the names are gone again and the temporary ones are kept.
        """
        try:
            with storage_faults("making new names durable"):
                self._sync()
        except PeerError:
            self._undo()
            raise
        for linked in self._linked:
            # One that stays has two names, and is cleaned away at the next start.
            with suppress(OSError):
                self._disk.unlink(linked.temporary, dir_fd=self._dot)

    def _link(self, temporary: str, name: str, folders: CachedDirFd) -> Fingerprint:
        *folders_of_name, leaf = name.split("/")
        parent = tuple(folders_of_name)
        twins = [(*folder, twin) for folder, names in self._folders_alike(parent) for twin in names.get(fold(leaf), ())]
        if twins:
            raise _taken("/".join(twins[0]), name)
        try:
            stamp = Fingerprint.from_stat(self._disk.stat(temporary, dir_fd=self._dot))
        except FileNotFoundError:
            raise part_vanished_error(name) from None
        try:
            try:
                self._disk.link(temporary, leaf, source_fd=self._dot, target_fd=folders.get(parent))
            except FileNotFoundError:
                # The folder that was kept open was empty, and somebody has removed it.
                folders.invalidate()
                self._disk.link(temporary, leaf, source_fd=self._dot, target_fd=folders.get(parent))
        except FileExistsError as error:
            raise _taken(name, name) from error
        self._linked.append(_Linked(temporary, parent, leaf))
        # No look at the disk from here on: a failure would leave a name that nobody knows of.
        self._note(parent, leaf)
        return stamp

    def _make_folder(self, path: _Path) -> int:
        fd, made = make_folder(self._disk, self._root, path)
        self._grown.update(path[:depth] for depth in range(len(path) - made, len(path)))
        for depth, component in enumerate(path):
            self._note(path[:depth], component)
        # It may not have been there when its likes were looked for.
        self._last = None
        return fd

    def _note(self, folder: _Path, name: str) -> None:
        """A name is there now."""
        listed = self._listed.get(folder)
        if listed is not None and name not in (alike := listed.setdefault(fold(name), [])):
            alike.append(name)

    def _folders_alike(self, path: _Path) -> list[tuple[_Path, dict[str, list[str]]]]:
        """Return the folders that go by one name with `path`, and what lies in each."""
        if path != self._last:
            found: list[_Path] = [()]
            for component in map(fold, path):
                found = [(*folder, name) for folder in found for name in self._names_in(folder).get(component, ())]
            self._alike = [(folder, self._names_in(folder)) for folder in found]
            self._last = path
        return self._alike

    def _names_in(self, folder: _Path) -> dict[str, list[str]]:
        if folder not in self._listed:
            listed: dict[str, list[str]] = {}
            # What is not there, or is no folder, has no names in it.
            with suppress(NoSuchFile), DirFd(open_folder(self._disk, self._root, folder)) as opened:
                for entry in self._disk.list_entries(opened.fd):
                    listed.setdefault(fold(entry.name), []).append(entry.name)
            self._listed[folder] = listed
        return self._listed[folder]

    def _sync(self) -> None:
        parents = {linked.parent for linked in self._linked} | self._grown
        if len(parents) > _FOLDERS_MAX and self._disk.sync_filesystem(self._dot):
            return
        for parent in parents:
            with DirFd(open_folder(self._disk, self._root, parent)) as folder:
                self._disk.fsync(folder.fd)

    def _undo(self) -> None:
        for linked in self._linked:
            with suppress(OSError, NoSuchFile), DirFd(open_folder(self._disk, self._root, linked.parent)) as folder:
                ours = self._disk.stat(linked.temporary, dir_fd=self._dot)
                if os.path.samestat(ours, self._disk.stat(linked.leaf, dir_fd=folder.fd)):
                    self._disk.unlink(linked.leaf, dir_fd=folder.fd)


def _taken(there: str, name: str) -> TargetExists:
    return TargetExists(
        f"{there} lies in the shared folder already: rename one of the two; nothing was touched", name=name
    )
