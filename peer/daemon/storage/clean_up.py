"""Deletes what earlier processes left in a dot-folder: temporary files, reserved names, and parts unused for long."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from daemon.storage.dirfd import TEMP_SUFFIX
from daemon.storage.disk import Disk, is_not_writable
from daemon.storage.reservation import RESERVATION_SUFFIX, release
from daemon.storage.resume_data import RESUME_DATA_SUFFIX, load

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"


def clean_up(disk: Disk, root: int, dot: int, oldest: float) -> None:
    """Clean up a dot-folder that no process uses.

    Args:
        disk: the file operations to use.
        root: the descriptor of the shared folder.
        dot: the descriptor of the dot-folder.
        oldest: the Unix time of the last change before which a part is deleted.

    Raises:
        OSError: if the disk failed. On a read-only file system everything stays.
    """
    names = [entry.name for entry in disk.list_entries(dot)]
    try:
        # While the temporary files exist that the names were reserved for.
        for name in names:
            if name.endswith(RESERVATION_SUFFIX):
                release(disk, root, dot, name)
        remaining: set[str] = set()
        # In reverse order, so that a .part comes before its .have, which is useless without it.
        for name in reversed(names):
            with suppress(FileNotFoundError):
                status = disk.stat(name, dir_fd=dot)
                # st_nlink > 1: published by a process that was killed before it removed this name.
                published = name.endswith(PART_SUFFIX) and status.st_nlink > 1
                # A complete part may have the mtime that belongs to its name already. No program can set ctime.
                last_change = max(status.st_mtime, status.st_ctime)
                unused = name.endswith((PART_SUFFIX, RESUME_DATA_SUFFIX)) and last_change < oldest
                part = name.removesuffix(RESUME_DATA_SUFFIX) + PART_SUFFIX
                orphaned = name.endswith(RESUME_DATA_SUFFIX) and part not in remaining
                if published or unused or orphaned or name.endswith(TEMP_SUFFIX):
                    if unused and not published and name.endswith(PART_SUFFIX):
                        _log_deletion(disk, dot, name.removesuffix(PART_SUFFIX), last_change)
                    disk.unlink(name, dir_fd=dot)
                else:
                    remaining.add(name)
    except OSError as error:
        if not is_not_writable(error):
            raise


def _log_deletion(disk: Disk, dot: int, id_: str, written: float) -> None:
    """Log that the part of an id, last written at the Unix time `written`, is deleted."""
    saved = load(disk, dot, id_)
    log.warning(
        "deleting the unfinished file %r (id %s), last written on %s: older than PART_KEEP",
        saved.name if saved is not None else "",
        id_,
        time.strftime("%Y-%m-%d", time.gmtime(written)),
    )
