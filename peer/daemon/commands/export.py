"""Copies of this peer's own files: to another name in the shared folder, or to where the user wants one outside.
Blocking inside.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import BadUsage, FileChanged, TargetExists
from daemon.library.library import Library
from daemon.runtime.executors import Threads
from daemon.storage.copying import copy_contents
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.hashing import CancelCheck, hash_file
from daemon.storage.manifest import Manifest
from daemon.storage.temp_files import TempFiles
from daemon.transfer.served_files import ServedFiles

_HASH_THREADS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCopier:
    """Makes copies. Each is hashed before it gets its name: a stamp that did not change does not prove the bytes."""

    sharing: ServedFiles
    temporaries: TempFiles
    library: Library
    disk: Disk
    threads: Threads

    @staticmethod
    def check_free(path: Path) -> None:
        """Raise TargetExists if something lies at a path outside, BadUsage if it cannot be. Blocking."""
        with storage_faults(f"looking at {path}"):
            if os.path.lexists(path):
                raise _target_exists(path)

    async def copy_within(self, id_: str, name: str) -> None:
        """Publish contents that are held already under one more name.

        Raises:
            FileChanged: if what is held has other contents by now; NoSuchFile: if it is gone.
            TargetExists, DiskFull, StorageFault: and nothing is there.
        """
        await self.threads.run_cancellable(self.threads.disk, lambda stop: self._copy_within(id_, name, stop))

    async def export(self, id_: str, path: Path, *, make_folders: bool) -> None:
        """Copy a file of the shared folder to a path outside, in one step and never over anything.

        Raises:
            BadUsage: if its folder is not there; otherwise as copy_own.
        """
        await self.threads.run_cancellable(self.threads.disk, lambda stop: self._export(id_, path, make_folders, stop))

    def _copy_within(self, id_: str, name: str, stop: CancelCheck) -> None:
        with (
            self.sharing.open_file(id_) as file,
            file.handle as fd,
            self.temporaries.copy_in(fd, stop=stop) as copy,
            copy.handle as copied,
        ):
            manifest = self._check(id_, copied, copy.size, stop)
            stamp = copy.publish(name)
            self.library.register([(name, stamp, manifest)])

    def _export(self, id_: str, path: Path, make_folders: bool, stop: CancelCheck) -> None:
        self.check_free(path)
        with storage_faults(f"writing {path}"):
            if make_folders:
                path.parent.mkdir(parents=True, exist_ok=True)
            elif not path.parent.is_dir():
                raise BadUsage(f"there is no folder {path.parent} to write {path.name} to", name=str(path))
            temporary = path.with_name(f".{secrets.token_hex(8)}.p2p")
            target = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            with self.sharing.open_file(id_) as file, file.handle as fd, storage_faults(f"writing {path}"):
                copy_contents(self.disk, fd, target, file.fingerprint.size, stop=stop)
                file.ensure_unchanged()
                self._check(id_, target, file.fingerprint.size, stop)
                os.fsync(target)
                self._link(temporary, path)
        finally:
            os.close(target)
            with suppress(OSError):
                temporary.unlink()

    def _check(self, id_: str, copy: int, size: int, stop: CancelCheck) -> Manifest:
        """Return the manifest of a copy. Raises FileChanged if it is not of the contents that were asked for."""
        manifest = hash_file(self.disk, copy, size, stop=stop, threads=_HASH_THREADS)
        if manifest.id != id_:
            raise FileChanged(
                "what is shared here under this id changed though its time did not, as on a failing disk: look at it, "
                "then touch it"
            )
        return manifest

    def _link(self, temporary: Path, path: Path) -> None:
        try:
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            raise _target_exists(path) from None
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _target_exists(path: Path) -> TargetExists:
    return TargetExists(f"{path} exists already, and was not touched: name another path", name=str(path))
