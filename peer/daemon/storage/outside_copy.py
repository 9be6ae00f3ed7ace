"""Copies outside the shared folder: what the target's file system can do, and how a copy gets its name there.

A copy is written under a hidden name beside its own, and gets its name when it is complete. Nothing is replaced.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from daemon.errors import BadUsage, NotWritable, TargetExists
from daemon.models import NO_ATTRIBUTES, Attributes
from daemon.storage.attributes import set_attributes
from daemon.storage.dirfd import DIRECTORY_FLAGS, DirFd
from daemon.storage.disk import Disk, VolumeId, is_not_writable, storage_faults
from daemon.storage.naming import move_new
from daemon.storage.traits import Traits, check_storable, find_traits


class OutsideCopy:
    """A copy that is being written.

    Attributes:
        fd: the descriptor of the file, which is empty at first.
    """

    def __init__(self, disk: Disk, folder: int, temporary: str, path: Path, traits: Traits, fd: int) -> None:
        self.fd = fd
        self._disk = disk
        self._folder = folder
        self._temporary = temporary
        self._path = path
        self._traits = traits

    def publish(self, attributes: Attributes = NO_ATTRIBUTES) -> None:
        """Make the copy durable and give it its name.

        Args:
            attributes: what belongs to the name.

        Raises:
            TargetExists: if the name is taken.
            OSError: if the disk failed.
        """
        set_attributes(self._disk, self.fd, attributes)
        self._disk.fsync(self.fd)
        try:
            move_new(
                self._disk,
                self._traits.naming,
                self._temporary,
                self._path.name,
                source_fd=self._folder,
                target_fd=self._folder,
            )
        except FileExistsError:
            raise _target_exists(self._path) from None
        self._disk.fsync(self._folder)


class OutsideCopies:
    """Writes copies outside the shared folder. Safe to use from many threads.

    Args:
        disk: the file operations to use.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._traits: dict[VolumeId, Traits] = {}

    def check_target(self, path: Path, *, make_folders: bool) -> None:
        """Check that a copy can be stored at a path, before the bytes of the file are here.

        Args:
            path: the absolute path of the copy.
            make_folders: whether its missing parent folders will be created.

        Raises:
            BadUsage: if the parent folder is missing, and `make_folders` is false.
            TargetExists: if something exists at the path, or a file has the name of a parent folder.
            NotWritable, DiskFull, StorageFault: if the file system or its permissions do not allow it.
        """
        with storage_faults(f"checking {path}"):
            if os.path.lexists(path):
                raise _target_exists(path)
            folder = path.parent
            while make_folders and not os.path.lexists(folder) and folder != folder.parent:
                folder = folder.parent
            with self._open(folder, path) as opened:
                self._check_folder(opened.fd, path, path.parts[len(folder.parts) :])

    @contextmanager
    def create(self, path: Path, *, make_folders: bool) -> Iterator[OutsideCopy]:
        """Create an empty copy, which the `with` block fills and publishes. Otherwise it is deleted at the end.

        Args:
            path: the absolute path of the copy.
            make_folders: whether to create missing parent folders.

        Raises:
            BadUsage, TargetExists, NotWritable, DiskFull, StorageFault: as for `check_target`. OSErrors of the block
                become StorageFault or DiskFull too.
        """
        with storage_faults(f"writing {path}"):
            if make_folders:
                path.parent.mkdir(parents=True, exist_ok=True)
            with self._open(path.parent, path) as folder:
                traits = self._check_folder(folder.fd, path, [path.name])
                temporary = _temporary_name()
                fd = self._disk.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=folder.fd)
                try:
                    yield OutsideCopy(self._disk, folder.fd, temporary, path, traits, fd)
                finally:
                    os.close(fd)
                    with suppress(OSError):
                        self._disk.unlink(temporary, dir_fd=folder.fd)

    def _open(self, folder: Path, path: Path) -> DirFd:
        try:
            # Links are followed: the path is the user's own.
            return DirFd(os.open(folder, DIRECTORY_FLAGS | os.O_CLOEXEC))
        except (FileNotFoundError, NotADirectoryError):
            raise BadUsage(f"{folder}: no such folder", name=str(path)) from None

    def _check_folder(self, folder: int, path: Path, components: Sequence[str]) -> Traits:
        id_ = self._disk.volume_id(folder)
        try:
            if not self._disk.is_writable(folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            traits = self._traits.get(id_)
            if traits is None:
                traits = self._traits[id_] = find_traits(self._disk, folder, _temporary_name)
            check_storable(self._disk, folder, traits, components, _temporary_name)
        except OSError as error:
            if is_not_writable(error):
                why = "is read-only" if self._disk.is_read_only(folder) else "is not writable"
                raise NotWritable(f"the folder of {path} {why}; choose another path", name=str(path)) from error
            raise
        return traits


def _target_exists(path: Path) -> TargetExists:
    return TargetExists(f"{path} already exists and was not changed: choose another path", name=str(path))


def _temporary_name(text: str = "") -> str:
    return f".{secrets.token_hex(8)}{text}.p2p"
