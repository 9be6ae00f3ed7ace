"""File descriptors with an owner, and folders below a root: opened or created component by component.

Every component is opened from its parent's descriptor with O_NOFOLLOW, so a symbolic link never leads out of the root.
This module decides nothing about names; `names.check_name` does.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self

from common.control_messages import Hint
from daemon.errors import NoSuchFile, PeerError, StorageFault, TargetExists
from daemon.storage.disk import Disk

# The folder of unfinished files inside the shared folder. Names that begin with a dot are never shared.
DOT_FOLDER = ".p2p"
# The suffix of files in it that belong to a running process. Those of earlier processes are deleted.
TEMP_SUFFIX = ".tmp"

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY


class SharedFd:
    """A reference-counted descriptor that several threads use.

    `close` takes effect when the last user is done. Closing earlier could give the same number to another file while a
    reader still uses it. `with shared as fd:` uses the descriptor; it raises NoSuchFile after `close`.
    """

    __slots__ = ("_closing", "_fd", "_lock", "_users")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    def __enter__(self) -> int:
        with self._lock:
            if self._closing:
                raise NoSuchFile("the file is not open any more")
            self._users += 1
            return self._fd

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            self._close_if_idle()

    def close(self) -> None:
        """Close the descriptor now, or when its last user is done. Closing twice is harmless."""
        with self._lock:
            self._closing = True
            self._close_if_idle()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _close_if_idle(self) -> None:
        if self._closing and not self._users and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DirFd:
    """A folder's descriptor that is closed at the end of a `with` block."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class CachedDirFd:
    """A cache of one folder: the last one asked for stays open for further names in it. `with` closes it.

    A folder that does not exist is cached too, as the error that opening it raised.

    Args:
        open_: opens the folder with the given path components and returns its descriptor.
    """

    __slots__ = ("_components", "_error", "_fd", "_open")

    def __init__(self, open_: Callable[[tuple[str, ...]], int]) -> None:
        self._open = open_
        self._components: tuple[str, ...] = ()
        self._error: PeerError | None = None
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.invalidate()

    def get(self, components: tuple[str, ...]) -> int:
        """Return the descriptor of a folder; it is valid until the next call.

        Raises:
            PeerError, OSError: what `open_` raises. Only a PeerError is cached; an OSError is retried by the next call.
        """
        if components != self._components or (self._fd < 0 and self._error is None):
            self.invalidate()
            self._components = components
            try:
                self._fd = self._open(components)
            except PeerError as error:
                self._error = error
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._fd

    def invalidate(self) -> None:
        """Close the cached folder, so that the next `get` opens it again."""
        self._error = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class CreatedFolder(NamedTuple):
    """An open folder, and how many of its last path components had to be created."""

    fd: int
    created: int


def open_folder(disk: Disk, root: int, components: Iterable[str]) -> int:
    """Open a folder below `root`.

    Args:
        disk: the file operations to use.
        root: the descriptor of the root; it stays open.
        components: the path components from the root to the folder.

    Returns:
        A new descriptor, which the caller closes.

    Raises:
        NoSuchFile: if the folder does not exist, or a link or a file has its name.
        OSError: if the disk fails.
    """
    fd = os.dup(root)
    for component in components:
        with DirFd(fd):
            try:
                fd = disk.open(component, DIRECTORY_FLAGS, dir_fd=fd)
            except OSError as error:
                if is_not_found(error):
                    raise not_found_error(component) from error
                raise
    return fd


def make_folder(disk: Disk, root: int, components: Sequence[str]) -> CreatedFolder:
    """Open a folder below `root`, and create the components that do not exist.

    The caller makes new folders durable, since one flush for many of them is cheaper.

    Args:
        disk: the file operations to use.
        root: the descriptor of the root; it stays open.
        components: the path components from the root to the folder.

    Returns:
        A new descriptor, which the caller closes, and the number of components created.

    Raises:
        TargetExists: if a link or a file has the name of a component.
        OSError: if the disk fails.
    """
    fd = os.dup(root)
    created = 0
    for component in components:
        with DirFd(fd):
            try:
                disk.mkdir(component, dir_fd=fd)
                created += 1
            except FileExistsError:
                pass
            try:
                fd = disk.open(component, DIRECTORY_FLAGS, dir_fd=fd)
            except OSError as error:
                if is_not_found(error):
                    raise not_a_folder_error(component) from error
                raise
    return CreatedFolder(fd, created)


def remove_entry(disk: Disk, folder: int, name: str) -> None:
    """Remove a directory entry in the place of one of our own files: a file, a link or an empty folder.

    Raises:
        OSError: if it does not exist, is a folder with entries, or the disk fails.
    """
    try:
        disk.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        disk.rmdir(name, dir_fd=folder)


def is_not_found(error: OSError) -> bool:
    """Return whether an open failed since no such file or folder exists.

    With O_NOFOLLOW and O_DIRECTORY a link fails with ELOOP or ENOTDIR, and a socket with ENXIO.
    """
    return error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO)


def part_vanished_error(name: str) -> StorageFault:
    """Return the error for an unfinished file that another program has deleted."""
    return StorageFault(f"partial data for {name} was deleted from {DOT_FOLDER}", hint=Hint.REPEAT)


def not_a_folder_error(component: str) -> TargetExists:
    """Return the error for a link or file that has the name of a folder."""
    return TargetExists(f"{component} exists and is not a folder; rename it, or use another name", name=component)


def not_found_error(name: str) -> NoSuchFile:
    """Return the error for a name that no regular file of the shared folder has."""
    return NoSuchFile(f"no file {name} in the shared folder", name=name)
