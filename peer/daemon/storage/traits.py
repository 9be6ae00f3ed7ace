"""What a file system can do: how files get names there, and which names it stores. Found by trying, in a folder."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from daemon.errors import StorageFault
from daemon.storage.disk import Disk
from daemon.storage.names import COMPONENT_BYTES_MAX
from daemon.storage.naming import Naming, find_naming

# Valid in a name, and not on FAT and its relatives.
_OFTEN_REFUSED = '?*"<>|'
# Every file system stores these.
_PLAIN = re.compile(r"[A-Za-z0-9_. -]+")
_REFUSED_ERRNOS = (errno.EINVAL, errno.ENOENT, errno.ENAMETOOLONG, errno.EILSEQ)

# Returns a new name, with the given text in it, for a file that is created, and removed again.
TemporaryName = Callable[[str], str]


class Traits(NamedTuple):
    """What a file system can do."""

    naming: Naming
    # It refuses some characters in names.
    restricts_characters: bool
    # The most bytes of a path component.
    name_bytes_max: int
    stable_inodes: bool

    @property
    def stores_all_names(self) -> bool:
        """Whether it stores every name that can be shared."""
        return not self.restricts_characters and self.name_bytes_max >= COMPONENT_BYTES_MAX


def find_traits(disk: Disk, folder: int, temporary_name: TemporaryName) -> Traits:
    """Find out what the file system of an open folder can do.

    Raises:
        StorageFault: if files cannot get names there at all.
        OSError: if the disk failed, or the folder cannot be written.
    """
    naming = find_naming(disk, folder, (temporary_name(""), temporary_name("")))
    restricts = not _can_create(disk, folder, temporary_name(_OFTEN_REFUSED))
    return Traits(naming, restricts, disk.name_bytes_max(folder), disk.has_stable_inodes(folder))


def check_storable(
    disk: Disk, folder: int, traits: Traits, components: Iterable[str], temporary_name: TemporaryName
) -> None:
    """Check that a file system can store the components of a name.

    Args:
        disk: the file operations to use.
        folder: the descriptor of any folder of the file system that can be written.
        traits: what the file system can do.
        components: the path components.
        temporary_name: see `TemporaryName`.

    Raises:
        StorageFault: if it cannot.
        OSError: if the disk failed.
    """
    if traits.stores_all_names:
        return
    for component in components:
        if len(component.encode()) > traits.name_bytes_max:
            raise StorageFault(
                f"the file system stores names of at most {traits.name_bytes_max} bytes; use another name",
                name=component,
            )
        unusual = "".join(sorted(set(_PLAIN.sub("", component))))
        if unusual and not _can_create(disk, folder, temporary_name(unusual)):
            raise StorageFault(
                f"the file system cannot store one of {unusual} in a name; use another name", name=component
            )


def _can_create(disk: Disk, folder: int, name: str) -> bool:
    try:
        os.close(disk.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    except OSError as error:
        if error.errno in _REFUSED_ERRNOS:
            return False
        raise
    disk.unlink(name, dir_fd=folder)
    return True
