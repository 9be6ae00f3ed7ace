"""A shared file that is open for reading, and whether it changed since."""

from __future__ import annotations

import os
from typing import Self

from daemon.errors import FileChanged
from daemon.storage.dirfd import SharedFd
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import hash_pieces
from daemon.storage.manifest import Manifest


class OpenFile:
    """A shared file that is open for reading.

    Attributes:
        handle: the descriptor, for readers that need it themselves.
        name: the file's name.
        fingerprint: the file's fingerprint at the time of opening.
    """

    def __init__(self, disk: Disk, handle: SharedFd, name: str, status: os.stat_result) -> None:
        """Own the descriptor of a regular file with this status.

        Raises:
            OSError: if the disk failed.
        """
        self._disk = disk
        self.handle = handle
        self.name = name
        with handle as fd:
            self._stable_inode = disk.has_stable_inodes(fd)
        self.fingerprint = self._fingerprint(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file after the reads that run in other threads."""
        self.handle.close()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises:
            FileChanged: if the file is too short for it now.
            NoSuchFile: if the file is closed.
            StorageFault: if the disk failed.
        """
        with self.handle as fd, storage_faults(f"reading {self.name}"):
            data = self._disk.pread(fd, length, offset)
        if len(data) != length:
            raise FileChanged("the file was truncated while it was read", name=self.name)
        return data

    def digest(self, manifest: Manifest, piece: int) -> bytes:
        """Return the digest of a piece of the file, which is as long as `manifest` says.

        Raises:
            FileChanged: if the file is too short for it now.
            NoSuchFile: if the file is closed.
            StorageFault: if the disk failed.
        """
        with self.handle as fd:
            [digest] = hash_pieces(self._disk, fd, manifest.size, [piece])
        return digest

    def current_fingerprint(self) -> Fingerprint:
        """Return the file's fingerprint now.

        Raises:
            NoSuchFile: if the file is closed.
            StorageFault: if the disk failed.
        """
        with self.handle as fd, storage_faults(f"reading {self.name}"):
            return self._fingerprint(self._disk.fstat(fd))

    def ensure_unchanged(self, *, ignore_ctime: bool = False) -> None:
        """Check that the file still has its fingerprint, so that what was read until now belongs to it.

        Args:
            ignore_ctime: whether a change of ctime alone is none: then the caller does not trust the content.

        Raises:
            FileChanged: if the file changed since it was opened.
            StorageFault: if the disk failed.
        """
        now = self.current_fingerprint()
        if now != self.fingerprint and not (ignore_ctime and now.equals_but_ctime(self.fingerprint)):
            raise FileChanged("the file changed while it was read", name=self.name)

    def _fingerprint(self, status: os.stat_result) -> Fingerprint:
        return Fingerprint.from_stat(status, "" if self._stable_inode else self.name)
