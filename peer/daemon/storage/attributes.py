"""Attributes of a name on disk: the time of the last modification, and whether the owner may execute the file.

They are set on the open file before it gets its name. A file system that cannot store them is no error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.models import Attributes
from daemon.storage.disk import Disk, is_not_writable, is_unsupported
from daemon.storage.fingerprints import Fingerprint

_NANOSECONDS = 10**9
# Unix seconds, in the year 2255. A file of a later year than 2261 cannot be shared.
MODIFIED_MAX = 9e9
# The time is out of the range of the file system.
_RANGE_ERRNOS = (errno.EOVERFLOW, errno.ERANGE)
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_READABLE = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def attributes_of(fingerprint: Fingerprint) -> Attributes:
    """Return the attributes of a file; a time before 1970 counts as unknown."""
    mtime_ns = fingerprint.mtime_ns
    # The division of integers is rounded once, so that the number leads back to the same nanoseconds.
    return Attributes(mtime_ns / _NANOSECONDS if mtime_ns >= 0 else None, fingerprint.executable)


def known_modified(value: object, latest: float = MODIFIED_MAX) -> float | None:
    """Return a time of modification that another program sent, in Unix seconds; None if it is unknown or impossible.

    Args:
        value: what was sent.
        latest: the latest possible time; a later one counts as unknown.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # False for NaN. An integer may be too large for a float.
    return float(value) if 0 <= value <= min(latest, MODIFIED_MAX) else None


def creation_mode(attributes: Attributes) -> int:
    """Return the mode to create a file with; the umask of the process applies, as for every new file."""
    return 0o755 if attributes.executable else 0o644


def set_attributes(disk: Disk, fd: int, attributes: Attributes) -> None:
    """Set the attributes of an open file. Who may read it may execute an executable one. An unknown time stays.

    Raises:
        OSError: if the disk failed.
    """
    mode = stat.S_IMODE(disk.fstat(fd).st_mode)
    wanted = mode & ~_EXECUTABLE | (mode & _READABLE) >> 2 if attributes.executable else mode & ~_EXECUTABLE
    if wanted != mode:
        with _if_supported():
            disk.chmod(fd, wanted)
    set_modified(disk, fd, attributes)


def set_modified(disk: Disk, fd: int, attributes: Attributes) -> None:
    """Set the time of the last modification of an open file, if it is known.

    Raises:
        OSError: if the disk failed.
    """
    if attributes.modified is not None:
        seconds = int(attributes.modified)
        nanoseconds = round((attributes.modified - seconds) * _NANOSECONDS)
        with _if_supported():
            disk.set_mtime(fd, seconds * _NANOSECONDS + nanoseconds)


def copy_attributes(disk: Disk, source: os.stat_result, fd: int) -> None:
    """Give a copy the permissions and the mtime of its source.

    The bits setuid, setgid and sticky are left out. This process can read the copy in any case.

    Raises:
        OSError: if the disk failed.
    """
    with _if_supported():
        disk.chmod(fd, source.st_mode & 0o777 | stat.S_IRUSR)
    with _if_supported():
        disk.set_mtime(fd, source.st_mtime_ns)


@contextmanager
def _if_supported() -> Iterator[None]:
    """Ignore that the file system does not have what the block sets."""
    try:
        yield
    except OSError as error:
        if not (is_unsupported(error) or is_not_writable(error) or error.errno in _RANGE_ERRNOS):
            raise
