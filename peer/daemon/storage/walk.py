"""The walk through a shared folder: every regular file that can be shared, and the reason why an entry cannot.

What `.p2pignore` leaves out is neither, and is only counted.

Folders are opened from their parent's descriptor without following links, and files are never opened. So a link that
another program creates during the walk leads nowhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from common.state_files import LOCK_FILE
from daemon.storage.dirfd import DIRECTORY_FLAGS, DOT_FOLDER, DirFd
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.ignore_rules import IGNORE_FILE, BadIgnoreFile, IgnoreFile, IgnoreRules, ignore_reason
from daemon.storage.manifest import SIZE_MAX
from daemon.storage.names import COMPONENTS_MAX, NAME_BYTES_MAX, component_fault, fold

# Nanoseconds since 1970 in a signed 64-bit integer: the years 1677 to 2262. Some file systems store any time.
_MTIME_RANGE = range(-(1 << 63), 1 << 63)


class ShareableFile(NamedTuple):
    """A regular file with a valid name."""

    name: str
    fingerprint: Fingerprint


class UnshareableEntry(NamedTuple):
    """A file, link or folder that cannot be shared. `name` is only for display: it may break the rules of names."""

    name: str
    reason: str


def unshareable_reason(fingerprint: Fingerprint) -> str:
    """Return why a file with this fingerprint cannot be shared, and what to do; empty if it can be shared."""
    if fingerprint.size > SIZE_MAX:
        return f"larger than {SIZE_MAX >> 40} TiB, the largest file that can be shared; split it"
    if fingerprint.mtime_ns not in _MTIME_RANGE:
        return "the modification time is before 1678 or after 2261; touch the file to share it"
    return ""


# Called with the path components of a folder below the root that has a dot-folder.
OnDotFolder = Callable[[tuple[str, ...]], object]


class Walk:
    """One walk through a shared folder.

    Args:
        disk: the file operations to use.
        on_dot_folder: called for each dot-folder below the root, before the files beside and below it are yielded.
        earlier: the rules that the earlier walk found.

    Attributes:
        rules: the rules that this walk found; complete at its end.
    """

    def __init__(
        self, disk: Disk, on_dot_folder: OnDotFolder = lambda path: None, earlier: IgnoreRules | None = None
    ) -> None:
        self.rules = IgnoreRules()
        self._disk = disk
        self._on_dot_folder = on_dot_folder
        self._earlier = earlier or IgnoreRules()
        # The names found until now, by their folded form.
        self._folded: dict[str, str] = {}

    def run(self, root: int) -> Iterator[ShareableFile | UnshareableEntry]:
        """Walk through the folder with the descriptor `root`, which stays open. Called once.

        Yields:
            In order of names, every file that can be shared, and every entry that cannot, with its reason. Such an
            entry may be a folder that cannot be read. Other folders, names that begin with a dot and names that the
            rules leave out are not mentioned.

        Raises:
            StorageFault: if `root`, or a folder that was opened, cannot be read.
        """
        yield from self._walk(root, "", 1, ())

    def _walk(
        self, fd: int, prefix: str, depth: int, ignore_files: tuple[IgnoreFile, ...]
    ) -> Iterator[ShareableFile | UnshareableEntry]:
        """Walk through one folder.

        Args:
            fd: the descriptor of the folder.
            prefix: the name of the folder with a "/" at the end; empty for the root.
            depth: the number of components of a name in this folder.
            ignore_files: the patterns of the folders above.
        """
        disk = self._disk
        with storage_faults(f"reading the shared folder's {prefix or 'files'}"):
            entries = disk.list_entries(fd)
        names = {entry.name for entry in entries}
        if LOCK_FILE in names:
            yield UnshareableEntry(prefix.removesuffix("/") or ".", "STATE_DIR of a tracker or another pserver")
            return
        if IGNORE_FILE in names or self._earlier.has(prefix):
            try:
                found = self.rules.load(disk, fd, prefix, self._earlier)
            except BadIgnoreFile as error:
                yield UnshareableEntry(prefix.removesuffix("/") or ".", f"nothing in it is shared: {error}")
                return
            if found is not None:
                ignore_files = (*ignore_files, found)
        if prefix and DOT_FOLDER in names:
            self._on_dot_folder(tuple(prefix[:-1].split("/")))
        with storage_faults(f"reading the shared folder's {prefix or 'files'}"):
            stable_inodes = disk.has_stable_inodes(fd)
        entries.reverse()
        while entries:
            entry = entries.pop()
            name = entry.name
            if name[0] == ".":
                continue
            if ignore_files and self._is_ignored(entry, prefix + name, ignore_files):
                continue
            fault = component_fault(name)
            if fault:
                yield UnshareableEntry(_display_name(prefix + name), fault)
                continue
            name = prefix + name
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._descend(fd, entry.name, name, depth, ignore_files)
                    continue
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                # Deleted since the folder was read.
                continue
            except OSError as error:
                yield UnshareableEntry(name, f"cannot be read: {os.strerror(error.errno or 0)}")
                continue
            if not stat.S_ISREG(status.st_mode):
                link = stat.S_ISLNK(status.st_mode)
                yield UnshareableEntry(name, "symbolic link" if link else "neither a file nor a folder")
            elif len(name) * 4 > NAME_BYTES_MAX and len(name.encode()) > NAME_BYTES_MAX:
                yield UnshareableEntry(name, f"the name is longer than {NAME_BYTES_MAX} bytes")
            elif (other := self._folded.setdefault(fold(name), name)) is not name:
                yield UnshareableEntry(name, f"the name differs from {other} only in case or in the form of accents")
            else:
                fingerprint = Fingerprint.from_stat(status, "" if stable_inodes else name)
                reason = unshareable_reason(fingerprint)
                yield UnshareableEntry(name, reason) if reason else ShareableFile(name, fingerprint)

    def _is_ignored(self, entry: os.DirEntry[str], name: str, ignore_files: tuple[IgnoreFile, ...]) -> bool:
        """Return whether the rules leave out an entry, and count it."""
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
        except OSError:
            # Reported by the caller, if a file of that name would be shared.
            is_folder = False
        if not ignore_reason(ignore_files, name, entry.name, is_folder=is_folder):
            return False
        if is_folder:
            self.rules.folders += 1
        else:
            self.rules.files += 1
        return True

    def _descend(
        self, parent: int, entry: str, name: str, depth: int, ignore_files: tuple[IgnoreFile, ...]
    ) -> Iterator[ShareableFile | UnshareableEntry]:
        if depth == COMPONENTS_MAX:
            yield UnshareableEntry(name, f"nested too deeply: a name has at most {COMPONENTS_MAX} components")
            return
        try:
            fd = self._disk.open(entry, DIRECTORY_FLAGS, dir_fd=parent)
        except OSError as error:
            # Unreadable, or replaced by a link since its parent was read; O_NOFOLLOW refuses a link.
            yield UnshareableEntry(name, f"the folder cannot be opened: {os.strerror(error.errno or 0)}")
            return
        with DirFd(fd):
            yield from self._walk(fd, name + "/", depth + 1, ignore_files)


def _display_name(name: str) -> str:
    """Return a name as text for display, with bytes that are not UTF-8 escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
