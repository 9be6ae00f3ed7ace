"""Claims about the scan loop: it survives unexpected errors."""

import os
from pathlib import Path

from daemon.storage.disk import Disk
from eventually import eventually
from live_pserver import live_pserver
from live_tracker import LiveTracker


class ErraticDisk(Disk):
    """The first two scans, which come after and before a reading of the dot-folder, fail in a way that no disk does."""

    scans = 0

    def list_entries(self, fd: int) -> list[os.DirEntry[str]]:
        self.scans += 1
        if self.scans in (2, 4):
            raise OverflowError("unexpected")
        return super().list_entries(fd)


def test_an_unexpected_error_stops_neither_the_start_nor_the_scans(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path, tracker, disk=ErraticDisk(), ping_interval=0.1) as live:
        (live.shared / "new.txt").write_bytes(b"new")
        eventually(lambda: live.pserver.library.by_name("new.txt"))
