"""Removal: deletes files of the shared folder together, makes that durable, and deletes the folders that become empty.

A file is deleted only if it is still the one that the caller means.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from daemon.errors import FileChanged, NoSuchFile, NotWritable, PeerError
from daemon.storage.dirfd import CachedDirFd, DirFd, not_found_error, open_folder
from daemon.storage.disk import Disk, is_not_writable, storage_faults
from daemon.storage.fingerprints import Fingerprint, Fingerprints
from daemon.storage.names import check_name
from daemon.storage.volume import not_writable_line

# With more changed folders than this on one file system, one sync of it is cheaper than one fsync for each folder.
_MAX_FOLDER_SYNCS = 4

_Path = tuple[str, ...]


class UnwantedFile(NamedTuple):
    """A file to delete, and the fingerprint of the file that the caller means."""

    name: str
    fingerprint: Fingerprint


class Removal:
    """One batch of files to delete. The caller runs it while nothing is published.

    Args:
        disk: the file operations to use.
        root: the descriptor of the shared folder.
        root_label: the shared folder, for messages.
    """

    def __init__(self, disk: Disk, root: int, root_label: str) -> None:
        self._disk = disk
        self._root = root
        self._root_label = root_label
        self._fingerprints = Fingerprints(disk)

    def run(self, files: Sequence[UnwantedFile], stop: Callable[[], bool]) -> list[PeerError | None]:
        """Delete files.

        Args:
            files: the files. Those of one folder should be neighbours.
            stop: asked before each file; the removal ends when it returns True.

        Returns:
            For each file, in order, None, or the error for which it is not deleted, or not durably. The list is shorter
            if `stop` returned True.
        """
        outcomes: list[PeerError | None] = []
        # The positions of the deleted files in each folder.
        changed: dict[_Path, list[int]] = {}
        with CachedDirFd(lambda path: open_folder(self._disk, self._root, path)) as folders:
            for name, fingerprint in files:
                if stop():
                    break
                try:
                    parent = self._unlink(name, fingerprint, folders)
                    changed.setdefault(parent, []).append(len(outcomes))
                    outcomes.append(None)
                except PeerError as error:
                    outcomes.append(error)
        for parent, fault in self._sync(list(changed)).items():
            for position in changed[parent]:
                outcomes[position] = fault
        self._remove_empty(changed)
        return outcomes

    def _unlink(self, name: str, expected: Fingerprint, folders: CachedDirFd) -> _Path:
        *components, leaf = check_name(name).split("/")
        parent = tuple(components)
        with storage_faults(f"removing {name}"):
            try:
                folder = folders.get(parent)
                found = self._fingerprints.make(name, self._disk.stat(leaf, dir_fd=folder), folder)
            except (FileNotFoundError, NoSuchFile) as error:
                raise not_found_error(name) from error
            if found != expected:
                raise FileChanged("the file changed; check it, then remove it again", name=name)
            try:
                self._disk.unlink(leaf, dir_fd=folder)
            except FileNotFoundError as error:
                raise not_found_error(name) from error
            except OSError as error:
                if not is_not_writable(error):
                    raise
                label = f"the folder of {name}" if parent else self._root_label
                raise NotWritable(not_writable_line(self._disk, folder, label), name=name) from error
        return parent

    def _sync(self, parents: Sequence[_Path]) -> dict[_Path, PeerError]:
        """Make the deletions durable; return the error of each folder for which that failed."""
        errors: dict[_Path, PeerError] = {}
        # By file system, one error or None once it was synced as a whole.
        synced: dict[int, PeerError | None] = {}
        for parent in parents:
            try:
                with (
                    storage_faults("making removals durable"),
                    DirFd(open_folder(self._disk, self._root, parent)) as folder,
                ):
                    if len(parents) <= _MAX_FOLDER_SYNCS or not self._sync_all(folder.fd, synced):
                        self._disk.fsync(folder.fd)
            except NoSuchFile:
                # Another program deleted the folder with what was in it.
                continue
            except PeerError as error:
                errors[parent] = error
        return errors

    def _sync_all(self, folder: int, synced: dict[int, PeerError | None]) -> bool:
        """Sync the file system of a folder once; return whether that is possible.

        Raises:
            StorageFault: if it failed, now or before.
        """
        device = os.fstat(folder).st_dev
        if device not in synced:
            try:
                with storage_faults("making removals durable"):
                    if not self._disk.sync_filesystem(folder):
                        return False
                synced[device] = None
            except PeerError as error:
                synced[device] = error
        fault = synced[device]
        if fault is not None:
            raise fault
        return True

    def _remove_empty(self, parents: Iterable[_Path]) -> None:
        """Delete the folders that are empty now, and those above them."""
        candidates = {parent[:depth] for parent in parents for depth in range(1, len(parent) + 1)}
        for *components, leaf in sorted(candidates, key=len, reverse=True):
            with (
                suppress(OSError, PeerError),
                DirFd(open_folder(self._disk, self._root, tuple(components))) as folder,
            ):
                # Raises OSError if the folder is not empty.
                self._disk.rmdir(leaf, dir_fd=folder.fd)
