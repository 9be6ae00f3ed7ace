"""Unfinished files, in the shared folder's dot-folder: opened, filled, resumed, published or thrown away.

A part is <id>.part, its bytes at their places, beside the notes of which pieces it has. Whoever opens a part hashes
every piece that they claim.

One at a time opens, fills, publishes or discards the part of an id: the caller sees to that. Those who read what is
verified may go on with theirs meanwhile: it does not change.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from daemon.errors import DiskFull, FileChanged, NoSuchFile, NotVerified
from daemon.storage import resume_data
from daemon.storage.bitmap import Bitmap
from daemon.storage.dirfd import is_not_found, remove_entry
from daemon.storage.disk import storage_faults
from daemon.storage.handles import SharedFd
from daemon.storage.hashing import ByteProgress, CancelCheck, hash_pieces, not_cancelled
from daemon.storage.manifest import Manifest
from daemon.storage.resume_data import Notes
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TEMP_SUFFIX
from daemon.storage.walk import Fingerprint

# A part that nothing was written to for so long is thrown away; seconds.
UNUSED_PART_SECONDS = 7 * 24 * 3600.0

_PART = ".part"


class Part:
    """An unfinished file. Made by PartStore.open. `store` and `read` may be called from many threads.

    `have` is what is verified, `resumed_bytes` what was so when it was opened.
    """

    def __init__(self, store: PartStore, manifest: Manifest, handle: SharedFd, beside: Notes, have: Bitmap) -> None:
        self._store = store
        self._disk = store.disk
        self._handle = handle
        self._notes = beside
        self._lock = threading.Lock()
        self.manifest = manifest
        self.verified = have
        self.resumed_bytes = sum(manifest.length(piece) for piece in have.present())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store(self, piece: int, data: Sequence[bytes | memoryview]) -> None:
        """Write a whole piece, verified by the caller, at its place, then note that it is there.

        Raises:
            DiskFull, StorageFault: and the piece is not there.
        """
        # One at a time: writers of one file wait for each other in the kernel, and there they burn a processor
        # meanwhile.
        with self._handle as fd, self._notes.handle as noting, self._lock, storage_faults("writing what arrived"):
            self._disk.pwrite(fd, data, self.manifest.offset(piece))
            noted = self.verified.copy()
            noted.add(piece)
            # After the bytes: a process that is killed in between fetches this piece again, no more.
            self._notes.write(noting, noted, piece)
            self.verified = noted

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """Return bytes of a verified piece.

        Raises:
            NoSuchFile: if it is not here, or the part is closed; after a publication the library has the file.
        """
        if piece not in self.verified:
            raise NoSuchFile(f"piece {piece} is not here yet")
        if not 0 <= offset <= offset + length <= self.manifest.length(piece):
            raise NoSuchFile(f"piece {piece} has no such bytes")
        with self._handle as fd, storage_faults("reading an unfinished file"):
            data = self._disk.pread(fd, length, self.manifest.offset(piece) + offset)
        if len(data) != length:
            raise FileChanged("the unfinished file was cut short")
        return data

    def start_writeback(self) -> None:
        """Have the system begin to write, so that publishing has less to wait for."""
        with self._handle as fd, storage_faults("writing what arrived"):
            self._disk.start_writeback(fd)

    def publish(self, name: str) -> Fingerprint:
        """Make the file durable and give it its name. `read` goes on until `close`.

        Raises:
            NotVerified: if a piece is missing.
            TargetExists, DiskFull, StorageFault: and the part is kept.
        """
        if not self.verified.complete:
            raise NotVerified(f"{self.verified.piece_count - self.verified.count} pieces are missing")
        with self._handle as fd, storage_faults(f"making {name} durable"):
            self._disk.fsync(fd)
        stamp = self._store.folder.publish(self.manifest.id + _PART, name)
        self._store.folder.delete_unfinished(self.manifest.id + resume_data.SUFFIX)
        return stamp

    def close(self) -> None:
        """Let go of it; what is verified stays for the next time."""
        self._handle.close()
        self._notes.handle.close()


class PartStore:
    """The unfinished files of one shared folder."""

    def __init__(self, folder: SharedFolder) -> None:
        self.folder = folder
        self.disk = folder.disk

    def open(
        self,
        manifest: Manifest,
        *,
        progress: ByteProgress | None = None,
        stop: CancelCheck = not_cancelled,
        threads: int = 1,
    ) -> Part:
        """Open the part of these contents, or begin one. `progress` is told of the bytes that are hashed again.

        Raises:
            DiskFull: if the rest of it has no room.
            Interrupted: if `stop` answered true.
        """
        with storage_faults("opening an unfinished file"):
            handle, claimed = self._open_part(manifest)
        have = self._verify(manifest, handle, claimed, progress, stop, threads)
        with storage_faults("opening an unfinished file"):
            beside = resume_data.begin(self.folder, manifest, claimed, have)
        return Part(self, manifest, handle, beside, have)

    def saved_manifest(self, id_: str) -> Manifest | None:
        """Return the manifest that an unfinished file has beside it, so that nobody need be asked for it."""
        with storage_faults("reading an unfinished file"):
            noted = resume_data.read(self.folder, id_)
        return None if noted is None else noted[0]

    def part_ids(self) -> list[str]:
        """Return the ids of the parts that lie here."""
        with self.folder.dot_folder as dot, storage_faults("reading unfinished files"):
            return [
                entry.name.removesuffix(_PART) for entry in self.disk.list_entries(dot) if entry.name.endswith(_PART)
            ]

    def clean_up(self, now: float) -> list[str]:
        """Throw away what earlier processes left: temporary files, parts published or unused for long.

        Returns the ids of the parts that stay.
        """
        with self.folder.dot_folder as dot, storage_faults("cleaning up unfinished files"):
            kept: set[str] = set()
            # Backwards: a part before what lies beside it, which is of no use without it.
            for entry in reversed(self.disk.list_entries(dot)):
                with suppress(FileNotFoundError):
                    status = self.disk.stat(entry.name, dir_fd=dot)
                    # A second link is the name that it was published under, just before its process was killed.
                    published = entry.name.endswith(_PART) and status.st_nlink > 1
                    unused = (
                        entry.name.endswith((_PART, resume_data.SUFFIX)) and now - status.st_mtime > UNUSED_PART_SECONDS
                    )
                    alone = (
                        entry.name.endswith(resume_data.SUFFIX)
                        and entry.name.removesuffix(resume_data.SUFFIX) + _PART not in kept
                    )
                    if published or unused or alone or entry.name.endswith(TEMP_SUFFIX):
                        self.disk.unlink(entry.name, dir_fd=dot)
                    else:
                        kept.add(entry.name)
        return [name.removesuffix(_PART) for name in kept if name.endswith(_PART)]

    def discard(self, id_: str) -> None:
        """Throw a part away; harmless if there is none."""
        self.folder.delete_unfinished(id_ + resume_data.SUFFIX)
        self.folder.delete_unfinished(id_ + _PART)

    # ---------------------------------------------------------------------------------------------------------- parts

    def _open_part(self, manifest: Manifest) -> tuple[SharedFd, Bitmap]:
        """Open the part's file at its full size; return which pieces it claims to have."""
        name = manifest.id + _PART
        with self.folder.dot_folder as dot:
            handle = self._open_existing(dot, name)
            if handle is not None:
                with handle as fd:
                    status = self.disk.fstat(fd)
                    noted = resume_data.read(self.folder, manifest.id)
                    # With a second link it is a published file's: written into, that would change under its readers.
                    if status.st_size == manifest.size and status.st_nlink == 1 and noted is not None:
                        self._make_room(dot, fd, manifest.size - 512 * status.st_blocks, manifest.size)
                        return handle, noted[1]
                handle.close()
                self.disk.unlink(name, dir_fd=dot)
            handle = SharedFd(self.disk.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=dot))
            with handle as fd:
                try:
                    self._make_room(dot, fd, manifest.size, manifest.size)
                except BaseException:
                    self.folder.delete_unfinished(name)
                    raise
            return handle, Bitmap(manifest.piece_count)

    def _open_existing(self, dot: int, name: str) -> SharedFd | None:
        try:
            return SharedFd(self.disk.open(name, os.O_RDWR, dir_fd=dot))
        except OSError as error:
            if not (is_not_found(error) or isinstance(error, IsADirectoryError)):
                raise
            if not isinstance(error, FileNotFoundError):
                # A link, or whatever else was put there: not ours.
                remove_entry(self.disk, dot, name)
            return None

    def _make_room(self, dot: int, fd: int, lacking: int, size: int) -> None:
        free = self.disk.free_bytes(dot)
        if lacking > free:
            raise DiskFull(f"the disk lacks {lacking - free} bytes for it: make room and run it again to resume")
        self.disk.allocate(fd, size)

    def _verify(
        self,
        manifest: Manifest,
        handle: SharedFd,
        claimed: Bitmap,
        progress: ByteProgress | None,
        stop: CancelCheck,
        threads: int,
    ) -> Bitmap:
        """Return which of the claimed pieces are what they should be."""
        pieces = list(claimed.present())
        have = Bitmap(manifest.piece_count)
        with handle as fd:
            digests = hash_pieces(self.disk, fd, manifest.size, pieces, progress=progress, stop=stop, threads=threads)
        for piece, digest in zip(pieces, digests, strict=True):
            if digest == manifest.digest(piece):
                have.add(piece)
        return have
