"""Finished files of the dot-folder on the way to their names: linked, never over anything, then durable, or not at all.

Two names that are equal after NFC and case folding are one name here: where one lies, the other is taken.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from node.errors import NoSuchFile, PeerError, TargetExists
from node.files.disk import Disk, storage_faults
from node.files.folders import make_folder, open_folder
from node.files.handles import Folder
from node.files.names import check_name, fold
from node.files.walk import Stamp

# With more folders than these one flush of the whole file system is cheaper than one of each.
_FOLDERS_MAX = 4


class _Linked(NamedTuple):
    """A file that has its name, not yet durably."""

    temporary: str
    parent: tuple[str, ...]
    leaf: str


class Publication:
    """One batch below the folder that `root` is open on. The caller sees to it that there is one at a time."""

    def __init__(self, disk: Disk, root: int, dot: int) -> None:
        self._disk = disk
        self._root = root
        self._dot = dot
        self._linked: list[_Linked] = []
        # Folders in which others were made.
        self._grown: set[tuple[str, ...]] = set()
        # Names by what they fold to, of each folder that was looked into.
        self._listed: dict[tuple[str, ...], dict[str, list[str]]] = {}

    def link_all(self, files: Sequence[tuple[str, str]]) -> list[Stamp | PeerError]:
        """Link each (temporary, name); return one outcome for each, in order."""
        outcomes: list[Stamp | PeerError] = []
        for temporary, name in files:
            try:
                with storage_faults(f"publishing {name}"):
                    outcomes.append(self._link(temporary, check_name(name)))
            except PeerError as error:
                outcomes.append(error)
        return outcomes

    def settle(self) -> None:
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

    def _link(self, temporary: str, name: str) -> Stamp:
        components = tuple(name.split("/"))
        parent, leaf = components[:-1], components[-1]
        twin = self._twin((), tuple(fold(component) for component in components))
        if twin is not None:
            raise _taken(twin, name)
        stamp = Stamp.of(self._disk.stat(temporary, dir_fd=self._dot))
        fd, made = make_folder(self._disk, self._root, parent)
        with Folder(fd) as target:
            self._grown.update(parent[:depth] for depth in range(len(parent) - made, len(parent)))
            try:
                self._disk.link(temporary, leaf, source_fd=self._dot, target_fd=target.fd)
            except FileExistsError as error:
                raise _taken(name, name) from error
        self._linked.append(_Linked(temporary, parent, leaf))
        # No look at the disk from here on: a failure would leave a name that nobody knows of.
        for depth, component in enumerate(components):
            listed = self._listed.get(components[:depth])
            if listed is not None and component not in (names := listed.setdefault(fold(component), [])):
                names.append(component)
        return stamp

    def _twin(self, folder: tuple[str, ...], folded: tuple[str, ...]) -> str | None:
        """Return a name below `folder` that folds to `folded`."""
        for component in self._names_in(folder).get(folded[0], ()):
            path = (*folder, component)
            twin = "/".join(path) if len(folded) == 1 else self._twin(path, folded[1:])
            if twin is not None:
                return twin
        return None

    def _names_in(self, folder: tuple[str, ...]) -> dict[str, list[str]]:
        if folder not in self._listed:
            listed: dict[str, list[str]] = {}
            # What is not there, or is no folder, has no names in it.
            with suppress(NoSuchFile), Folder(open_folder(self._disk, self._root, folder)) as opened:
                for entry in self._disk.scan(opened.fd):
                    listed.setdefault(fold(entry.name), []).append(entry.name)
            self._listed[folder] = listed
        return self._listed[folder]

    def _sync(self) -> None:
        parents = {linked.parent for linked in self._linked} | self._grown
        if len(parents) > _FOLDERS_MAX and self._disk.sync_all(self._dot):
            return
        for parent in parents:
            with Folder(open_folder(self._disk, self._root, parent)) as folder:
                self._disk.fsync(folder.fd)

    def _undo(self) -> None:
        for linked in self._linked:
            with suppress(OSError, NoSuchFile), Folder(open_folder(self._disk, self._root, linked.parent)) as folder:
                ours = self._disk.stat(linked.temporary, dir_fd=self._dot)
                if os.path.samestat(ours, self._disk.stat(linked.leaf, dir_fd=folder.fd)):
                    self._disk.unlink(linked.leaf, dir_fd=folder.fd)


def _taken(there: str, name: str) -> TargetExists:
    return TargetExists(f"{there} lies in the shared folder already: nothing was touched", name=name)
