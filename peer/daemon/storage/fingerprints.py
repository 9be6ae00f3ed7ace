"""Fingerprints: what tells without reading a file that its content may have changed."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from blake3 import blake3

from daemon.storage.disk import Disk
from daemon.storage.names import fold


class Fingerprint(NamedTuple):
    """Device, inode, size, times and executable bit of a file; if one differs, the content may have changed."""

    dev: int
    # Made from the file's name where the file system has no stable numbers.
    inode: int
    # Bytes.
    size: int
    # Nanoseconds since 1970.
    mtime_ns: int
    # The time of the last change of the inode: of content, mode, owner, names or times. No program can set it.
    ctime_ns: int
    # Whether the owner may execute the file. A change of it is a change of ctime, too. None where it means nothing: the
    # file systems without stable inode numbers give all files one mode, or do not say whether they do.
    executable: bool | None = False

    @classmethod
    def from_stat(cls, status: os.stat_result, name: str = "") -> Fingerprint:
        """Return the fingerprint of the file with this status.

        Args:
            status: the status.
            name: the file's name, if its file system has no stable inode numbers (`Disk.has_stable_inodes`).
        """
        executable = status.st_mode & stat.S_IXUSR != 0
        numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return cls(*numbers, executable).with_inode_from(name) if name else cls(*numbers, executable)

    def with_inode_from(self, name: str) -> Fingerprint:
        """Return the fingerprint of the file of this name where inode numbers are not stable."""
        return self._replace(inode=_inode_from(name), executable=None)

    def equals_but_ctime(self, other: Fingerprint) -> bool:
        """Return whether only ctime differs, or nothing: a rename, a new mode, or a change that restored the mtime."""
        return self[:4] == other[:4]


def _inode_from(name: str) -> int:
    # Case is folded, since these file systems mostly ignore it.
    return int.from_bytes(blake3(fold(name).encode()).digest(8), "big")


class Fingerprints:
    """Makes fingerprints of many files, and asks each device once whether its inode numbers are stable.

    It is for one operation: a device may get another file system later.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._stable: dict[int, bool] = {}

    def make(self, name: str, status: os.stat_result, folder: int) -> Fingerprint:
        """Return the fingerprint of a file in an open folder. Raises OSError if the disk fails."""
        stable = self._stable.get(status.st_dev)
        if stable is None:
            stable = self._stable[status.st_dev] = self._disk.has_stable_inodes(folder)
        return Fingerprint.from_stat(status, "" if stable else name)
