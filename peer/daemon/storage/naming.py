"""How a file gets a name that no other file has, and what a file system can do for that.

Nothing else in the pserver gives files names: `move_new` never replaces a file. Which way works is found by trying,
before the bytes of a file exist.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from enum import Enum

from daemon.errors import StorageFault
from daemon.storage.dirfd import TEMP_SUFFIX
from daemon.storage.disk import Disk, is_unsupported


class Naming(Enum):
    """A way to give a file its name, the best first."""

    # One step: a rename that the file system refuses if the name is taken.
    RENAME = "rename"
    # A second name, which the file system refuses if it is taken; then the first one is removed.
    LINK = "link"
    # An empty file that the file system refuses to create if the name is taken; then a rename that replaces it.
    RESERVE = "reserve"


def find_naming(disk: Disk, folder: int, names: tuple[str, str]) -> Naming:
    """Return the best way that works in a folder.

    Args:
        disk: the file operations to use.
        folder: the descriptor of the folder.
        names: two names for files that are created, and removed again.

    Raises:
        StorageFault: if none works.
        OSError: if the disk fails.
    """
    try:
        for naming in Naming:
            if _works(disk, folder, naming, *names):
                return naming
    finally:
        for name in names:
            with suppress(OSError):
                disk.unlink(name, dir_fd=folder)
    raise StorageFault("the file system can neither link nor rename files; nothing can be stored there")


def move_new(disk: Disk, naming: Naming, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
    """Give a file the name `target` in place of `source`.

    Args:
        disk: the file operations to use.
        naming: a way that works on the file system.
        source: the present name.
        target: the new name.
        source_fd: the descriptor of the folder of `source`.
        target_fd: the descriptor of the folder of `target`.

    Raises:
        FileExistsError: if another file, folder or link has the new name.
        OSError: if the disk fails. The file has its old name then, and perhaps the new one too.
    """
    match naming:
        case Naming.RENAME:
            disk.rename_new(source, target, source_fd=source_fd, target_fd=target_fd)
        case Naming.LINK:
            disk.link(source, target, source_fd=source_fd, target_fd=target_fd)
            try:
                disk.unlink(source, dir_fd=source_fd)
            except OSError:
                with suppress(OSError):
                    disk.unlink(target, dir_fd=target_fd)
                raise
        case Naming.RESERVE:
            _reserve_and_replace(disk, source, target, source_fd=source_fd, target_fd=target_fd)


def can_move(disk: Disk, naming: Naming, *, source_fd: int, target_fd: int) -> bool:
    """Return whether a file can be moved from one folder to another, by moving one under hidden names.

    Raises:
        OSError: if the disk fails.
    """
    source, target = f"{secrets.token_hex(16)}{TEMP_SUFFIX}", f".{secrets.token_hex(16)}.p2p"
    os.close(disk.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=source_fd))
    try:
        move_new(disk, naming, source, target, source_fd=source_fd, target_fd=target_fd)
    except OSError as error:
        disk.unlink(source, dir_fd=source_fd)
        if error.errno == errno.EXDEV:
            return False
        raise
    disk.unlink(target, dir_fd=target_fd)
    return True


def is_reservation(status: os.stat_result) -> bool:
    """Return whether a file with this status may be one that RESERVE created and did not replace yet."""
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _reserve_and_replace(disk: Disk, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
    # Closed before the rename: FUSE would keep an open file that is replaced under a hidden name.
    os.close(disk.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=target_fd))
    try:
        if not is_reservation(disk.stat(target, dir_fd=target_fd)):
            # Another program wrote to it, or replaced it, so the name is that program's.
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        disk.rename(source, target, source_fd=source_fd, target_fd=target_fd)
    except OSError:
        with suppress(OSError):
            if is_reservation(disk.stat(target, dir_fd=target_fd)):
                disk.unlink(target, dir_fd=target_fd)
        raise


def _works(disk: Disk, folder: int, naming: Naming, first: str, second: str) -> bool:
    for name in (first, second):
        os.close(disk.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    try:
        move_new(disk, naming, first, second, source_fd=folder, target_fd=folder)
    except FileExistsError:
        pass
    except OSError as error:
        if not is_unsupported(error):
            raise
        return False
    else:
        # The file system ignores that it must not replace a file.
        return False
    disk.unlink(second, dir_fd=folder)
    try:
        move_new(disk, naming, first, second, source_fd=folder, target_fd=folder)
    except OSError as error:
        if not is_unsupported(error):
            raise
        return False
    return True
