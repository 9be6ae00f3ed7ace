"""Folders below a root, opened or made component by component from its descriptor, never through a link."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from daemon.errors import NoSuchFile, PeerError, StorageFault, TargetExists
from daemon.storage.disk import Disk
from daemon.storage.handles import DirFd

# Unfinished files live here, in the shared folder; dot names are never shared.
DOT_FOLDER = ".p2p"

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY


class CachedDirFd:
    """The folder that was opened last, kept open for the next name in it. `with` closes it.

    One that is not there is remembered, too.
    """

    __slots__ = ("_absent", "_components", "_fd", "_open")

    def __init__(self, open_: Callable[[tuple[str, ...]], int]) -> None:
        self._open = open_
        self._components: tuple[str, ...] = ()
        self._absent: PeerError | None = None
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.invalidate()

    def get(self, components: tuple[str, ...]) -> int:
        """Return the descriptor of a folder; it is good until the next call. Raises what `open_` raises."""
        if components != self._components or (self._fd < 0 and self._absent is None):
            self.invalidate()
            self._components = components
            try:
                self._fd = self._open(components)
            except PeerError as error:
                self._absent = error
        if self._absent is not None:
            raise self._absent.with_traceback(None)
        return self._fd

    def invalidate(self) -> None:
        """Open it anew next time: it may not be there any more."""
        self._absent = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_folder(disk: Disk, root: int, components: Iterable[str]) -> int:
    """Return a descriptor of a folder below `root`.

    Raises:
        NoSuchFile: if it is not there, or a link or a file is in its place.
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


def make_folder(disk: Disk, root: int, components: Sequence[str]) -> tuple[int, int]:
    """Return a descriptor of a folder below `root`, and how many of its last components had to be made.

    To make those durable is the caller's part: with many it is cheaper at once.

    Raises:
        TargetExists: if a link or a file is in its place.
    """
    fd = os.dup(root)
    made = 0
    for component in components:
        with DirFd(fd):
            try:
                disk.mkdir(component, dir_fd=fd)
                made += 1
            except FileExistsError:
                pass
            try:
                fd = disk.open(component, DIRECTORY_FLAGS, dir_fd=fd)
            except OSError as error:
                if is_not_found(error):
                    message = f"{component} is no folder here: rename it, or take another name; nothing was touched"
                    raise TargetExists(message, name=component) from error
                raise
    return fd, made


def remove_entry(disk: Disk, folder: int, name: str) -> None:
    """Remove whatever was put in place of one of our own files, an empty folder too. Raises OSError."""
    try:
        disk.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        disk.rmdir(name, dir_fd=folder)


def is_not_found(error: OSError) -> bool:
    """Tell whether an open failed for want of such a thing: a link reads as ELOOP or ENOTDIR, a socket as ENXIO."""
    return error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO)


def part_vanished_error(name: str) -> StorageFault:
    """Return the error of an unfinished file that somebody has removed."""
    return StorageFault(f"somebody removed what had come of {name} from {DOT_FOLDER}: run it again")


def not_found_error(name: str) -> NoSuchFile:
    """Return the error for a file that is not there."""
    return NoSuchFile(f"there is no file {name} in the shared folder", name=name)
