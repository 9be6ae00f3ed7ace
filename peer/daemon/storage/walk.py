"""What lies in a shared folder: every regular file under a name that may be shared, and why the others may not.

Folders are opened from their parent's descriptor without following links, files are never opened here. So a link that
is planted or swapped in while the walk goes on leads nowhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from common.state_files import LOCK_FILE
from daemon.storage.dirfd import OPEN_FOLDER
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.handles import Folder
from daemon.storage.manifest import SIZE_MAX
from daemon.storage.names import COMPONENTS_MAX, NAME_BYTES_MAX, component_fault, fold

# Nanoseconds since 1970 as 64 bits hold them: from 1677 to 2262. Some file systems take any time.
_TIMES = range(-(1 << 63), 1 << 63)


class Stamp(NamedTuple):
    """What identifies a file's contents without reading them: when it differs, the contents may."""

    dev: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file whose status this is."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def fault(self) -> str:
        """Return why a file with this stamp cannot be shared, and what to do; empty if it can."""
        if self.size > SIZE_MAX:
            return f"it is larger than {SIZE_MAX >> 40} TiB, the most that can be shared: split it"
        if self.mtime_ns not in _TIMES:
            return "its time of change is before 1678 or after 2261: touch it to share it"
        return ""


class Found(NamedTuple):
    """A file that may be shared."""

    name: str
    stamp: Stamp


class Refused(NamedTuple):
    """Something that may not. `name` is for showing: it need not be a name at all."""

    name: str
    why: str


def walk(disk: Disk, root: int) -> Iterator[Found | Refused]:
    """Yield what lies below the folder that `root` is open on, in order of names; dot names are skipped.

    Raises:
        StorageFault: if the folder cannot be read; a folder inside that cannot is Refused.
    """
    folded: dict[str, str] = {}
    yield from _walk(disk, root, "", 1, folded)


def _walk(disk: Disk, fd: int, prefix: str, depth: int, folded: dict[str, str]) -> Iterator[Found | Refused]:
    with storage_faults(f"reading the shared folder's {prefix or 'files'}"):
        entries = disk.scan(fd)
    if any(entry.name == LOCK_FILE for entry in entries):
        yield Refused(prefix.removesuffix("/") or ".", "it is the state of a tracker or another pserver")
        return
    entries.reverse()
    while entries:
        entry = entries.pop()
        name = entry.name
        if name[0] == ".":
            continue
        fault = component_fault(name)
        if fault:
            yield Refused(_shown(prefix + name), fault)
            continue
        name = prefix + name
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _descend(disk, fd, entry.name, name, depth, folded)
                continue
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            # Gone since the folder was read.
            continue
        except OSError as error:
            yield Refused(name, f"it cannot be looked at: {os.strerror(error.errno or 0)}")
            continue
        if not stat.S_ISREG(status.st_mode):
            link = stat.S_ISLNK(status.st_mode)
            yield Refused(name, "it is a link" if link else "it is neither a file nor a folder")
        elif len(name) * 4 > NAME_BYTES_MAX and len(name.encode()) > NAME_BYTES_MAX:
            yield Refused(name, f"the name is longer than {NAME_BYTES_MAX} bytes")
        elif (other := folded.setdefault(fold(name), name)) is not name:
            yield Refused(name, f"it differs from {other} in case or form of accents only")
        else:
            stamp = Stamp.of(status)
            fault = stamp.fault()
            yield Refused(name, fault) if fault else Found(name, stamp)


def _descend(
    disk: Disk, parent: int, entry: str, name: str, depth: int, folded: dict[str, str]
) -> Iterator[Found | Refused]:
    if depth == COMPONENTS_MAX:
        yield Refused(name, f"names below would have more than {COMPONENTS_MAX} components")
        return
    try:
        fd = disk.open(entry, OPEN_FOLDER, dir_fd=parent)
    except OSError as error:
        # A link since the folder was read: O_NOFOLLOW saw to it.
        yield Refused(name, f"the folder cannot be opened: {os.strerror(error.errno or 0)}")
        return
    with Folder(fd):
        yield from _walk(disk, fd, name + "/", depth + 1, folded)


def _shown(name: str) -> str:
    """Return a name as text, undecodable bytes escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
