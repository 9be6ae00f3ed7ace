"""The volumes of a shared folder: finds the one in which a file must be prepared so that it can get its name there.

Each volume has a dot-folder of its own, in its topmost folder that this user may write to. It is cleaned up when this
process first meets it, so that a volume that is mounted later is as clean as one that was there at the start.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

from daemon.errors import NoSuchFile, NotWritable, PeerError, StorageFault
from daemon.storage.dirfd import DIRECTORY_FLAGS, DOT_FOLDER, DirFd, SharedFd, not_a_folder_error, open_folder
from daemon.storage.disk import VolumeId, storage_faults
from daemon.storage.names import check_name
from daemon.storage.naming import can_move
from daemon.storage.root_folder import RootFolder
from daemon.storage.traits import Traits
from daemon.storage.volume import FolderLock, Volume, not_writable_line, unmounted_error

_Path = tuple[str, ...]


class Volumes:
    """The volumes of one shared folder. Safe to use from many threads.

    Args:
        root: the shared folder.

    Attributes:
        main: the volume of the shared folder itself.
        on_first_use: called with a volume whose dot-folder this process meets for the first time, before it is used.
    """

    def __init__(self, root: RootFolder) -> None:
        self._root = root
        self._disk = root.disk
        with root.handle as fd, storage_faults("opening the shared folder"):
            self.main = Volume(root, (), self._disk.volume_id(fd), root.handle)
        self.on_first_use: Callable[[Volume], object] = lambda volume: None
        self._lock = threading.RLock()
        # Volumes other than `main` that are in use.
        self._open_volumes: WeakValueDictionary[_Path, Volume] = WeakValueDictionary()
        # Two bind mounts of one folder share its lock.
        self._folder_locks: WeakValueDictionary[tuple[int, int], FolderLock] = WeakValueDictionary()
        # Where dot-folders are, besides the root.
        self._known: set[_Path] = set()
        # Device and inode of the dot-folders that were met.
        self._met: set[tuple[int, int]] = set()
        # Folders that no file can be renamed into from above, although their id is that of the folder above.
        self._boundaries: set[_Path] = set()
        self._traits: dict[tuple[_Path, VolumeId], Traits] = {}

    def locate(self, names: Iterable[str]) -> list[Volume | PeerError]:
        """Find the volumes in which files of these names must be prepared, and check that the files can be stored.

        Returns:
            For each name, in order, its volume, or why a file of this name cannot be stored.

        Raises:
            NoSuchFile: if the shared folder is closed.
        """
        by_parent: dict[_Path, Volume | PeerError] = {}
        outcomes: list[Volume | PeerError] = []
        for name in names:
            try:
                *folders, _ = components = check_name(name).split("/")
                parent = tuple(folders)
                if parent not in by_parent:
                    by_parent[parent] = self._try_locate(parent)
                volume = by_parent[parent]
                if isinstance(volume, Volume):
                    traits = self.traits(volume)
                    if not traits.stores_all_names:
                        volume.check_storable(components, traits)
                outcomes.append(volume)
            except PeerError as error:
                outcomes.append(error)
        return outcomes

    def traits(self, volume: Volume) -> Traits:
        """Return what the file system of a volume can do; it is tried out once.

        Raises:
            NotWritable, DiskFull, StorageFault: if files cannot be stored in the volume.
        """
        key = volume.path, volume.id
        traits = self._traits.get(key)
        if traits is None:
            traits = self._traits[key] = volume.find_traits()
        return traits

    def on_dot_folder(self, path: _Path) -> None:
        """Add the dot-folder that a scan found in a folder, if it is one of ours.

        In each volume the topmost one is ours. Others came with a copy of another shared folder, for example.
        """
        with suppress(PeerError, OSError), self._root.opened() as root, self._lock:
            # A volume that was mounted anew is met again.
            status = self._disk.stat("/".join((*path, DOT_FOLDER)), dir_fd=root)
            if path in self._known and (status.st_dev, status.st_ino) in self._met:
                return
            ids = self._ids(root, path)
            if len(ids) <= len(path):
                return
            for depth in range(self._top(ids, path), len(path)):
                if self._open_at(root, path[:depth], ids[depth]).has_dot():
                    return
            self._meet(self._open_at(root, path, ids[-1]))

    def on_refused(self, volume: Volume, parent: _Path) -> None:
        """Find the topmost folder into which no file of a volume can be renamed, and treat it as a volume of its own.

        Quota projects, for example, divide a file system without another device or mount.

        Args:
            volume: the volume.
            parent: the folder into which a rename was refused.
        """
        with suppress(PeerError, OSError), self._root.opened() as root, self._lock, volume.dot as dot:
            naming = self.traits(volume).naming
            for depth in range(len(volume.path) + 1, len(parent) + 1):
                with DirFd(open_folder(self._disk, root, parent[:depth])) as folder:
                    if not can_move(self._disk, naming, source_fd=dot, target_fd=folder.fd):
                        self._boundaries.add(parent[:depth])
                        return

    def existing(self) -> list[Volume]:
        """Return the volumes that have a dot-folder now, as far as this process has met them."""
        found = [self.main] if self.main.has_dot() else []
        with suppress(PeerError), self._root.opened() as root, self._lock:
            for path in sorted(self._known):
                with suppress(PeerError, OSError):
                    volume = self._open_at(root, path, self._ids(root, path)[len(path)])
                    if volume.has_dot():
                        found.append(volume)
        return found

    def _try_locate(self, folders: _Path) -> Volume | PeerError:
        try:
            with (
                self._root.opened() as root,
                self._lock,
                storage_faults(f"opening {'/'.join(folders) or 'the folder'}"),
            ):
                return self._locate(root, folders)
        except PeerError as error:
            return error

    def _locate(self, root: int, folders: _Path) -> Volume:
        """Find the volume of new files in a folder that need not exist.

        Raises:
            NotWritable: if the user may not write to the folder, or create a dot-folder in any folder on the way.
        """
        ids = self._ids(root, folders, to_write=True)
        refused: NotWritable | None = None
        for depth in range(self._top(ids, folders), len(ids)):
            try:
                volume = self._open_at(root, folders[:depth], ids[depth])
                volume.check_writable()
                self._meet(volume)
                return volume
            except NotWritable as error:
                # A folder below it may belong to the user.
                refused = refused or error
        raise refused or StorageFault(f"{'/'.join(folders)} cannot be opened")

    def _ids(self, root: int, folders: _Path, *, to_write: bool = False) -> list[VolumeId]:
        """Return the volume ids of the root and of the folders below it, as far as they exist.

        Args:
            root: the descriptor of the root.
            folders: the path components from the root.
            to_write: whether the last folder that exists must be writable.

        Raises:
            TargetExists: if a link or a file has the name of one.
            NotWritable: if the last folder that exists should be writable and is not.
        """
        ids = [self._disk.volume_id(root)]
        fd = os.dup(root)
        try:
            for component in folders:
                try:
                    below = self._disk.open(component, DIRECTORY_FLAGS, dir_fd=fd)
                except FileNotFoundError:
                    break
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR):
                        raise not_a_folder_error(component) from error
                    raise
                os.close(fd)
                fd = below
                ids.append(self._disk.volume_id(fd))
            if to_write and not self._disk.is_writable(fd):
                raise NotWritable(not_writable_line(self._disk, fd, self._root.label(folders[: len(ids) - 1])))
        finally:
            os.close(fd)
        return ids

    def _top(self, ids: Sequence[VolumeId], folders: _Path) -> int:
        """Return the depth of the topmost folder of the volume that the last folder is in."""
        depth = len(ids) - 1
        while depth and ids[depth - 1] == ids[-1] and folders[:depth] not in self._boundaries:
            depth -= 1
        return depth

    def _open_at(self, root: int, path: _Path, id_: VolumeId) -> Volume:
        """Open the volume whose dot-folder is, or will be, in the folder at `path`, and lock that folder.

        Raises:
            StorageFault: if another pserver uses it, or it changed meanwhile.
        """
        if not path:
            return self.main
        volume = self._open_volumes.get(path)
        if volume is not None and volume.id == id_:
            return volume
        try:
            top = SharedFd(open_folder(self._disk, root, path))
        except NoSuchFile:
            raise unmounted_error("/".join(path)) from None
        with top as fd:
            if self._disk.volume_id(fd) != id_:
                raise unmounted_error("/".join(path))
            volume = Volume(self._root, path, id_, top, self._lock_folder(fd, path))
        self._open_volumes[path] = volume
        return volume

    def _lock_folder(self, folder: int, path: _Path) -> FolderLock | None:
        status = self._disk.fstat(folder)
        key = status.st_dev, status.st_ino
        lock = self._folder_locks.get(key)
        if lock is None:
            handle = SharedFd(self._disk.open(".", DIRECTORY_FLAGS, dir_fd=folder))
            with handle as fd:
                try:
                    self._disk.lock(fd)
                except BlockingIOError:
                    raise StorageFault(f"another pserver stores files in {'/'.join(path)}; stop it") from None
                except OSError:
                    # Some file systems cannot lock folders, as for the shared folder itself.
                    return None
            lock = self._folder_locks[key] = FolderLock(handle)
        return lock

    def _meet(self, volume: Volume) -> None:
        """Record the dot-folder of a volume, and have it cleaned up if it is new to this process."""
        if not volume.path:
            return
        with volume.dot as dot:
            status = self._disk.fstat(dot)
        key = status.st_dev, status.st_ino
        if key not in self._met:
            self._met.add(key)
            self.on_first_use(volume)
        self._known.add(volume.path)
