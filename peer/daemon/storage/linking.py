"""Hard links of files from outside the shared folder: one file with two names, and no copy.

A link needs one file system with hard links, and the permission of the system. Whether one is possible is tried.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from common.printable import printable
from daemon.errors import BadUsage, NotAllowed, PeerError
from daemon.storage.disk import is_unsupported, storage_faults
from daemon.storage.volume import Volume


def link_into(path: Path, volume: Volume, temporary: str) -> int:
    """Hard-link a file into the dot-folder of a volume.

    Args:
        path: the path of the file; a link is followed.
        volume: the volume that the file will be shared in.
        temporary: the name of the link in the dot-folder.

    Returns:
        A descriptor that reads the file.

    Raises:
        BadUsage: if the file is on another file system, the file system has no hard links, or it is not a regular file.
        NotAllowed: if the system lets only the owner of the file link it.
        StorageFault: if the disk failed.
    """
    real = os.path.realpath(path)
    shown = printable(str(path))
    with volume.dot as dot, storage_faults(f"linking {shown}"):
        try:
            volume.disk.link(real, temporary, source_fd=dot, target_fd=dot)
        except OSError as error:
            raise _refused(error, real, shown) or error from error
        try:
            fd = volume.disk.open(temporary, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dot)
            if not stat.S_ISREG(volume.disk.fstat(fd).st_mode):
                os.close(fd)
                raise BadUsage(f"{shown}: not a regular file any more", name=str(path))
        except BaseException:
            volume.delete(temporary)
            raise
    return fd


def can_link(path: Path, volume: Volume, temporary: str) -> bool:
    """Return whether `link_into` works; the arguments are the same. Nothing is left."""
    try:
        os.close(link_into(path, volume, temporary))
    except PeerError:
        return False
    volume.delete(temporary)
    return True


def _refused(error: OSError, real: str, shown: str) -> PeerError | None:
    if error.errno == errno.EXDEV:
        return BadUsage(
            f"{shown} is on another file system, or another mount, than the shared folder: it can only be copied",
            name=shown,
        )
    if error.errno == errno.EPERM and os.stat(real).st_uid != os.geteuid():
        return NotAllowed(
            f"{shown} belongs to another user, and the system lets only that user link it: it can only be copied",
            name=shown,
        )
    if is_unsupported(error) or error.errno == errno.EMLINK:
        return BadUsage(f"the file system allows no further hard link of {shown}: it can only be copied", name=shown)
    return None
