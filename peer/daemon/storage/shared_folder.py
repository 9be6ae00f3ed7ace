"""The folder that a peer shares: the only way to its files, with walk.py and publication.py, which are its own.

Every name is judged again here, and walked component by component from the folder's descriptor without following links:
no name, and no link that somebody plants, leads outside. Safe to use from many threads.
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
from daemon.storage.dirfd import DIRECTORY_FLAGS, DOT_FOLDER, CachedDirFd, is_not_found, not_found_error, open_folder
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.handles import DirFd, SharedFd
from daemon.storage.names import check_name
from daemon.storage.publication import Publication
from daemon.storage.walk import Fingerprint, ShareableFile, UnshareableEntry, walk

log = logging.getLogger(__name__)

_MOVED = "was moved or removed: put it back, or restart the pserver"


class OpenFile:
    """A shared file that is open for reading. `stamp` is what it was when it was opened."""

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
        """Close it; reads under way in other threads end first."""
        self.handle.close()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes.

        Raises:
            FileChanged: if the file has not that many any more.
        """
        with self.handle as fd, storage_faults(f"reading {self.name}"):
            data = self._disk.pread(fd, length, offset)
        if len(data) != length:
            raise FileChanged("the file was cut short while it was read", name=self.name)
        return data

    def ensure_unchanged(self) -> None:
        """Tell whether what was read until now is what the stamp stands for.

        Raises:
            FileChanged: if the file was changed since it was opened.
        """
        with self.handle as fd, storage_faults(f"reading {self.name}"):
            stamp = Fingerprint.from_stat(self._disk.fstat(fd))
        if stamp != self.fingerprint:
            raise FileChanged("the file was changed while it was read", name=self.name)


