"""A small file system that a test fills."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path


@contextmanager
def small_file_system(folder: Path) -> Iterator[Path]:
    """Mount a file system of 512 KiB at a new folder. A test that uses it has the mark `root`."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """Write one file until the disk has room for no further byte; return its path."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (4096, 1):
            while _written(file, bytes(size)):
                pass
    return ballast


def _written(file: FileIO, block: bytes) -> bool:
    try:
        return bool(file.write(block))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
