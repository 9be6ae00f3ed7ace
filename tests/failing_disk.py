"""Disks for tests: one whose n-th operation fails, one that kills its process there, and one whose operation blocks."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import Any

from daemon.storage.disk import Disk

OPERATIONS = frozenset(name for name, value in vars(Disk).items() if not name.startswith("_") and callable(value))


class CountingDisk(Disk):
    """Calls `before_operation` for each operation after `arm`, numbered from 1."""

    def __init__(self) -> None:
        super().__init__()
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

    def __init__(self, number: int = 0, error: int = errno.EIO, *, forever: bool = False) -> None:
        super().__init__()
        self.number = number
        self.error = error
        self.forever = forever

    def before_operation(self, number: int, operation: str) -> None:
        if self.number and (number == self.number or (self.forever and number > self.number)):
            raise OSError(self.error, os.strerror(self.error), operation)


class KillingDisk(CountingDisk):
    """Kills its own process with SIGKILL just before its n-th operation."""

    def __init__(self, number: int) -> None:
        super().__init__()
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
