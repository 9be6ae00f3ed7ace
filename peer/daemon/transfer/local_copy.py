"""Copies of shared files: to another name in the shared folder, or to a path outside it.

Each copy is hashed before it gets its name, because a file that kept its fingerprint may still be corrupt. Nothing here
replaces a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import FileChanged, NoSuchFile, NotVerified, PeerError
from daemon.library.library import HashedFile, Library
from daemon.models import Version
from daemon.runtime.concurrency import Threads
from daemon.storage.contents import copy_contents
from daemon.storage.disk import Disk
from daemon.storage.hashing import CancelCheck, hash_file
from daemon.storage.manifest import Manifest
from daemon.storage.outside_copy import OutsideCopies
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.transfer import batch_store
from daemon.transfer.batch_store import SMALL_FILE_MAX, BatchStore, SmallFile
from daemon.transfer.served_files import ServedFiles

_HASH_THREADS = 2
_CORRUPT = "the local copy is corrupt: its content changed, its time did not; check the disk, then touch the file"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCopier:
    """Copies files that this peer shares."""

    folder: SharedFolder
    served_files: ServedFiles
    temp_files: TempFiles
    outside_copies: OutsideCopies
    batch_store: BatchStore
    library: Library
    disk: Disk
    threads: Threads

    def check_target(self, path: Path, *, make_folders: bool) -> None:
        """Check that a copy can be stored at a path outside the shared folder; see OutsideCopies.check_target."""
        self.outside_copies.check_target(path, make_folders=make_folders)

    async def copy_within(self, version: Version, *, replica: bool = False) -> None:
        """Publish the content of an id under one more name in the shared folder.

        Args:
            version: An id in the library, and the new name.
            replica: The name is stored at another peer's request.

        Raises:
            FileChanged: The shared file has different content by now.
            NoSuchFile: The shared file is gone.
            TargetExists, DiskFull, StorageFault: The copy cannot be made; nothing is left of it.
        """
        await self.threads.run_cancellable(self.threads.disk, lambda stop: self._copy_within(version, replica, stop))

    async def copy_small(self, files: Sequence[Version], *, replica: bool = False) -> list[PeerError | None]:
        """Publish small files whose content is in the shared folder.

        Args:
            files: The id and the new name of each; as many as BatchStore.publish takes.
            replica: The names are stored at another peer's request.

        Returns:
            For each file, in order, None, or its error: as for `copy_within`.
        """
        return await self.threads.run_uncancellable(self.threads.disk, self._copy_small, files, replica)

    async def export(self, version: Version, path: Path, *, make_folders: bool) -> None:
        """Copy the content of an id to a path outside the shared folder. The copy appears there in one step.

        Args:
            version: An id in the library, with what belongs to its name.
            path: The path of the copy.
            make_folders: Whether to create missing parent folders.

        Raises:
            BadUsage: The parent folder is missing, and `make_folders` is false.
            FileChanged, NoSuchFile, TargetExists, DiskFull, StorageFault: As for `copy_within`.
        """
        await self.threads.run_cancellable(
            self.threads.disk, lambda stop: self._export(version, path, make_folders, stop)
        )

    def _copy_within(self, version: Version, replica: bool, stop: CancelCheck) -> None:
        volume = self.folder.volume_for(version.name)
        with (
            self.served_files.open_file(version.id) as file,
            file.handle as fd,
            self.temp_files.copy_in(fd, volume, attributes=version.attributes, stop=stop) as copy,
            copy.handle as copied,
        ):
            manifest = self._check(version.id, copied, copy.size, stop)
            fingerprint = copy.publish(version.name)
            self.library.register([HashedFile(version.name, fingerprint, manifest)], replica=replica)

    def _copy_small(self, files: Sequence[Version], replica: bool) -> list[PeerError | None]:
        contents: dict[str, SmallFile | PeerError] = {}
        for version in files:
            if version.id not in contents:
                contents[version.id] = self._read_small(version)
        outcomes = [contents[version.id] for version in files]
        copies = [
            content._replace(name=version.name, attributes=version.attributes)
            for content, version in zip(outcomes, files, strict=True)
            if isinstance(content, SmallFile)
        ]
        errors: Iterator[PeerError | None]
        try:
            errors = iter(self.batch_store.publish(copies, replica=replica))
        except PeerError as error:
            # The disk failed, so none of them is published.
            errors = itertools.repeat(error)
        return [content if isinstance(content, PeerError) else next(errors) for content in outcomes]

    def _read_small(self, version: Version) -> SmallFile | PeerError:
        try:
            with self.served_files.open_file(version.id) as file:
                if file.fingerprint.size > SMALL_FILE_MAX:
                    # The size in the index or in an offer is wrong. It is not read into memory.
                    raise NoSuchFile("this peer has no small file of this content")
                data = file.read(0, file.fingerprint.size)
                file.ensure_unchanged()
        except PeerError as error:
            return error
        try:
            return SmallFile(version.name, batch_store.verify(version.id, data), data)
        except NotVerified:
            return FileChanged(_CORRUPT)

    def _export(self, version: Version, path: Path, make_folders: bool, stop: CancelCheck) -> None:
        with (
            self.outside_copies.create(path, make_folders=make_folders) as copy,
            self.served_files.open_file(version.id) as file,
            file.handle as fd,
        ):
            copy_contents(self.disk, fd, copy.fd, file.fingerprint.size, stop=stop)
            file.ensure_unchanged()
            self._check(version.id, copy.fd, file.fingerprint.size, stop)
            copy.publish(version.attributes)

    def _check(self, id_: str, copy: int, size: int, stop: CancelCheck) -> Manifest:
        """Return the manifest of a copy.

        Raises:
            FileChanged: The copy does not have the content of the id.
        """
        manifest = hash_file(self.disk, copy, size, stop=stop, threads=_HASH_THREADS)
        if manifest.id != id_:
            raise FileChanged(_CORRUPT)
        return manifest
