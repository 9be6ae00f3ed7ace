"""One volume of the shared folder: a part of it inside which a file can be renamed, with a dot-folder for its files.

A mounted file system, a btrfs subvolume and a bind mount inside the shared folder are volumes of their own. What a
volume can do is found by trying in its dot-folder, before the bytes of a file move.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from common.control_messages import Hint
from daemon.errors import NotWritable, StorageFault
from daemon.storage.dirfd import DIRECTORY_FLAGS, DOT_FOLDER, TEMP_SUFFIX, SharedFd
from daemon.storage.disk import Disk, VolumeId, is_not_writable, is_unsupported, storage_faults
from daemon.storage.root_folder import RootFolder
from daemon.storage.traits import Traits, check_storable, find_traits


class FolderLock:
    """The lock of a folder that has a dot-folder, by which one pserver at a time uses it. Closing `handle` ends it."""

    def __init__(self, handle: SharedFd) -> None:
        self.handle = handle


class Volume:
    """An open volume. Its descriptors are closed with its last user, so that it can be unmounted when it is not used.

    Args:
        root: the shared folder.
        path: the path components, from the root, of the folder that has the dot-folder; empty for the root.
        id_: the volume's id.
        top: the descriptor of that folder.
        lock: the lock of that folder; None for the root, which the process has locked.
    """

    def __init__(
        self, root: RootFolder, path: tuple[str, ...], id_: VolumeId, top: SharedFd, lock: FolderLock | None = None
    ) -> None:
        self.disk = root.disk
        self.path = path
        self.id = id_
        self._root = root
        self._top = top
        self._lock = lock
        self._dot: SharedFd | None = None
        self._opening = threading.Lock()

    @property
    def label(self) -> str:
        """The folder with the dot-folder, for messages."""
        return self._root.label(self.path)

    @property
    def dot(self) -> SharedFd:
        """The descriptor of the dot-folder. It is created if it does not exist.

        Raises:
            NotWritable: if it does not exist and cannot be created.
            StorageFault: if the shared folder was moved or removed, the volume was unmounted, or a link or file has the
                dot-folder's name.
        """
        with self._root.opened() as root, self._top as top, self._opening:
            self._check_mounted(root, top)
            if self._dot is None or not _is_at(self._dot, top):
                with self._write_faults(f"opening {DOT_FOLDER} in {self.label}", top):
                    new = _open_dot(self.disk, top)
                if self._dot is not None:
                    # Threads that use the old descriptor finish with it.
                    self._dot.close()
                self._dot = new
            return self._dot

    def has_dot(self) -> bool:
        """Return whether the dot-folder exists."""
        with self._top as top:
            try:
                os.close(self.disk.open(DOT_FOLDER, DIRECTORY_FLAGS, dir_fd=top))
            except OSError:
                return False
        return True

    def check_writable(self) -> None:
        """Check that files can be stored in the volume; creates its dot-folder.

        Raises:
            NotWritable: if it is read-only, or the user may not write to it.
            StorageFault: if it cannot be used for another reason.
        """
        with self.dot as dot:
            if not self.disk.is_writable(dot):
                raise self._not_writable(dot)

    def find_traits(self) -> Traits:
        """Find out by trying what the file system can do.

        Raises:
            NotWritable, DiskFull, StorageFault: if files cannot be stored in the volume.
        """
        with self.dot as dot, self._write_faults(f"trying the file system of {self.label}", dot):
            return find_traits(self.disk, dot, _temporary_name)

    def check_storable(self, components: Iterable[str], traits: Traits) -> None:
        """Check that the file system can store the components of a name.

        Raises:
            NotWritable, DiskFull, StorageFault: if it cannot, or that cannot be tried.
        """
        with self.dot as dot, self._write_faults("trying to store a name", dot):
            check_storable(self.disk, dot, traits, components, _temporary_name)

    def free_bytes(self) -> int:
        """Return the free bytes of the file system.

        Raises:
            StorageFault: if the disk failed.
        """
        with self._top as top, storage_faults("querying free space"):
            return self.disk.free_bytes(top)

    def delete(self, name: str) -> None:
        """Delete a file of the dot-folder. A file that does not exist, or a failing disk, is no error."""
        with suppress(OSError, StorageFault), self.dot as dot:
            self.disk.unlink(name, dir_fd=dot)

    def close(self) -> None:
        """Close the dot-folder's descriptor; a later use opens it again."""
        with self._opening:
            if self._dot is not None:
                self._dot.close()
                self._dot = None

    def _check_mounted(self, root: int, top: int) -> None:
        if not self.path:
            return
        path = "/".join(self.path)
        action = f"reading the status of {self.label}"
        with storage_faults(action), suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.fstat(top), os.stat(path, dir_fd=root, follow_symlinks=False)):
                return
        raise unmounted_error(path)

    @contextmanager
    def _write_faults(self, action: str, folder: int) -> Iterator[None]:
        with storage_faults(action):
            try:
                yield
            except OSError as error:
                if is_not_writable(error):
                    raise self._not_writable(folder) from error
                raise

    def _not_writable(self, folder: int) -> NotWritable:
        return NotWritable(not_writable_line(self.disk, folder, self.label))


def not_writable_line(disk: Disk, folder: int, label: str) -> str:
    """Return the line for a folder in which nothing can be stored."""
    if disk.is_read_only(folder):
        return f"{label} is read-only: its files are shared, but none can be stored or removed; mount it writable"
    return f"{label} is not writable: its files are shared, but none can be stored or removed; change its permissions"


def unmounted_error(folder: str) -> StorageFault:
    """Return the error for a folder that changed its volume while a file for it was prepared."""
    message = f"the file system at {folder} in the shared folder was mounted or unmounted meanwhile"
    return StorageFault(message, hint=Hint.REPEAT)


def _is_at(dot: SharedFd, top: int) -> bool:
    """Return whether an open dot-folder is still the one in `top`."""
    with dot as fd:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(DOT_FOLDER, dir_fd=top, follow_symlinks=False))
        except OSError:
            return False


def _open_dot(disk: Disk, top: int) -> SharedFd:
    """Open the dot-folder, which is created if it does not exist. Raises OSError, also if it is a link."""
    with suppress(FileExistsError):
        disk.mkdir(DOT_FOLDER, mode=0o700, dir_fd=top)
    dot = SharedFd(disk.open(DOT_FOLDER, DIRECTORY_FLAGS, dir_fd=top))
    with dot as fd:
        try:
            disk.chmod(fd, 0o700)
        except OSError as error:
            # FAT has no permissions; and what is read-only can still be read.
            if not is_unsupported(error) and not is_not_writable(error):
                raise
    return dot


def _temporary_name(text: str) -> str:
    return f"{secrets.token_hex(16)}{text}{TEMP_SUFFIX}"
