"""Content that changes as on a failing disk: without a change of any time of the file."""

from __future__ import annotations

import mmap
from pathlib import Path


def flip_byte(path: Path, offset: int) -> None:
    """Change one byte of a file of a tmpfs, such as /dev/shm, where a write to mapped memory sets no time.

    Raises:
        AssertionError: if a time changed: the file is on another file system.
    """
    before = path.stat()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[offset] ^= 1
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
