"""Whole files in the dot-folder that have no name yet: small ones that arrived, and copies of files from elsewhere."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import Self

from daemon.errors import FileChanged
from daemon.storage.copying import copy_contents
from daemon.storage.dirfd import part_vanished_error
from daemon.storage.disk import storage_faults
from daemon.storage.handles import SharedFd
from daemon.storage.hashing import ByteProgress, CancelCheck, not_cancelled
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.walk import Fingerprint

# What ends so belongs to a process that runs; PartStore.clean takes the others' away.
TEMP_SUFFIX = ".tmp"


class TempFile:
    """A whole file in the dot-folder that has no name yet. `with` throws it away unless it was published."""

    def __init__(self, folder: SharedFolder, name: str, size: int) -> None:
        self._folder = folder
        self.name = name
        self.size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def publish(self, name: str) -> Fingerprint:
        """Make it durable and give it its name; see SharedFolder.publish."""
        with storage_faults(f"making {name} durable"):
            try:
                self.sync()
            except FileNotFoundError:
                raise part_vanished_error(name) from None
        return self._folder.publish(self.name, name)

    def sync(self) -> None:
        """Make its bytes durable. Raises OSError."""
        disk = self._folder.disk
        with self._folder.dot_folder as dot, SharedFd(disk.open(self.name, os.O_RDONLY, dir_fd=dot)) as fd:
            disk.fsync(fd)

    def discard(self) -> None:
        """Throw it away, if it still is there."""
        self._folder.delete_unfinished(self.name)


class TempCopy(TempFile):
    """A temporary file that is open, for whoever made it to read."""

    def __init__(self, folder: SharedFolder, name: str, size: int, fd: int) -> None:
        super().__init__(folder, name, size)
        self.handle = SharedFd(fd)

    def discard(self) -> None:
        """Close it, and throw it away if it still is there."""
        self.handle.close()
        super().discard()


class TempFiles:
    """Makes them. Safe to use from many threads."""

    def __init__(self, folder: SharedFolder) -> None:
        self._folder = folder
        self._disk = folder.disk

    def write(self, data: bytes | memoryview) -> TempFile:
        """Write a whole small file, not yet durable: `durable`, then SharedFolder.publish_many."""
        name, fd = self._create()
        temporary = TempFile(self._folder, name, len(data))
        try:
            with storage_faults("writing what arrived"):
                self._disk.pwrite(fd, [data], 0)
        except BaseException:
            temporary.discard()
            raise
        finally:
            # Thousands of them may wait for their batch: without a descriptor each.
            os.close(fd)
        return temporary

    def sync_all(self, temporaries: Sequence[TempFile]) -> None:
        """Make many temporary files durable together."""
        with self._folder.dot_folder as dot, storage_faults("making files durable"):
            if self._disk.sync_filesystem(dot):
                return
            for temporary in temporaries:
                temporary.sync()

    def copy_in(
        self, source: int, *, progress: ByteProgress | None = None, stop: CancelCheck = not_cancelled
    ) -> TempCopy:
        """Copy a file that is open into the dot-folder: by sharing its blocks, inside the kernel, or byte by byte.

        Raises:
            FileChanged: if it changed meanwhile.
            DiskFull: if there is no room; Interrupted: if `stop` answered true.
        """
        with storage_faults("copying a file"):
            before = Fingerprint.from_stat(self._disk.fstat(source))
        name, fd = self._create()
        copy = TempCopy(self._folder, name, before.size, fd)
        try:
            copy_contents(self._disk, source, fd, before.size, progress=progress, stop=stop)
            with storage_faults("copying a file"):
                if Fingerprint.from_stat(self._disk.fstat(source)) != before:
                    raise FileChanged("the file was changed while it was copied: try again when it is at rest")
        except BaseException:
            copy.discard()
            raise
        return copy

    def _create(self) -> tuple[str, int]:
        """Make an empty file; return its name and a descriptor."""
        name = secrets.token_hex(16) + TEMP_SUFFIX
        with self._folder.dot_folder as dot, storage_faults("writing a file"):
            fd = self._disk.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=dot)
        return name, fd
