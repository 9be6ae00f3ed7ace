"""Descriptors with an owner: one that threads share, and one for the length of a block. Neither opens anything."""

from __future__ import annotations

import os
import threading
from typing import Self

from daemon.errors import NoSuchFile


class SharedFd:
    """A descriptor that threads share. It is closed when asked to and nobody is using it any more: before, its number
    might become another file's under a reader.

    `with handle as fd:` uses it; raises NoSuchFile once it was closed.
    """

    __slots__ = ("_closing", "_fd", "_lock", "_users")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    def __enter__(self) -> int:
        with self._lock:
            if self._closing:
                raise NoSuchFile("the file is not open any more")
            self._users += 1
            return self._fd

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            self._close_if_idle()

    def close(self) -> None:
        """Close it now, or when the last user is done. Harmless when closed already."""
        with self._lock:
            self._closing = True
            self._close_if_idle()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _close_if_idle(self) -> None:
        if self._closing and not self._users and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DirFd:
    """A folder's descriptor for the length of a `with` block."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