class SharedFolder:
    """The folder at `root`, which is made if it is not there."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()
        # One at a time looks for twins and links, so that no two names that are one appear at once.
        self._publishing = threading.Lock()
        with storage_faults(f"opening the shared folder {root}"):
            root.mkdir(parents=True, exist_ok=True)
            # The user may have put a link in the root's place: that is the user's own choice.
            self._root = SharedFd(os.open(root, DIRECTORY_FLAGS | os.O_CLOEXEC))
            with self._root as fd:
                self._dot = self._open_dot(fd)
        self._renewing = threading.Lock()
        self._told = False

    def close(self) -> None:
        """Let go of the folder."""
        self._dot.close()
        self._root.close()

    @property
    def dot_folder(self) -> SharedFd:
        """The dot-folder, made anew if somebody took it away: what lay in it is lost, what comes next is not.

        Raises:
            StorageFault: if the shared folder was moved or removed, or something else lies in the dot-folder's place.
        """
        with self._here() as root, self._renewing, storage_faults(f"opening {DOT_FOLDER} in the shared folder"):
            with self._dot as dot, suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(dot), os.stat(DOT_FOLDER, dir_fd=root, follow_symlinks=False)):
                    return self._dot
            renewed = self._open_dot(root)
            # Whoever uses the old one goes on with it until done.
            self._dot.close()
            self._dot = renewed
            return renewed

    def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        with self._dot as fd, storage_faults("asking for free space"):
            return self.disk.free_bytes(fd)

    def delete_unfinished(self, name: str) -> None:
        """Take a file of the dot-folder away, if it is there."""
        with suppress(OSError, StorageFault), self.dot_folder as dot:
            self.disk.unlink(name, dir_fd=dot)

    def walk(self) -> Iterator[ShareableFile | UnshareableEntry]:
        """Yield what lies in the folder; see walk.walk. One that was moved or removed holds nothing, and says so."""
        with self._root as fd:
            moved = self._moved(fd)
            if moved and not self._told:
                log.warning("the shared folder %s %s", self.root, _MOVED)
            self._told = moved
            if moved:
                yield UnshareableEntry(str(self.root), f"it {_MOVED}")
            else:
                yield from walk(self.disk, fd)

    def is_moved(self) -> bool:
        """Tell whether the folder lies no longer where it lay."""
        with self._root as fd:
            return self._moved(fd)

    def name_of(self, path: Path) -> str | None:
        """Return the name of an absolute path that lies in the folder, links resolved; None if it lies elsewhere.

        Raises:
            BadName: if it lies in the folder under a name that cannot be shared.
        """
        try:
            inside = path.resolve().relative_to(self.root.resolve())
        except ValueError:
            return None
        return check_name(inside.as_posix())

    # -------------------------------------------------------------------------------------------------------- reading

    def open(self, name: str) -> OpenFile:
        """Open a shared file.

        Raises:
            NoSuchFile: if there is no regular file of that name; a link is none.
        """
        with self._parent(name) as (parent, leaf), storage_faults(f"opening {name}"):
            try:
                # O_NONBLOCK: a fifo must not hold us.
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
        """Return a shared file's stamp; None if there is no regular file of that name.

        Raises:
            NoSuchFile: if the shared folder was closed: then nobody knows what lies in it.
            BadUsage: if its size or its time is beyond what can be shared.
            StorageFault: if the disk failed.
        """
        (outcome,) = self.fingerprints([name])
        if isinstance(outcome, PeerError):
            raise outcome
        return outcome

    def fingerprints(self, names: Iterable[str]) -> list[Fingerprint | PeerError | None]:
        """As `stamp`, for many; a folder is opened once for names in it that follow each other."""
        outcomes: list[Fingerprint | PeerError | None] = []
        with self._root as root, CachedDirFd(lambda components: open_folder(self.disk, root, components)) as folders:
            if self._moved(root):
                return [self._moved_fault() for _ in names]
            for name in names:
                try:
                    outcomes.append(self._look(name, folders))
                except NoSuchFile:
                    outcomes.append(None)
                except PeerError as error:
                    outcomes.append(error)
        return outcomes

    def _look(self, name: str, folders: CachedDirFd) -> Fingerprint | None:
        *components, leaf = check_name(name).split("/")
        with storage_faults(f"looking at {name}"):
            folder = folders.get(tuple(components))
            try:
                status = self.disk.stat(leaf, dir_fd=folder)
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(status.st_mode):
            return None
        stamp = Fingerprint.from_stat(status)
        fault = stamp.unshareable_reason()
        if fault:
            raise BadUsage(f"{name} cannot be shared: {fault}", name=name)
        return stamp

    # ----------------------------------------------------------------------------------------------------- publishing

    def publish(self, temporary: str, name: str) -> Fingerprint:
        """Give a durable file of the dot-folder its name, and return its stamp when the name is durable too.

        Raises:
            TargetExists: if something has that name, or one that differs in case or form of accents only.
        """
        (stamp,) = self.publish_many([(temporary, name)])
        if isinstance(stamp, PeerError):
            raise stamp
        return stamp

    def publish_many(self, files: Sequence[tuple[str, str]]) -> list[Fingerprint | PeerError]:
        """Publish many durable (temporary, name), all their names made durable together; one outcome each, in order.

        A refused one keeps its place in the dot-folder.

        Raises:
            DiskFull, StorageFault: if the names could not be made durable; then none of them was published.
        """
        with self._here() as root, self.dot_folder as dot, self._publishing:
            publication = Publication(self.disk, root, dot)
            outcomes = publication.link_all(files)
            publication.commit()
        return outcomes

    def remove(self, name: str, expected: Fingerprint) -> None:
        """Delete a file, and the folders that this leaves empty.

        Raises:
            NoSuchFile: if it is not there.
            FileChanged: if it is not what the caller means.
        """
        with self._publishing, self._parent(name) as (parent, leaf), storage_faults(f"removing {name}"):
            try:
                if Fingerprint.from_stat(self.disk.stat(leaf, dir_fd=parent)) != expected:
                    raise FileChanged("the file was changed: look at it, then remove it again", name=name)
                self.disk.unlink(leaf, dir_fd=parent)
            except FileNotFoundError as error:
                raise not_found_error(name) from error
            self.disk.fsync(parent)
        components = name.split("/")[:-1]
        with self._publishing, suppress(OSError, NoSuchFile):
            while components:
                with self._parent("/".join(components)) as (parent, leaf):
                    # Fails, and ends this, at the first that is not empty.
                    self.disk.rmdir(leaf, dir_fd=parent)
                components.pop()

    # -------------------------------------------------------------------------------------------------------- folders

    def _open_dot(self, root: int) -> SharedFd:
        """Open the dot-folder, made if it is not there. Raises OSError, also if a link lies in its place."""
        with suppress(FileExistsError):
            self.disk.mkdir(DOT_FOLDER, mode=0o700, dir_fd=root)
        dot = SharedFd(self.disk.open(DOT_FOLDER, DIRECTORY_FLAGS, dir_fd=root))
        with dot as fd:
            os.fchmod(fd, 0o700)
        return dot

    def _moved(self, root: int) -> bool:
        """Tell whether the folder that is open lies no longer where it lay."""
        with storage_faults("looking at the shared folder"):
            try:
                return not os.path.samestat(os.stat(self.root), os.fstat(root))
            except (FileNotFoundError, NotADirectoryError):
                return True

    def _moved_fault(self) -> StorageFault:
        return StorageFault(f"the shared folder {self.root} {_MOVED}")

    @contextmanager
    def _here(self) -> Iterator[int]:
        """Give the root's descriptor. Raises StorageFault if the folder was moved or removed."""
        with self._root as root:
            if self._moved(root):
                raise self._moved_fault()
            yield root

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the folder that a name lies in; give its descriptor and the last component."""
        *folders, leaf = check_name(name).split("/")
        with self._here() as root:
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
