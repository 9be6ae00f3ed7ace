"""Twins of daemon.storage.disk.Disk: its n-th operation fails, or kills its process; or one operation is stuck."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import Any

from daemon.storage.disk import Disk

OPERATIONS = frozenset(name for name, value in vars(Disk).items() if not name.startswith("_") and callable(value))


class CountingDisk(Disk):
    """Calls `reach(n, operation)` before the n-th operation, counted from 1, since it was last armed."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0
        self.armed = False

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in OPERATIONS or not self.armed:
            return value
        self.done += 1
        self.reach(self.done, name)
        return value

    def arm(self) -> None:
        """Count from here."""
        self.done = 0
        self.armed = True

    def reach(self, number: int, operation: str) -> None:
        """What happens before an operation: nothing."""


class FailingDisk(CountingDisk):
    """Its n-th operation fails; if `forever`, all from then on."""

    def __init__(self, number: int = 0, error: int = errno.EIO, *, forever: bool = False) -> None:
        super().__init__()
        self.number = number
        self.error = error
        self.forever = forever

    def reach(self, number: int, operation: str) -> None:
        if self.number and (number == self.number or (self.forever and number > self.number)):
            raise OSError(self.error, os.strerror(self.error), operation)


class KillingDisk(CountingDisk):
    """Its process is killed, as by SIGKILL at a bad moment, just before its n-th operation."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def reach(self, number: int, operation: str) -> None:
        if number == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


class StuckDisk(CountingDisk):
    """Once armed, whoever comes to its operation waits until it is `let_go`; `reached` tells that somebody did."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def reach(self, number: int, operation: str) -> None:
        if operation == self.operation:
            self.reached.set()
            self.let_go.wait(30)
