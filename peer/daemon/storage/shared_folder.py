"""The shared folder: the only way to a peer's shared files. walk.py, publication.py and removal.py are used only here.

Every name is checked, and opened component by component from the folder's descriptor without following links. So no
name, and no link that another program creates, leads outside. Safe to use from many threads.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from daemon.errors import BadUsage, NoSuchFile, NotWritable, PeerError
from daemon.storage.dirfd import (
    CachedDirFd,
    DirFd,
    SharedFd,
    is_not_found,
    not_found_error,
    open_folder,
)
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.fingerprints import Fingerprint, Fingerprints
from daemon.storage.ignore_rules import IgnoreRules
from daemon.storage.names import check_name
from daemon.storage.open_file import OpenFile
from daemon.storage.publication import NewFile, Publication
from daemon.storage.removal import Removal, UnwantedFile
from daemon.storage.root_folder import MOVED, RootFolder
from daemon.storage.volume import Volume, not_writable_line
from daemon.storage.volumes import Volumes
from daemon.storage.walk import ShareableFile, UnshareableEntry, Walk, unshareable_reason

log = logging.getLogger(__name__)


class SharedFolder:
    """The shared folder at `root`, which is created if it does not exist.

    It may be read-only; then its files are shared, and nothing can be stored or removed.

    Args:
        root: the path of the folder; it may be a link to one.
        disk: the file operations to use.

    Attributes:
        volumes: the file systems in it, and their dot-folders.

    Raises:
        StorageFault: if the folder cannot be created or opened.
    """

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()
        # One thread at a time checks a name and gives it to a file; otherwise two equal names could appear at once.
        self._publishing = threading.Lock()
        self._root = RootFolder(root, self.disk)
        self.volumes = Volumes(self._root)
        self._logged_faults: list[str] = []
        try:
            with self.volumes.main.dot:
                pass
        except NotWritable:
            # Logged by `faults`.
            pass
        self._move_logged = False
        # Which names the last walk has left out.
        self.ignore_rules = IgnoreRules()

    def close(self) -> None:
        """Close the folder's descriptors."""
        self.volumes.main.close()
        self._root.close()

    def opened(self) -> AbstractContextManager[int]:
        """Return a context with the descriptor of the folder.

        Entering it raises StorageFault if the folder was moved or removed.
        """
        return self._root.opened()

    def volume_for(self, name: str) -> Volume:
        """Return the volume in which a file must be prepared that will be published under a name.

        Raises:
            NotWritable: if the folder, or the part of it that the name is in, is read-only.
            TargetExists: if a link or a file has the name of a folder.
            BadName: if the name breaks a rule.
            DiskFull, StorageFault: if the file cannot be stored for another reason.
        """
        (outcome,) = self.volumes.locate([name])
        if isinstance(outcome, PeerError):
            raise outcome
        return outcome

    def target_faults(self, names: Iterable[str]) -> list[PeerError | None]:
        """Return, for each name, why no file of that name can be stored; None if one can.

        The names that exist are not read: whether a name is taken is for the library.

        Raises:
            NoSuchFile: if the SharedFolder is closed.
        """
        return [outcome if isinstance(outcome, PeerError) else None for outcome in self.volumes.locate(names)]

    def faults(self) -> list[str]:
        """Return what is wrong with the folder now, as lines for the user; each change is logged.

        Raises:
            StorageFault: if the disk failed.
        """
        lines: list[str] = []
        with self._root.handle as root, storage_faults("reading the status of the shared folder"):
            if not self.disk.is_writable(root):
                lines.append(not_writable_line(self.disk, root, self.volumes.main.label))
        if lines != self._logged_faults:
            for line in lines:
                log.warning("%s", line)
            if not lines:
                log.info("the shared folder %s is writable again", self.root)
            self._logged_faults = lines
        return lines

    def free_bytes(self) -> int:
        """Return the free bytes of the shared folder's file system.

        Raises:
            StorageFault: if the disk failed.
        """
        return self.volumes.main.free_bytes()

    def walk(self) -> Iterator[ShareableFile | UnshareableEntry]:
        """Walk through the folder; see walk.Walk. A folder that was moved or removed is one UnshareableEntry.

        Raises:
            StorageFault: if the folder cannot be read.
        """
        with self._root.handle as fd:
            moved = self._root.is_moved()
            if moved and not self._move_logged:
                log.warning("the shared folder %s %s", self.root, MOVED)
            self._move_logged = moved
            if moved:
                yield UnshareableEntry(str(self.root), f"the shared folder {MOVED}")
            else:
                self.faults()
                walk = Walk(self.disk, self.volumes.on_dot_folder, self.ignore_rules)
                yield from walk.run(fd)
                self.ignore_rules = walk.rules

    def is_moved(self) -> bool:
        """Return whether the path of the folder no longer leads to the folder that is open.

        Raises:
            StorageFault: if the disk failed.
        """
        return self._root.is_moved()

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
            return OpenFile(self.disk, handle, name, status)

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
        with (
            self._root.handle as root,
            CachedDirFd(lambda components: open_folder(self.disk, root, components)) as folders,
        ):
            if self._root.is_moved():
                return [self._root.moved_error() for _ in names]
            fingerprints = Fingerprints(self.disk)
            for name in names:
                try:
                    outcomes.append(self._fingerprint(name, folders, fingerprints))
                except NoSuchFile:
                    outcomes.append(None)
                except PeerError as error:
                    outcomes.append(error)
        return outcomes

    def _fingerprint(self, name: str, folders: CachedDirFd, fingerprints: Fingerprints) -> Fingerprint | None:
        *components, leaf = check_name(name).split("/")
        with storage_faults(f"reading the status of {name}"):
            folder = folders.get(tuple(components))
            try:
                status = self.disk.stat(leaf, dir_fd=folder)
            except FileNotFoundError:
                return None
            if not stat.S_ISREG(status.st_mode):
                return None
            fingerprint = fingerprints.make(name, status, folder)
        reason = unshareable_reason(fingerprint)
        if reason:
            raise BadUsage(f"{name} cannot be shared: {reason}", name=name)
        return fingerprint

    # ----------------------------------------------------------------------------------------------------- publishing

    def publish(self, file: NewFile) -> Fingerprint:
        """Give a durable file of a dot-folder its name; return its fingerprint when the name is durable too.

        Raises:
            TargetExists: if the name, or one that differs only in case or form of accents, is taken.
            BadName: if the name breaks a rule.
            DiskFull, StorageFault: if the disk failed; the file keeps its temporary name.
        """
        (outcome,) = self.publish_many([file])
        if isinstance(outcome, PeerError):
            raise outcome
        return outcome

    def publish_many(self, files: Sequence[NewFile]) -> list[Fingerprint | PeerError]:
        """Publish many durable files of dot-folders, and make all the names in one volume durable together.

        Returns:
            For each file, in order, its fingerprint, or the error for which it was not published. A file with an error
            keeps its temporary name.
        """
        by_volume: dict[Volume, list[int]] = {}
        for position, file in enumerate(files):
            by_volume.setdefault(file.volume, []).append(position)
        outcomes: dict[int, Fingerprint | PeerError] = {}
        for volume, positions in by_volume.items():
            try:
                published = self._publish_in(volume, [files[position] for position in positions])
            except PeerError as error:
                published = [error] * len(positions)
            outcomes.update(zip(positions, published, strict=True))
        return [outcomes[position] for position in range(len(files))]

    def _publish_in(self, volume: Volume, files: Sequence[NewFile]) -> list[Fingerprint | PeerError]:
        traits = self.volumes.traits(volume)
        with (
            self._root.opened() as root,
            volume.dot as dot,
            self._publishing,
            Publication(self.disk, root, dot, volume.id, traits) as publication,
        ):
            outcomes = publication.move_all(files)
            publication.commit()
            for parent in publication.refused:
                self.volumes.on_refused(volume, parent)
        return outcomes

    def remove(
        self, files: Sequence[UnwantedFile], *, stop: Callable[[], bool] = lambda: False
    ) -> list[PeerError | None]:
        """Delete shared files, and the folders that become empty.

        Args:
            files: the files, each with the fingerprint of the file that the caller means.
            stop: asked before each file; the removal ends when it returns True.

        Returns:
            For each file, in order, None, or why it is not deleted: NoSuchFile, FileChanged, BadName, NotWritable, or
            StorageFault. The list is shorter if `stop` returned True.

        Raises:
            StorageFault: if the shared folder was moved.
        """
        with self._root.opened() as root, self._publishing:
            return Removal(self.disk, root, self.volumes.main.label).run(files, stop)

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the parent folder of a name; yield its descriptor and the name's last component."""
        *folders, leaf = check_name(name).split("/")
        with self._root.opened() as root:
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
