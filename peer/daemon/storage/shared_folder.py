"""The shared folder: the only way to a peer's shared files. walk.py and publication.py are used only here.

Every name is checked, and opened component by component from the folder's descriptor without following links. So no
name, and no link that another program creates, leads outside. Safe to use from many threads.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from daemon.errors import BadUsage, FileChanged, NoSuchFile, PeerError, StorageFault
from daemon.storage.dirfd import (
    DIRECTORY_FLAGS,
    DOT_FOLDER,
    CachedDirFd,
    DirFd,
    SharedFd,
    is_not_found,
    not_found_error,
    open_folder,
)
from daemon.storage.disk import Disk, Fingerprint, storage_faults
from daemon.storage.names import check_name
from daemon.storage.publication import NewFile, Publication
from daemon.storage.walk import ShareableFile, UnshareableEntry, unshareable_reason, walk

log = logging.getLogger(__name__)

_MOVED = "was moved or removed; put it back, or restart the pserver"


class OpenFile:
    """A shared file that is open for reading.

    Attributes:
        handle: the descriptor, for readers that need it themselves.
        name: the file's name.
        fingerprint: the file's fingerprint at the time of opening.
    """

    def __init__(self, disk: Disk, handle: SharedFd, name: str, fingerprint: Fingerprint) -> None:
        self._disk = disk
        self.handle = handle
        self.name = name
        self.fingerprint = fingerprint

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file after the reads that run in other threads."""
        self.handle.close()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises:
            FileChanged: if the file is too short for it now.
            NoSuchFile: if the file is closed.
            StorageFault: if the disk failed.
        """
        with self.handle as fd, storage_faults(f"reading {self.name}"):
            data = self._disk.pread(fd, length, offset)
        if len(data) != length:
            raise FileChanged("the file was truncated while it was read", name=self.name)
        return data

    def ensure_unchanged(self) -> None:
        """Check that the file still has its fingerprint, so that what was read until now belongs to it.

        Raises:
            FileChanged: if the file changed since it was opened.
            StorageFault: if the disk failed.
        """
        with self.handle as fd, storage_faults(f"reading {self.name}"):
            now = Fingerprint.from_stat(self._disk.fstat(fd))
        if now != self.fingerprint:
            raise FileChanged("the file changed while it was read", name=self.name)


class SharedFolder:
    """The shared folder at `root`, which is created if it does not exist.

    Args:
        root: the path of the folder; it may be a link to one.
        disk: the file operations to use.

    Raises:
        StorageFault: if the folder cannot be created or opened.
    """

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()
        # One thread at a time checks a name and links it; otherwise two equal names could appear at once.
        self._publishing = threading.Lock()
        with storage_faults(f"opening the shared folder {root}"):
            root.mkdir(parents=True, exist_ok=True)
            # No O_NOFOLLOW here: the user may have made SHARED_DIR a link.
            self._root = SharedFd(os.open(root, DIRECTORY_FLAGS | os.O_CLOEXEC))
            with self._root as fd:
                self._dot = self._open_dot(fd)
        self._replacing_dot = threading.Lock()
        self._move_logged = False

    def close(self) -> None:
        """Close the folder's descriptors."""
        self._dot.close()
        self._root.close()

    @property
    def dot_folder(self) -> SharedFd:
        """The descriptor of the dot-folder. It is created again if another program removed it with its files.

        Raises:
            StorageFault: if the shared folder was moved or removed, or a link or file has the dot-folder's name.
        """
        with (
            self._open_root() as root,
            self._replacing_dot,
            storage_faults(f"opening {DOT_FOLDER} in the shared folder"),
        ):
            with self._dot as dot, suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(dot), os.stat(DOT_FOLDER, dir_fd=root, follow_symlinks=False)):
                    return self._dot
            new = self._open_dot(root)
            # Threads that use the old descriptor finish with it.
            self._dot.close()
            self._dot = new
            return new

    def free_bytes(self) -> int:
        """Return the free bytes of the shared folder's file system.

        Raises:
            StorageFault: if the disk failed.
        """
        with self._dot as fd, storage_faults("querying free space"):
            return self.disk.free_bytes(fd)

    def delete_unfinished(self, name: str) -> None:
        """Delete a file of the dot-folder. A file that does not exist, or a failing disk, is no error."""
        with suppress(OSError, StorageFault), self.dot_folder as dot:
            self.disk.unlink(name, dir_fd=dot)

    def walk(self) -> Iterator[ShareableFile | UnshareableEntry]:
        """Walk through the folder; see walk.walk. A folder that was moved or removed is one UnshareableEntry.

        Raises:
            StorageFault: if the folder cannot be read.
        """
        with self._root as fd:
            moved = self._was_moved(fd)
            if moved and not self._move_logged:
                log.warning("the shared folder %s %s", self.root, _MOVED)
            self._move_logged = moved
            if moved:
                yield UnshareableEntry(str(self.root), f"the shared folder {_MOVED}")
            else:
                yield from walk(self.disk, fd)

    def is_moved(self) -> bool:
        """Return whether the path of the folder no longer leads to the folder that is open.

        Raises:
            StorageFault: if the disk failed.
        """
        with self._root as fd:
            return self._was_moved(fd)

    def name_of(self, path: Path) -> str | None:
        """Return the name of a file by its path, with links resolved; None if it is outside of the folder.

        Raises:
            BadName: if the file is inside, under a name that cannot be shared.
        """
        try:
            relative = path.resolve().relative_to(self.root.resolve())
        except ValueError:
            return None
        return check_name(relative.as_posix())

    # -------------------------------------------------------------------------------------------------------- reading

    def open(self, name: str) -> OpenFile:
        """Open a shared file for reading.

        Raises:
            NoSuchFile: if no regular file has that name; a link is not followed.
            BadName: if the name breaks a rule.
            StorageFault: if the disk failed, or the shared folder was moved.
        """
        with self._parent(name) as (parent, leaf), storage_faults(f"opening {name}"):
            try:
                # O_NONBLOCK: opening a FIFO would wait for its writer.
                fd = self.disk.open(leaf, os.O_RDONLY | os.O_NONBLOCK, dir_fd=parent)
            except OSError as error:
                if is_not_found(error):
                    raise not_found_error(name) from error
                raise
            handle = SharedFd(fd)
            status = self.disk.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise not_found_error(name)
            return OpenFile(self.disk, handle, name, Fingerprint.from_stat(status))

    def fingerprint(self, name: str) -> Fingerprint | None:
        """Return the fingerprint of a shared file; None if no regular file has that name.

        Raises:
            BadName: if the name breaks a rule.
            BadUsage: if the size or the modification time is out of the range that can be shared.
            NoSuchFile: if the SharedFolder is closed.
            StorageFault: if the disk failed, or the shared folder was moved.
        """
        (outcome,) = self.fingerprints([name])
        if isinstance(outcome, PeerError):
            raise outcome
        return outcome

    def fingerprints(self, names: Iterable[str]) -> list[Fingerprint | PeerError | None]:
        """Return what `fingerprint` returns or raises for each name, in order.

        A folder is opened once for consecutive names in it.

        Raises:
            NoSuchFile: if the SharedFolder is closed.
        """
        outcomes: list[Fingerprint | PeerError | None] = []
        with self._root as root, CachedDirFd(lambda components: open_folder(self.disk, root, components)) as folders:
            if self._was_moved(root):
                return [self._moved_error() for _ in names]
            for name in names:
                try:
                    outcomes.append(self._fingerprint(name, folders))
                except NoSuchFile:
                    outcomes.append(None)
                except PeerError as error:
                    outcomes.append(error)
        return outcomes

    def _fingerprint(self, name: str, folders: CachedDirFd) -> Fingerprint | None:
        *components, leaf = check_name(name).split("/")
        with storage_faults(f"reading the status of {name}"):
            folder = folders.get(tuple(components))
            try:
                status = self.disk.stat(leaf, dir_fd=folder)
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(status.st_mode):
            return None
        fingerprint = Fingerprint.from_stat(status)
        reason = unshareable_reason(fingerprint)
        if reason:
            raise BadUsage(f"{name} cannot be shared: {reason}", name=name)
        return fingerprint

    # ----------------------------------------------------------------------------------------------------- publishing

    def publish(self, temporary: str, name: str) -> Fingerprint:
        """Give a durable file of the dot-folder its name; return its fingerprint when the name is durable too.

        Args:
            temporary: the file's name in the dot-folder.
            name: the name to publish it under.

        Raises:
            TargetExists: if the name, or one that differs only in case or form of accents, is taken.
            BadName: if the name breaks a rule.
            DiskFull, StorageFault: if the disk failed; the file keeps its temporary name.
        """
        (outcome,) = self.publish_many([NewFile(temporary, name)])
        if isinstance(outcome, PeerError):
            raise outcome
        return outcome

    def publish_many(self, files: Sequence[NewFile]) -> list[Fingerprint | PeerError]:
        """Publish many durable files of the dot-folder, and make all their names durable together.

        Returns:
            For each file, in order, its fingerprint, or the error for which it was not published. A file with an error
            keeps its temporary name.

        Raises:
            DiskFull, StorageFault: if the names could not be made durable; none is published then.
        """
        with self._open_root() as root, self.dot_folder as dot, self._publishing:
            publication = Publication(self.disk, root, dot)
            errors = publication.link_all(files)
            fingerprints = iter(publication.commit())
        return [next(fingerprints) if error is None else error for error in errors]

    def remove(self, name: str, expected: Fingerprint) -> None:
        """Delete a shared file, and the folders that become empty.

        Args:
            name: the file's name.
            expected: the fingerprint of the file that the caller means.

        Raises:
            NoSuchFile: if the file does not exist.
            FileChanged: if it has another fingerprint.
            BadName: if the name breaks a rule.
            StorageFault: if the disk failed, or the shared folder was moved.
        """
        with self._publishing, self._parent(name) as (parent, leaf), storage_faults(f"removing {name}"):
            try:
                if Fingerprint.from_stat(self.disk.stat(leaf, dir_fd=parent)) != expected:
                    raise FileChanged("the file changed; check it, then remove it again", name=name)
                self.disk.unlink(leaf, dir_fd=parent)
            except FileNotFoundError as error:
                raise not_found_error(name) from error
            self.disk.fsync(parent)
        components = name.split("/")[:-1]
        with self._publishing, suppress(OSError, NoSuchFile):
            while components:
                with self._parent("/".join(components)) as (parent, leaf):
                    # Raises OSError, which ends the loop, at the first folder that is not empty.
                    self.disk.rmdir(leaf, dir_fd=parent)
                components.pop()

    # -------------------------------------------------------------------------------------------------------- folders

    def _open_dot(self, root: int) -> SharedFd:
        """Open the dot-folder, which is created if it does not exist. Raises OSError, also if it is a link."""
        with suppress(FileExistsError):
            self.disk.mkdir(DOT_FOLDER, mode=0o700, dir_fd=root)
        dot = SharedFd(self.disk.open(DOT_FOLDER, DIRECTORY_FLAGS, dir_fd=root))
        with dot as fd:
            os.fchmod(fd, 0o700)
        return dot

    def _was_moved(self, root: int) -> bool:
        with storage_faults("reading the status of the shared folder"):
            try:
                return not os.path.samestat(os.stat(self.root), os.fstat(root))
            except (FileNotFoundError, NotADirectoryError):
                return True

    def _moved_error(self) -> StorageFault:
        return StorageFault(f"the shared folder {self.root} {_MOVED}")

    @contextmanager
    def _open_root(self) -> Iterator[int]:
        """Yield the root's descriptor. Raises StorageFault if the folder was moved or removed."""
        with self._root as root:
            if self._was_moved(root):
                raise self._moved_error()
            yield root

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the parent folder of a name; yield its descriptor and the name's last component."""
        *folders, leaf = check_name(name).split("/")
        with self._open_root() as root:
            if not folders:
                yield root, leaf
                return
            try:
                with storage_faults(f"opening {name}"):
                    fd = open_folder(self.disk, root, folders)
            except NoSuchFile as error:
                raise not_found_error(name) from error
            with DirFd(fd):
                yield fd, leaf
