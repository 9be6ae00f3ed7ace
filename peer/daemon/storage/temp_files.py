"""Complete files in a dot-folder that have no name yet: small files that arrived, and copies of files from elsewhere.

Each is published under a name, or deleted.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from daemon.models import NO_ATTRIBUTES, Attributes
from daemon.storage.attributes import copy_attributes, creation_mode, set_attributes, set_modified
from daemon.storage.contents import copy_contents, ensure_same_content
from daemon.storage.dirfd import TEMP_SUFFIX, SharedFd, part_vanished_error
from daemon.storage.disk import storage_faults
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import ByteProgress, CancelCheck, not_cancelled
from daemon.storage.linking import can_link, link_into
from daemon.storage.publication import NewFile
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.sparse import MIN_HOLE_BYTES, write_sparse
from daemon.storage.volume import Volume


class TempFile:
    """A complete file in a dot-folder that has no name yet. `with` deletes it unless it was published.

    Args:
        folder: the shared folder that it belongs to.
        volume: the volume of its dot-folder.
        temporary: its file name in the dot-folder.
        size: its size in bytes.
    """

    def __init__(self, folder: SharedFolder, volume: Volume, temporary: str, size: int) -> None:
        self._folder = folder
        self.volume = volume
        self.temporary = temporary
        self.size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def named(self, name: str) -> NewFile:
        """Return the file with the name that it should get, for SharedFolder.publish_many."""
        return NewFile(self.volume, self.temporary, name)

    def publish(self, name: str) -> Fingerprint:
        """Make the file durable and give it a name; return its fingerprint.

        Raises:
            TargetExists: if the name is taken, see SharedFolder.publish.
            BadName: if the name breaks a rule.
            DiskFull, StorageFault: if the disk failed.
        """
        with storage_faults(f"making {name} durable"):
            try:
                self.sync()
            except FileNotFoundError:
                raise part_vanished_error(name) from None
        return self._folder.publish(self.named(name))

    def sync(self) -> None:
        """Make the bytes durable.

        Raises:
            OSError: if the disk failed.
        """
        disk = self.volume.disk
        with self.volume.dot as dot, SharedFd(disk.open(self.temporary, os.O_RDONLY, dir_fd=dot)) as fd:
            disk.fsync(fd)

    def discard(self) -> None:
        """Delete the file; does nothing if it was published or deleted."""
        self.volume.delete(self.temporary)


class TempCopy(TempFile):
    """A temporary file that stays open, for its creator to read through `handle`.

    Attributes:
        shares_blocks: whether it needs no disk space, because it shares the blocks of the file that it is a copy of.
    """

    def __init__(self, folder: SharedFolder, volume: Volume, temporary: str, size: int, fd: int) -> None:
        super().__init__(folder, volume, temporary, size)
        self.handle = SharedFd(fd)
        self.shares_blocks = False

    def discard(self) -> None:
        """Close the file and delete it; does nothing more if it was published or deleted."""
        self.handle.close()
        super().discard()


class TempFiles:
    """Creates the temporary files of a shared folder. Safe to use from many threads."""

    def __init__(self, folder: SharedFolder) -> None:
        self._folder = folder
        self._disk = folder.disk

    def write(self, data: bytes | memoryview, volume: Volume, attributes: Attributes = NO_ATTRIBUTES) -> TempFile:
        """Create a file with this content. It is not durable yet: call `sync_all`, then SharedFolder.publish_many.

        Args:
            data: the content.
            volume: the volume of the file's name, see SharedFolder.volume_for.
            attributes: what belongs to the name.

        Raises:
            DiskFull, StorageFault: if the disk failed.
        """
        temporary, fd = self._create(volume, creation_mode(attributes))
        file = TempFile(self._folder, volume, temporary, len(data))
        try:
            with storage_faults("writing a received file"):
                write_sparse(self._disk, fd, [data], 0)
                if len(data) >= MIN_HOLE_BYTES:
                    # The file may end in a hole.
                    self._disk.truncate(fd, len(data))
                set_modified(self._disk, fd, attributes)
        except BaseException:
            file.discard()
            raise
        finally:
            # Closed at once: thousands may wait for their batch, and each descriptor counts against the limit.
            os.close(fd)
        return file

    def sync_all(self, files: Sequence[TempFile]) -> None:
        """Make many temporary files durable together.

        Raises:
            DiskFull, StorageFault: if the disk failed.
        """
        by_volume: dict[Volume, list[TempFile]] = {}
        for file in files:
            by_volume.setdefault(file.volume, []).append(file)
        for volume, together in by_volume.items():
            with volume.dot as dot, storage_faults("making files durable"):
                if not self._disk.sync_filesystem(dot):
                    for file in together:
                        file.sync()

    def copy_in(
        self,
        source: int,
        volume: Volume,
        *,
        attributes: Attributes | None = None,
        progress: ByteProgress | None = None,
        stop: CancelCheck = not_cancelled,
    ) -> TempCopy:
        """Copy an open file, as it is now, into a dot-folder.

        Args:
            source: the descriptor of the file.
            volume: the volume of the copy's name, see SharedFolder.volume_for.
            attributes: what belongs to the copy's name; None for the permissions and the mtime of the source.
            progress: called with the number of bytes of each step.
            stop: asked before each step; the copy ends when it returns True.

        Raises:
            BeingWritten: if the content changed during the copy. What is only appended is left out.
            DiskFull: if the disk has too little free space.
            Interrupted: if `stop` returned True.
            StorageFault: if the disk failed.
        """
        with storage_faults("copying a file"):
            status = self._disk.fstat(source)
        before = Fingerprint.from_stat(status)
        temporary, fd = self._create(volume)
        copy = TempCopy(self._folder, volume, temporary, before.size, fd)
        try:
            copy.shares_blocks = copy_contents(self._disk, source, fd, before.size, progress=progress, stop=stop)
            if not copy.shares_blocks:
                ensure_same_content(self._disk, source, fd, before.size, before, stop=stop)
            with storage_faults("copying a file"):
                if attributes is None:
                    copy_attributes(self._disk, status, fd)
                else:
                    set_attributes(self._disk, fd, attributes)
        except BaseException:
            copy.discard()
            raise
        return copy

    def link_in(self, path: Path, volume: Volume) -> TempCopy:
        """Hard-link a file from outside into a dot-folder; arguments and errors are those of linking.link_into."""
        temporary = _new_name()
        fd = link_into(path, volume, temporary)
        copy = TempCopy(self._folder, volume, temporary, 0, fd)
        try:
            with storage_faults("linking a file"):
                copy.size = self._disk.fstat(fd).st_size
        except BaseException:
            copy.discard()
            raise
        copy.shares_blocks = True
        return copy

    def can_link(self, path: Path, volume: Volume) -> bool:
        """Return whether `link_in` works."""
        return can_link(path, volume, _new_name())

    def _create(self, volume: Volume, mode: int = 0o644) -> tuple[str, int]:
        """Create an empty file; return its name in the dot-folder and a descriptor."""
        temporary = _new_name()
        with volume.dot as dot, storage_faults("writing a file"):
            fd = self._disk.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=mode, dir_fd=dot)
        return temporary, fd


def _new_name() -> str:
    return secrets.token_hex(16) + TEMP_SUFFIX
