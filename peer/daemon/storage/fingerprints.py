"""Fingerprints of many files, for one operation."""

from __future__ import annotations

import os

from daemon.storage.disk import Disk, Fingerprint


class Fingerprints:
    """Makes fingerprints of many files, and asks each device once whether its inode numbers are stable.

    It is for one operation: a device may get another file system later.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._stable: dict[int, bool] = {}

    def make(self, name: str, status: os.stat_result, folder: int) -> Fingerprint:
        """Return the fingerprint of a file in an open folder. Raises OSError if the disk fails."""
        stable = self._stable.get(status.st_dev)
        if stable is None:
            stable = self._stable[status.st_dev] = self._disk.has_stable_inodes(folder)
        return Fingerprint.from_stat(status, "" if stable else name)
