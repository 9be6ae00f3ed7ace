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
from daemon.storage.dirfd import DIRECTORY_FLAGS
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.handles import DirFd
from daemon.storage.manifest import SIZE_MAX
from daemon.storage.names import COMPONENTS_MAX, NAME_BYTES_MAX, component_fault, fold

# Nanoseconds since 1970 as 64 bits hold them: from 1677 to 2262. Some file systems take any time.
_MTIME_RANGE = range(-(1 << 63), 1 << 63)


class Fingerprint(NamedTuple):
    """What identifies a file's contents without reading them: when it differs, the contents may."""

    dev: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def from_stat(cls, status: os.stat_result) -> Fingerprint:
        """Return the stamp of a file whose status this is."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def unshareable_reason(self) -> str:
        """Return why a file with this stamp cannot be shared, and what to do; empty if it can."""
        if self.size > SIZE_MAX:
            return f"it is larger than {SIZE_MAX >> 40} TiB, the most that can be shared: split it"
        if self.mtime_ns not in _MTIME_RANGE:
            return "its time of change is before 1678 or after 2261: touch it to share it"
        return ""


class ShareableFile(NamedTuple):
    """A file that may be shared."""

    name: str
    fingerprint: Fingerprint


class UnshareableEntry(NamedTuple):
    """Something that may not. `name` is for showing: it need not be a name at all."""

    name: str
    reason: str


def walk(disk: Disk, root: int) -> Iterator[ShareableFile | UnshareableEntry]:
    """Yield what lies below the folder that `root` is open on, in order of names; dot names are skipped.

    Raises:
        StorageFault: if the folder cannot be read; a folder inside that cannot is Refused.
    """
    folded: dict[str, str] = {}
    yield from _walk(disk, root, "", 1, folded)


def _walk(
    disk: Disk, fd: int, prefix: str, depth: int, folded: dict[str, str]
) -> Iterator[ShareableFile | UnshareableEntry]:
    with storage_faults(f"reading the shared folder's {prefix or 'files'}"):
        entries = disk.list_entries(fd)
    if any(entry.name == LOCK_FILE for entry in entries):
        yield UnshareableEntry(prefix.removesuffix("/") or ".", "it is the state of a tracker or another pserver")
        return
    entries.reverse()
    while entries:
        entry = entries.pop()
        name = entry.name
        if name[0] == ".":
            continue
        fault = component_fault(name)
        if fault:
            yield UnshareableEntry(_shown(prefix + name), fault)
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
            yield UnshareableEntry(name, f"it cannot be looked at: {os.strerror(error.errno or 0)}")
            continue
        if not stat.S_ISREG(status.st_mode):
            link = stat.S_ISLNK(status.st_mode)
            yield UnshareableEntry(name, "it is a link" if link else "it is neither a file nor a folder")
        elif len(name) * 4 > NAME_BYTES_MAX and len(name.encode()) > NAME_BYTES_MAX:
            yield UnshareableEntry(name, f"the name is longer than {NAME_BYTES_MAX} bytes")
        elif (other := folded.setdefault(fold(name), name)) is not name:
            yield UnshareableEntry(name, f"it differs from {other} in case or form of accents only")
        else:
            stamp = Fingerprint.from_stat(status)
            fault = stamp.unshareable_reason()
            yield UnshareableEntry(name, fault) if fault else ShareableFile(name, stamp)


def _descend(
    disk: Disk, parent: int, entry: str, name: str, depth: int, folded: dict[str, str]
) -> Iterator[ShareableFile | UnshareableEntry]:
    if depth == COMPONENTS_MAX:
        yield UnshareableEntry(name, f"names below would have more than {COMPONENTS_MAX} components")
        return
    try:
        fd = disk.open(entry, DIRECTORY_FLAGS, dir_fd=parent)
    except OSError as error:
        # A link since the folder was read: O_NOFOLLOW saw to it.
        yield UnshareableEntry(name, f"the folder cannot be opened: {os.strerror(error.errno or 0)}")
        return
    with DirFd(fd):
        yield from _walk(disk, fd, name + "/", depth + 1, folded)


def _shown(name: str) -> str:
    """Return a name as text, undecodable bytes escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
