"""The open root of the shared folder, and whether its path still leads to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from daemon.errors import StorageFault
from daemon.storage.dirfd import DIRECTORY_FLAGS, SharedFd
from daemon.storage.disk import Disk, storage_faults

MOVED = "was moved or removed; put it back, or restart the pserver"


class RootFolder:
    """The folder at `path`, which is created if it does not exist.

    Args:
        path: the path of the folder; it may be a link to one.
        disk: the file operations to use.

    Attributes:
        handle: the descriptor of the folder.

    Raises:
        StorageFault: if the folder cannot be created or opened.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.disk = disk
        with storage_faults(f"opening the shared folder {path}"):
            path.mkdir(parents=True, exist_ok=True)
            # No O_NOFOLLOW here: the user may have made SHARED_DIR a link.
            self.handle = SharedFd(os.open(path, DIRECTORY_FLAGS | os.O_CLOEXEC))

    def close(self) -> None:
        """Close the descriptor."""
        self.handle.close()

    def is_moved(self) -> bool:
        """Return whether the path no longer leads to the folder that is open.

        Raises:
            StorageFault: if the disk failed.
        """
        with self.handle as root, storage_faults("reading the status of the shared folder"):
            try:
                return not os.path.samestat(os.stat(self.path), os.fstat(root))
            except (FileNotFoundError, NotADirectoryError):
                return True

    def label(self, path: Sequence[str]) -> str:
        """Return how messages call a folder in it, or the folder itself if `path` has no components."""
        return f"the folder {'/'.join(path)} of the shared folder" if path else f"the shared folder {self.path}"

    def moved_error(self) -> StorageFault:
        """Return the error for a folder that was moved or removed."""
        return StorageFault(f"the shared folder {self.path} {MOVED}")

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Yield the descriptor. Raises StorageFault if the folder was moved or removed."""
        with self.handle as root:
            if self.is_moved():
                raise self.moved_error()
            yield root
