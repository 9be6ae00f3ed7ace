"""Disks for tests.

One lacks operations, as some file systems do; of one the n-th operation fails; one kills its process there; of one an
operation blocks.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Collection
from typing import Any

from daemon.storage.disk import Disk

OPERATIONS = frozenset(name for name, value in vars(Disk).items() if not name.startswith("_") and callable(value))


class LackingDisk(Disk):
    """A disk of a file system that has none of the operations `lacks`.

    Args:
        lacks: `rename_new`, `link` and `rename`; `flag` for a rename_new that replaces files; `characters` for a file
            system that refuses some characters in names.
    """

    def __init__(self, lacks: Collection[str] = ()) -> None:
        super().__init__()
        self.lacks = lacks

    def open(self, path: str, flags: int, *, mode: int = 0o644, dir_fd: int | None = None) -> int:
        if "characters" in self.lacks and flags & os.O_CREAT and set(path) & set('?*"<>|'):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return super().open(path, flags, mode=mode, dir_fd=dir_fd)

    def rename(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        self._check("rename", errno.ENOSYS)
        super().rename(source, target, source_fd=source_fd, target_fd=target_fd)

    def rename_new(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        self._check("rename_new", errno.EINVAL)
        if "flag" in self.lacks:
            super().rename(source, target, source_fd=source_fd, target_fd=target_fd)
        else:
            super().rename_new(source, target, source_fd=source_fd, target_fd=target_fd)

    def link(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        self._check("link", errno.EPERM)
        super().link(source, target, source_fd=source_fd, target_fd=target_fd)

    def _check(self, operation: str, error: int) -> None:
        if operation in self.lacks:
            raise OSError(error, os.strerror(error))


# What file systems lack, by the way in which files get names on them.
LACKS = {
    "rename": (),
    "link": ("rename_new",),
    "reserve": ("rename_new", "link"),
    "ignored flag": ("flag", "link"),
}


class CountingDisk(LackingDisk):
    """Calls `before_operation` for each operation after `arm`, numbered from 1."""

    def __init__(self, lacks: Collection[str] = ()) -> None:
        super().__init__(lacks)
        self.count = 0
        self.armed = False

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in OPERATIONS or not self.armed:
            return value
        self.count += 1
        self.before_operation(self.count, name)
        return value

    def arm(self) -> None:
        """Start to count, from 1."""
        self.count = 0
        self.armed = True

    def before_operation(self, number: int, operation: str) -> None:
        """Do nothing; subclasses fail here."""


class FailingDisk(CountingDisk):
    """Its n-th operation fails with `error`; with `forever`, so do all operations after it."""

    def __init__(
        self, number: int = 0, error: int = errno.EIO, *, forever: bool = False, lacks: Collection[str] = ()
    ) -> None:
        super().__init__(lacks)
        self.number = number
        self.error = error
        self.forever = forever

    def before_operation(self, number: int, operation: str) -> None:
        if self.number and (number == self.number or (self.forever and number > self.number)):
            raise OSError(self.error, os.strerror(self.error), operation)


class KillingDisk(CountingDisk):
    """Kills its own process with SIGKILL just before its n-th operation."""

    def __init__(self, number: int, lacks: Collection[str] = ()) -> None:
        super().__init__(lacks)
        self.number = number

    def before_operation(self, number: int, operation: str) -> None:
        if number == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


class StuckDisk(CountingDisk):
    """Its `operation` sets the event `reached` and blocks until the event `resume` is set, for 30 s at most."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation
        self.reached = threading.Event()
        self.resume = threading.Event()

    def before_operation(self, number: int, operation: str) -> None:
        if operation == self.operation:
            self.reached.set()
            self.resume.wait(30)
