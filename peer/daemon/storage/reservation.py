"""The record of a reserved name, for file systems on which a name is reserved by an empty file (`Naming.RESERVE`).

A process that is killed between the reservation and the rename leaves the empty file under the name. The record in the
dot-folder tells the next process, which removes it. It is not durable: after a power failure the file may stay.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress

from daemon.errors import BadName, NoSuchFile
from daemon.storage.dirfd import DirFd, SharedFd, open_folder
from daemon.storage.disk import Disk
from daemon.storage.names import NAME_BYTES_MAX, check_name
from daemon.storage.naming import is_reservation

RESERVATION_SUFFIX = ".reserved"
# Temporary name, newline, name, NULs. Written in one piece, so that it is always complete.
_RECORD_BYTES = 128 + NAME_BYTES_MAX


class Reservation:
    """The record of one publication, which reserves one name at a time.

    Args:
        disk: the file operations to use.
        dot: the descriptor of the dot-folder.
    """

    def __init__(self, disk: Disk, dot: int) -> None:
        self._disk = disk
        self._dot = dot
        self._name = secrets.token_hex(16) + RESERVATION_SUFFIX
        self._handle = SharedFd(disk.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=dot))

    def write(self, temporary: str, name: str) -> None:
        """Record that `name` will be reserved for the file `temporary` of the dot-folder."""
        self._write(f"{temporary}\n{name}".encode())

    def clear(self) -> None:
        """Record that no name is reserved."""
        self._write(b"")

    def close(self) -> None:
        """Delete the record."""
        self._handle.close()
        with suppress(OSError):
            self._disk.unlink(self._name, dir_fd=self._dot)

    def _write(self, record: bytes) -> None:
        with self._handle as fd:
            self._disk.pwrite(fd, [record.ljust(_RECORD_BYTES, b"\0")], 0)


def release(disk: Disk, root: int, dot: int, record: str) -> None:
    """Remove the empty file that a killed process left under a name, and its record.

    Args:
        disk: the file operations to use.
        root: the descriptor of the shared folder.
        dot: the descriptor of the dot-folder.
        record: the name of the record in the dot-folder.

    Raises:
        OSError: if the disk failed.
    """
    with SharedFd(disk.open(record, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dot)) as fd:
        content = disk.pread(fd, _RECORD_BYTES, 0)
    temporary, _, name = content.rstrip(b"\0").decode(errors="replace").partition("\n")
    # Otherwise the file was renamed, and what has the name is complete.
    with suppress(BadName, NoSuchFile, FileNotFoundError):
        *folders, leaf = check_name(name).split("/")
        if temporary and "/" not in temporary:
            disk.stat(temporary, dir_fd=dot)
            with DirFd(open_folder(disk, root, folders)) as folder:
                if is_reservation(disk.stat(leaf, dir_fd=folder.fd)):
                    disk.unlink(leaf, dir_fd=folder.fd)
    disk.unlink(record, dir_fd=dot)
